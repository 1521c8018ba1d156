"""Streams that wait: nothing for a while, so that a refusal has its status; then `200` and comments, and then the rest.

Times are scaled down: a client that gives up after ten seconds without a byte gives up after half a second here.
"""

import asyncio
import time
from collections.abc import Callable

import aiohttp
import pytest

from fairqueue_proxy import engine_watch, waiting
from fairqueue_proxy.outflow import Outflow
from fairqueue_proxy.waiting import Waiting
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.early import COMMENT, ROUTES, SHORT, Early, routes
from proxy.raw_client import RawClient, request
from proxy.samples import sample
from proxy.scripted_engine import STREAM_HEAD, Play, ScriptedEngine, json_reply
from proxy.test_hangups import WAYS, soon
from proxy_stack import Stack, bearer

# Held for 0.02 s, and two comments 0.01 s apart; each of uvloop's timers is a millisecond early at the most.
WAITED_SECONDS = 0.02 + 2 * 0.01 - 3 * 0.001


@pytest.fixture(autouse=True)
def _comments_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "COMMENT_SECONDS", 0.01)


def test_who_gives_up_after_ten_seconds_without_a_byte_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert waiting.COMMENT_SECONDS == 5.0


@routes
async def test_a_stream_that_waits_gets_200_and_comments_and_later_the_engines_bytes(
    start_proxy: StartProxy, scripted: ScriptedEngine, route: str
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=SHORT)
    _, _, engines = ROUTES[route]
    async with Crowd(stack) as crowd, RawClient(stack.data) as client:
        play = await occupy(crowd, scripted)
        early = Early(client)
        started_at = time.monotonic()
        await early.send(route)
        assert time.monotonic() - started_at >= WAITED_SECONDS
        assert early.headers["content-type"] == "text/event-stream"
        assert early.headers["cache-control"] == "no-cache"
        assert (early.headers["x-request-id"], early.headers["x-fairqueue-tenant"]) == ("early", "bob")
        assert "x-fairqueue-queue-seconds" not in early.headers
        play.answer(json_reply({"generated_text": "x"}))
        (await scripted.play()).answer(STREAM_HEAD + engines)
        told, _, rest = (await early.rest()).partition(b"\n\n")
        lines = dict(line.removeprefix(": ").split(": ") for line in told.decode().split("\n"))
        assert lines.keys() == {"x-request-id", "x-fairqueue-tenant", "x-fairqueue-queue-seconds"}
        assert WAITED_SECONDS <= float(lines["x-fairqueue-queue-seconds"]) < 10
        whole = await _unframed(scripted, stack, route)
        assert rest == whole
        assert await crowd.status("occupant") == 200
    text = await stack.metrics()
    assert sample(text, "requests_total", tenant="bob", outcome="completed") == 2


async def _unframed(scripted: ScriptedEngine, stack: Stack, route: str) -> bytes:
    """The same reply to somebody who need not wait."""
    path, body, engines = ROUTES[route]
    async with RawClient(stack.data) as client:
        client.send(request(path, body, tenant="bob"))
        (await scripted.play()).answer(STREAM_HEAD + engines)
        reply = await client.reply()
        assert "x-fairqueue-queue-seconds" in reply.headers
        return reply.body


async def test_comments_go_on_while_the_engine_has_it_and_says_nothing_yet(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, queue=SHORT)
    async with RawClient(stack.data) as client:
        early = Early(client)
        sending = asyncio.create_task(early.send("native"))
        play = await scripted.play()
        await sending
        play.write(STREAM_HEAD)
        for _ in range(3):
            assert await client.until(b"\n\n\r\n") == COMMENT
        play.answer(ROUTES["native"][2])
        assert (await early.rest()).count(b"data:") == 2


async def test_one_that_the_engine_did_not_take_goes_on_waiting(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_watch, "OVERLOAD_PAUSE_SECONDS", 0.02)
    stack = await start_proxy(scripted.port, queue=SHORT)
    async with RawClient(stack.data) as client:
        early = Early(client)
        sending = asyncio.create_task(early.send("native"))
        play = await scripted.play()
        await sending
        play.answer(json_reply({"error": "Model is overloaded", "error_type": "overloaded"}, 503))
        (await scripted.play()).answer(STREAM_HEAD + ROUTES["native"][2])
        assert (await early.rest()).count(b"data:") == 2


async def test_with_nothing_to_hold_the_promise_is_made_at_once(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, queue={"holdHeaders": "0s"})
    async with RawClient(stack.data) as client:
        early = Early(client)
        await early.send("chat")
        (await scripted.play()).answer(STREAM_HEAD + ROUTES["chat"][2])
        assert (await early.rest()).endswith(b"data: [DONE]\n\n")


async def test_a_client_of_http_1_0_gets_it_unframed_and_then_the_connection_ends(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, queue=SHORT)
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", generate(), tenant="bob", version="1.0"))
        play = await scripted.play()
        status, headers = await client.head()
        assert (status, headers.get("transfer-encoding")) == (200, None)
        assert await client.until(b"\n\n") == b":\n\n"
        play.answer(STREAM_HEAD + ROUTES["native"][2])
        rest = await client.rest()
        assert rest.count(b"\n\ndata:") == 2
        assert rest.endswith(b"}\n\n")


