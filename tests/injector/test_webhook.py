"""Admissions over real TLS: answers, metrics, Events; what is no admission request; who is slow or sends too much."""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonpatch
import pytest

from fairqueue_operator import injector as injector_module
from fairqueue_operator import listener as listener_module
from fairqueue_operator.review_body import MAX_BODY_BYTES, BodyRoom
from fairqueue_operator.verdict import DECISIONS
from injector.conftest import pod, policy, review, until
from injector.running import NAME, Running


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = await Running(tmp_path).ready()
    yield running
    await running.stop()


async def test_a_pod_gets_the_proxy(running: Running) -> None:
    running.cluster.policies = [policy()]
    status, answer = await running.post(review())
    assert status == 200
    response = answer["response"]
    assert (response["uid"], response["allowed"]) == (review()["request"]["uid"], True)
    patched = jsonpatch.apply_patch(pod(), json.loads(base64.b64decode(response["patch"])))
    assert patched["spec"]["initContainers"][0]["image"] == "example.org/proxy:1"
    assert await running.decisions() == {"injected": 1}


async def test_a_denial_is_told_to_the_api_server_and_to_the_owner(running: Running) -> None:
    status, answer = await running.post(review())
    assert (status, answer["response"]["allowed"]) == (200, False)
    assert answer["response"]["status"]["message"].startswith("missing_policy: No FairnessPolicy")
    await until(lambda: len(running.cluster.events) == 1)
    namespace, event = running.cluster.events[0]
    assert (namespace, event["reason"], event["regarding"]["name"]) == ("team", "MissingPolicy", "llm-7f")
    assert event["note"] == answer["response"]["status"]["message"]


async def test_a_dry_run_is_answered_and_counted_and_leaves_nothing_else(running: Running) -> None:
    status, answer = await running.post(review(dryRun=True))
    assert (status, answer["response"]["allowed"]) == (200, False)
    # What a real run after it leaves is all that there is.
    await running.post(review(pod(ownerReferences=[{**pod()["metadata"]["ownerReferences"][0], "name": "real"}])))
    await until(lambda: bool(running.cluster.events))
    assert [event["regarding"]["name"] for _, event in running.cluster.events] == ["real"]
    assert await running.decisions() == {"missing_policy": 2}


async def test_a_controller_that_tries_again_and_again_makes_one_event(running: Running) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(50):
            await running.post_in(session, review())
    await until(lambda: bool(running.cluster.events))
    assert len(running.cluster.events) == 1


async def test_every_decision_is_in_the_metrics_from_the_start(running: Running) -> None:
    _, text = await running.get("/metrics")
    for decision in DECISIONS:
        assert f'fairqueue_injector_decisions_total{{decision="{decision}"}} 0.0' in text
    assert text.count("fairqueue_injector_admission_seconds_bucket") <= 8
    assert "_created" not in text
    (not_after,) = [line for line in text.splitlines() if line.startswith("fairqueue_certificate_not_after_seconds ")]
    assert float(not_after.split()[1]) > 1.7e9
    assert (await running.get("/livez"))[0] == (await running.get("/readyz"))[0] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 400, id="empty"),
        pytest.param(b"\x00" * 1000, 400, id="zeros"),
        pytest.param(b"[" * 1_000_000, 400, id="deep"),
        pytest.param(b'"' + b"a" * 900_000 + b'"', 400, id="a-long-text"),
        pytest.param(b" " * (MAX_BODY_BYTES + 1), 413, id="too-large"),
        pytest.param({"kind": "AdmissionReview"}, 400, id="no-version"),
        pytest.param(review("no pod"), 400, id="no-pod"),
    ],
)
async def test_garbage_is_refused_with_a_line_and_counts_for_no_decision(
    running: Running, body: Any, status: int
) -> None:
    found, text = await running.post(body)
    assert found == status
    assert text.count("\n") == 1
    assert await running.decisions() == {}


async def test_a_pod_of_three_mebibytes_is_decided_on(running: Running) -> None:
    running.cluster.policies = [policy()]
    status, answer = await running.post(review(pod(annotations={"large": "x" * 900_000})))
    assert (status, answer["response"]["allowed"]) == (200, True)