async def test_who_waits_for_a_plain_reply_gets_nothing_until_it_is_there(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=SHORT)
    async with Crowd(stack) as crowd, RawClient(stack.data) as plain, RawClient(stack.data) as client:
        play = await occupy(crowd, scripted)
        plain.send(request("/generate", generate(), tenant="bob"))
        await Early(client).send("native", "alice")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await plain.some(1)
        play.answer(json_reply({"generated_text": "x"}))
        (await scripted.play()).answer(json_reply({"error": "no", "error_type": "validation"}, 422))
        reply = await plain.reply()
        assert (reply.status, reply.json["error_type"]) == (422, "validation")
        assert float(reply.headers["x-fairqueue-queue-seconds"]) > 0.1


@pytest.mark.parametrize("leave", WAYS.values(), ids=WAYS.keys())
async def test_who_leaves_while_it_waits_leaves_nothing_behind(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    until: Until,
    leave: Callable[[RawClient], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "fairqueue.requests")
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=SHORT)
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)

        async def attempt(number: int) -> float:
            async with RawClient(stack.data) as client:
                await Early(client).send("native")
                assert backlog.queued == 1
                left_at = time.monotonic()
                leave(client)
                await until(lambda: backlog.queued == 0)
                return time.monotonic() - left_at

        await soon(attempt)
        await serve_in_turn(scripted, play, 0)
        assert await crowd.status("occupant") == 200
    assert scripted.unanswered == 0
    assert 'requests_total{tenant="bob",outcome="client_gone"}' in await stack.metrics()
    lines = [record.fields for record in caplog.records if hasattr(record, "fields")]
    # It has been told 200.
    assert {line["status"] for line in lines if line["outcome"] == "client_gone"} == {200}


@pytest.mark.parametrize("leave", WAYS.values(), ids=WAYS.keys())
async def test_who_leaves_before_the_engine_has_said_anything_takes_its_connection_along(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, leave: Callable[[RawClient], None]
) -> None:
    stack = await start_proxy(scripted.port, queue=SHORT)
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher

    async def attempt(number: int) -> float:
        async with RawClient(stack.data) as client:
            await Early(client).send("native")
            play = await scripted.play()
            left_at = time.monotonic()
            leave(client)
            await play.closed_by_proxy()
            await until(lambda: dispatcher.in_flight == 0)
            return time.monotonic() - left_at

    await soon(attempt)


@pytest.mark.parametrize("offset", [-0.002, 0.0, 0.002])
async def test_when_both_come_in_one_moment_there_is_one_head(
    start_proxy: StartProxy, scripted: ScriptedEngine, offset: float
) -> None:
    """The end of the time for which headers are held, and the engine's answer."""
    stack = await start_proxy(scripted.port, queue={"holdHeaders": "60ms"})
    loop = asyncio.get_running_loop()
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", generate(), tenant="bob"))
        play: Play = await scripted.play()
        loop.call_later(0.05 + offset, play.answer, STREAM_HEAD + ROUTES["native"][2])
        # Nothing else runs while both become due.
        loop.call_later(0.04, time.sleep, 0.04)
        reply = await client.reply()
        assert reply.status == 200
        assert b"HTTP/1.1" not in reply.body
        assert len(reply.events) == 2
        assert ("x-fairqueue-queue-seconds" in reply.headers) != (b"x-fairqueue-queue-seconds" in reply.body)


@pytest.mark.parametrize(
    "hold",
    [
        pytest.param("200ms", id="held back for a while"),
        pytest.param("5m", id="held back for ever", marks=pytest.mark.long),
    ],
)
async def test_a_client_with_a_short_read_time_out_survives_a_longer_wait_if_it_hears_something(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, hold: str
) -> None:
    monkeypatch.setattr(waiting, "COMMENT_SECONDS", 0.1)
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue={"holdHeaders": hold})
    # Ten comments would have to be late for the proxy to be blamed for a busy machine.
    times = aiohttp.ClientTimeout(total=20, sock_read=1.2)
    async with Crowd(stack) as crowd, aiohttp.ClientSession(timeout=times) as session:
        play = await occupy(crowd, scripted)

        async def read() -> bytes:
            async with session.post(f"{stack.url}/generate_stream", json=generate(), headers=bearer("bob")) as reply:
                return await reply.read()

        reading = asyncio.create_task(read())
        done, _ = await asyncio.wait({reading}, timeout=2.0)
        if hold == "5m":
            assert done
            with pytest.raises(aiohttp.ServerTimeoutError):
                await reading
            return
        assert not done
        play.answer(json_reply({"generated_text": "x"}))
        (await scripted.play()).answer(STREAM_HEAD + ROUTES["native"][2])
        body = await reading
        assert body.startswith(b":\n\n" * 5)
        assert body.count(b"data:") == 2


@pytest.mark.usefixtures("loop_errors")
async def test_nothing_is_begun_for_a_client_that_has_gone_when_the_wait_ends() -> None:
    def begin() -> Outflow:
        tried.set()
        raise ConnectionResetError("the client has gone")

    tried = asyncio.Event()
    with Waiting(0.0, begin) as held:
        await tried.wait()
    assert held.outflow is None