async def test_bodies_without_a_length_have_the_same_limit(running: Running) -> None:
    async def parts(count: int) -> AsyncIterator[bytes]:
        content = json.dumps(review(operation="UPDATE")).encode()
        yield content
        for _ in range(count):
            yield b" " * 65536

    async with aiohttp.ClientSession() as session:
        for count, status in ((1, 200), (80, 413)):
            # Who is refused may see the connection end before the whole body was sent.
            with contextlib.suppress(aiohttp.ClientConnectionError):
                tls: dict[str, Any] = {"ssl": running.trusting(), "server_hostname": NAME}
                async with session.post(running.url, data=parts(count), **tls) as response:
                    assert response.status == status


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/inject", 405), ("POST", "/", 404)])
async def test_nothing_else_is_served(running: Running, method: str, path: str, status: int) -> None:
    url = running.url.replace("/inject?timeout=5s", path)
    tls: dict[str, Any] = {"ssl": running.trusting(), "server_hostname": NAME}
    async with aiohttp.ClientSession() as session, session.request(method, url, **tls) as response:
        assert response.status == status


async def test_compressed_bodies_are_not_unfolded(running: Running) -> None:
    import gzip

    body = gzip.compress(json.dumps(review()).encode())
    assert (await running.post(body, headers={"Content-Encoding": "gzip"}))[0] == 400


async def _connected(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = running.injector.admissions.port
    return await asyncio.open_connection("127.0.0.1", port, ssl=running.trusting(), server_hostname=NAME)


HEAD = b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture
async def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Waits a tenth of a second where others wait seconds."""
    monkeypatch.setattr(listener_module, "HANDSHAKE_SECONDS", 0.1)
    monkeypatch.setattr(injector_module, "BodyRoom", lambda: BodyRoom(body_seconds=0.1))
    running = Running(tmp_path)
    running.injector.admissions._first_request_seconds = 0.1
    yield await running.ready()
    await running.stop()


async def test_a_body_that_does_not_come_is_given_up(impatient: Running) -> None:
    reader, writer = await _connected(impatient)
    writer.write(HEAD + b"{")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


@pytest.mark.parametrize("begun", [b"", b"POST /inject HTTP/1.1\r\nHost"], ids=["silent", "half-a-head"])
async def test_a_connection_without_a_request_is_closed(impatient: Running, begun: bytes) -> None:
    reader, writer = await _connected(impatient)
    writer.write(begun)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_without_a_handshake_is_closed(impatient: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient.injector.admissions.port)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_that_was_used_is_kept(running: Running) -> None:
    # Long enough for the first request on a machine that does other things, too.
    running.injector.admissions._first_request_seconds = 1.0
    reader, writer = await _connected(running)
    body = json.dumps(review(operation="UPDATE")).encode()
    for pause_seconds in (1.1, 0.0):
        writer.write(HEAD.replace(b"1000", str(len(body)).encode()) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        await asyncio.sleep(pause_seconds)
    writer.close()


async def test_all_bodies_together_have_a_limit_and_give_their_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = BodyRoom(max_bytes=1_000_000)
    monkeypatch.setattr(injector_module, "BodyRoom", lambda: room)
    running = await Running(tmp_path).ready()
    held = []
    for _ in range(3):
        reader, writer = await _connected(running)
        writer.write(HEAD.replace(b"1000", b"400000") + b" " * 300_000)
        held.append((reader, writer))
    await until(lambda: room.held_bytes == 900_000)
    status, text = await running.post(b" " * 200_000)
    assert (status, text) == (503, "too many admission requests at once\n")
    # Who sends little is served meanwhile.
    assert (await running.post(review()))[0] == 200
    for _, writer in held:
        writer.close()
    await until(lambda: room.held_bytes == 0)
    await running.stop()


async def test_a_crowd_is_answered(running: Running) -> None:
    running.cluster.policies = [policy()]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:
        answers = await asyncio.gather(*(running.post_in(session, review()) for _ in range(150)))
    assert all(status == 200 and answer["response"]["allowed"] for status, answer in answers)
    assert await running.decisions() == {"injected": 150}


CHUNKED = HEAD.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        pytest.param(HEAD + b"{", "an admission request was not understood", id="cut"),
        pytest.param(CHUNKED + b"zz\r\n", "what came is not HTTP", id="badly-framed"),
    ],
)
async def test_what_breaks_off_or_is_no_http_is_one_line_of_the_log_without_a_traceback(
    running: Running, sent: bytes, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await _connected(running)
    writer.write(sent)
    await writer.drain()
    if message == "what came is not HTTP":
        assert b" 400 " in await reader.readline()
    writer.close()
    await until(lambda: bool(caplog.records))
    assert [(record.getMessage(), record.exc_info, record.levelname) for record in caplog.records] == [
        (message, None, "WARNING")
    ]
    # Others are served, and nothing more is said.
    assert (await running.post(review()))[0] == 200
    assert len([record for record in caplog.records if record.levelname != "INFO"]) == 1


async def test_a_defect_of_the_server_itself_keeps_its_traceback(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairqueue_operator.webhook.answer", lambda *_: 1 // 0)
    assert (await running.post(review()))[0] == 500
    assert "ZeroDivisionError" in caplog.text
