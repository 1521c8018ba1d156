"""Engines that are down, die, overflow or talk nonsense: what their clients see, and what tenants are charged."""

import asyncio
import json
import re
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from fairqueue_proxy import engine_watch
from fairqueue_proxy.metering.sse import EVENT_LIMIT_BYTES
from fairqueue_sim import RunningEngine, running_engine
from proxy.conftest import StartProxy, Until
from proxy.raw_client import RawClient, ask, request
from proxy.samples import sample
from proxy.scripted_engine import (
    LAST_CHUNK,
    STREAM_HEAD,
    ScriptedEngine,
    chunk,
    event,
    json_reply,
    tgi_token,
)

GENERATE = {"inputs": "hello", "parameters": {"max_new_tokens": 3}}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "stream": True}
OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_watch, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(engine_watch, "OVERLOAD_PAUSE_SECONDS", 0.02)


@pytest.mark.usefixtures("quick_probes")
async def test_while_the_engine_is_down_requests_wait_in_order_uncharged_and_are_served_when_it_is_up(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    port = scripted.port
    stack = await start_proxy(port, tenants=[{"name": "alice"}], backpressure={"maxRequests": 1})
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    await scripted.stop()
    async with AsyncExitStack() as exits:
        clients = [await exits.enter_async_context(RawClient(stack.data)) for _ in range(4)]
        for number, client in enumerate(clients):
            client.send(request("/generate", GENERATE, tenant="alice", headers={"x-request-id": f"r{number}"}))
            await until(lambda number=number: dispatcher.backlog.queued == number + 1)  # type: ignore[misc]
        view = await stack.queue()
        assert [row["request_id"] for row in view["queued"]] == ["r0", "r1", "r2", "r3"]
        assert view["queued"][0]["why"] == "the engine takes nothing at the moment"
        assert dispatcher.scheduler.root.served == 0
        assert (await stack.get(stack.admin, "/-/ready"))[0] == 503
        await scripted.start(port)
        for number, client in enumerate(clients):
            play = await scripted.play()
            assert play.headers["x-request-id"] == f"r{number}"
            play.answer(json_reply({"generated_text": "x"}))
            assert (await client.reply()).status == 200
    # It was not overtaken, and it did not take places twice.
    assert scripted.unanswered == 0


@pytest.mark.usefixtures("quick_probes")
async def test_what_was_sent_on_a_connection_that_died_unanswered_when_no_other_can_be_made_waits_at_the_head(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    """An engine that is restarted between two requests has not begun with the second."""
    port = scripted.port
    stack = await start_proxy(port, tenants=[{"name": "alice"}], backpressure={"maxRequests": 1})
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    async with RawClient(stack.data) as client, RawClient(stack.data) as second:
        client.send(request("/generate", GENERATE, tenant="alice"))
        (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        assert (await client.reply()).status == 200
        served = dispatcher.scheduler.root.served
        client.send(request("/generate_stream", GENERATE, tenant="alice", headers={"x-request-id": "first"}))
        await scripted.play()
        second.send(request("/generate", GENERATE, tenant="alice", headers={"x-request-id": "second"}))
        await until(lambda: dispatcher.backlog.queued == 1)
        await scripted.stop()
        await until(lambda: dispatcher.backlog.queued == 2)
        assert [row["request_id"] for row in (await stack.queue())["queued"]] == ["first", "second"]
        assert (dispatcher.in_flight, dispatcher.scheduler.root.served) == (0, served)
        await scripted.start(port)
        play = await scripted.play()
        assert play.headers["x-request-id"] == "first"
        play.answer(STREAM_HEAD + tgi_token("a") + tgi_token("b", last=True) + LAST_CHUNK)
        assert len((await client.reply()).events) == 2
        (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        assert (await second.reply()).status == 200
    assert sample(await stack.metrics(), "requests_total", tenant="alice", outcome="completed") == 3


@pytest.mark.usefixtures("quick_probes")
async def test_an_engine_that_stays_down_is_503_for_who_waits_and_at_once_for_who_comes(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine_watch.UNAVAILABLE_SECONDS == 5.0
    monkeypatch.setattr(engine_watch, "UNAVAILABLE_SECONDS", 0.2)
    port = scripted.port
    stack = await start_proxy(port)
    await scripted.stop()
    started_at = time.monotonic()
    first, chat = await asyncio.gather(
        ask(stack.data, request("/generate", GENERATE, tenant="alice")),
        ask(stack.data, request("/v1/chat/completions", CHAT, tenant="bob")),
    )
    assert time.monotonic() - started_at >= 0.2
    assert (first.status, first.json["reason"], first.json["error_type"]) == (503, "engine_unavailable", "overloaded")
    assert (chat.status, chat.json["error"]["type"]) == (503, "overloaded_error")
    assert 1 <= int(first.headers["retry-after"]) <= 120
    later = await ask(stack.data, request("/generate", GENERATE, tenant="alice"))
    assert (later.status, later.json["reason"]) == (503, "engine_unavailable")
    metrics = await stack.metrics()
    assert 'fairqueue_requests_total{tenant="alice",outcome="engine_unavailable"} 2\n' in metrics
    assert 'fairqueue_service_total{tenant="alice"} 0\n' in metrics
    await scripted.start(port)
    async with RawClient(stack.data) as client:
        async with asyncio.timeout(5):
            assert stack.proxy is not None
            while stack.proxy.watch.unavailable:
                await asyncio.sleep(0.01)
        client.send(request("/generate", GENERATE, tenant="alice"))
        (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        assert (await client.reply()).status == 200


async def test_an_engine_that_dies_in_the_middle_of_a_stream_ends_it_with_an_error_and_is_paid_for_what_came(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    body = {"inputs": "[[die=4]] hello", "parameters": {"max_new_tokens": 9}}
    reply = await ask(stack.data, request("/generate_stream", body, tenant="alice", headers={"x-request-id": "native"}))
    assert reply.status == 200
    assert [each["token"]["id"] > 0 for each in reply.events[:-1]] == [True] * 3
    assert (reply.events[-1]["error_type"], "error" in reply.events[-1]) == ("generation", True)
    assert engine.truth.find("native").sent_tokens == 3
    metrics = await stack.metrics()
    assert 'fairqueue_tokens_total{tenant="alice",kind="output"} 3\n' in metrics
    # The engine tells the size of a prompt only at the end: it is charged as it was estimated.
    assert 'fairqueue_service_total{tenant="alice"} 10\n' in metrics
    assert 'fairqueue_requests_total{tenant="alice",outcome="engine_error"} 1\n' in metrics
    chat = {**CHAT, "messages": [{"role": "user", "content": "[[die=2]] x"}]}
    reply = await ask(stack.data, request("/v1/chat/completions", chat, tenant="bob"))
    assert reply.events[-2]["error"]["type"] == "server_error"
    assert reply.events[-1] == "[DONE]"


async def test_an_overlong_event_that_the_engines_death_has_cut_is_ended_before_the_error_event(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", GENERATE, tenant="alice", headers={"Connection": "close"}))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("a") + chunk(b"data: " + b"x" * (EVENT_LIMIT_BYTES + 100)))
        await client.until(b"xxx")
        play.reset()
        body = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", await client.rest())
    assert re.search(rb'x\n\ndata: {"error":[^\n]*}\n\n', body)


async def test_an_event_that_the_engines_death_has_cut_does_not_spoil_the_error_event(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", GENERATE, tenant="alice"))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("a") + chunk(b'data: {"index": 2, "tok'))
        await client.until(b"\n\n")
        play.reset()
        rest = await client.until(b"0\r\n\r\n")
    lines = [line for line in rest.split(b"\n") if line.startswith(b"data:")]
    assert [json.loads(line[5:])["error_type"] for line in lines] == ["generation"]


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/v1/chat/completions"])
async def test_an_engine_that_dies_before_it_answers_is_502(
    start_proxy: StartProxy, scripted: ScriptedEngine, path: str
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request(path, {**GENERATE, **CHAT}, tenant="alice"))
        (await scripted.play()).reset()
        reply = await client.reply()
    assert reply.status == 502
    error = reply.json["error"]
    reason = error["reason"] if isinstance(error, dict) else reply.json["reason"]
    assert reason == "engine_error"


CUT_SHORT = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{}"
NONSENSE = {
    "no HTTP": b"SMTP ready\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 70_000,
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "cut short": CUT_SHORT,
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
async def test_an_engine_that_talks_nonsense_is_502(
    start_proxy: StartProxy, scripted: ScriptedEngine, nonsense: bytes
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request("/generate", GENERATE, tenant="alice"))
        play = await scripted.play()
        play.write(nonsense)
        if nonsense is CUT_SHORT:
            play.close()
        reply = await client.reply()
    assert (reply.status, reply.json["reason"]) == (502, "engine_error")


async def test_a_plain_reply_cut_short_is_charged_by_the_time_it_took_at_the_engines_pace(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, tenants=[{"name": "alice"}, {"name": "bob"}])
    async with RawClient(stack.data) as client:
        # A stream from which the pace is learned: 3 tokens in 30 ms or a little more.
        client.send(request("/generate_stream", GENERATE, tenant="bob"))
        play = await scripted.play()
        await asyncio.sleep(0.03)
        play.answer(STREAM_HEAD + tgi_token("a") + tgi_token("b") + tgi_token("c", last=True) + LAST_CHUNK)
        assert len((await client.reply()).events) == 3
        body = {"inputs": "hello", "parameters": {"max_new_tokens": 10}}
        client.send(request("/generate", body, tenant="alice"))
        play = await scripted.play()
        await asyncio.sleep(0.3)
        play.write(CUT_SHORT)
        play.close()
        assert (await client.reply()).status == 502
        client.send(request("/generate", {**body, "parameters": {"max_new_tokens": 1}}, tenant="alice"))
        play = await scripted.play()
        await asyncio.sleep(0.05)
        play.write(CUT_SHORT)
        play.close()
        assert (await client.reply()).status == 502
    metrics = await stack.metrics()
    output = sample(metrics, "tokens_total", tenant="alice", kind="output")
    # Several tokens for the first, never more than its limit, and never more than 1 for the second.
    assert 2 <= output <= 11


async def test_a_stream_that_dies_before_it_begins_is_charged_no_output(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    """All tokens of a stream are seen, so none are made up, however long nothing came."""
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client, RawClient(stack.data) as other:
        client.send(request("/generate_stream", GENERATE, tenant="alice"))
        dying = await scripted.play()
        # Meanwhile the pace of streams is learned.
        other.send(request("/generate_stream", GENERATE, tenant="bob"))
        play = await scripted.play()
        await asyncio.sleep(0.03)
        play.answer(STREAM_HEAD + tgi_token("a") + tgi_token("b") + tgi_token("c", last=True) + LAST_CHUNK)
        assert len((await other.reply()).events) == 3
        await asyncio.sleep(0.1)
        dying.reset()
        assert (await client.reply()).status == 502
    metrics = await stack.metrics()
    assert sample(metrics, "tokens_total", tenant="alice", kind="output") == 0
    assert sample(metrics, "requests_total", tenant="alice", outcome="engine_error") == 1


async def test_what_the_engine_garbles_goes_through_as_it_is_and_is_counted(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    garbled = [
        b"data: {broken\n\n",
        b"data: [1, 2]\n\n",
        b'data: {"token": 7}\n\n',
        b": a comment\n\n",
        b"event: odd\ndata\n\n",
        b"data: \xff\xfe\n\n",
        b"\n\n",
        b"data: " + b"[" * 5000 + b"\n\n",
    ]
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", GENERATE, tenant="alice"))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("a"))
        for each in garbled:
            play.write(chunk(each))
        play.answer(chunk(b"data: no blank line at the end") + LAST_CHUNK)
        reply = await client.reply()
    assert reply.status == 200
    body = reply.body[reply.body.index(b"\n\n") + 2 :]
    assert body == b"".join(garbled) + b"data: no blank line at the end"
    metrics = await stack.metrics()
    assert sample(metrics, "malformed_events_total") == 6
    assert 'fairqueue_tokens_total{tenant="alice",kind="output"} 1\n' in metrics
    assert 'fairqueue_requests_total{tenant="alice",outcome="completed"} 1\n' in metrics


async def test_a_plain_reply_that_is_no_json_goes_through_as_it_is(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request("/generate", GENERATE, tenant="alice"))
        play = await scripted.play()
        play.answer(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")
        reply = await client.reply()
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"<html>", "text/html")
    assert "fairqueue_malformed_events_total 1\n" in await stack.metrics()


@pytest.mark.usefixtures("quick_probes")
@pytest.mark.parametrize(
    "refusal",
    [
        json_reply(OVERLOADED, 429),
        json_reply({"error": "busy"}, 503),
        STREAM_HEAD + event(OVERLOADED) + LAST_CHUNK,
        STREAM_HEAD + chunk(b":\n\n") + chunk(b": wait\nretry: 100\n\n") + event(OVERLOADED) + LAST_CHUNK,
    ],
    ids=["429", "503", "an event after 200", "an event after comments"],
)
async def test_what_the_engine_has_no_room_for_goes_back_to_the_head_of_its_queue_and_is_served_later(
    start_proxy: StartProxy, scripted: ScriptedEngine, refusal: bytes
) -> None:
    stack = await start_proxy(scripted.port, backpressure={"maxRequests": 1})
    async with RawClient(stack.data) as client, RawClient(stack.data) as second:
        client.send(request("/generate_stream", GENERATE, tenant="alice", headers={"x-request-id": "first"}))
        play = await scripted.play()
        second.send(request("/generate_stream", GENERATE, tenant="alice", headers={"x-request-id": "second"}))
        for _ in range(3):
            play.answer(refusal)
            play = await scripted.play()
            assert play.headers["x-request-id"] == "first"
        done = STREAM_HEAD + tgi_token("a") + tgi_token("b") + tgi_token("c", last=True) + LAST_CHUNK
        play.answer(done)
        reply = await client.reply()
        assert reply.status == 200
        assert "error" not in reply.events[0]
        assert float(reply.headers["x-fairqueue-queue-seconds"]) >= 0.06
        (await scripted.play()).answer(done)
        assert (await second.reply()).status == 200
    metrics = await stack.metrics()
    # Nobody is charged for what was refused.
    assert 'fairqueue_service_total{tenant="alice"} 22\n' in metrics
    assert 'fairqueue_requests_total{tenant="alice",outcome="completed"} 2\n' in metrics


@pytest.mark.usefixtures("quick_probes")
async def test_a_real_overload_is_never_seen_by_clients(start_proxy: StartProxy) -> None:
    async with running_engine("tgi", profile="tiny", max_concurrent_requests=3) as small:
        stack = await start_proxy(small.port, backpressure={"maxRequests": 12})

        async def one(number: int) -> dict[str, Any]:
            path = ("/generate", "/generate_stream")[number % 2]
            reply = await ask(stack.data, request(path, GENERATE, tenant=("alice", "bob")[number % 2]))
            return {"status": reply.status, "error": b"error" in reply.body}

        results = await asyncio.gather(*(one(number) for number in range(24)))
        assert results == [{"status": 200, "error": False}] * 24
        refused = [truth for truth in small.truth.requests if truth.made_tokens == 0]
        assert refused, "nothing was overloaded: the test tests nothing"


async def test_a_failure_of_the_engine_before_the_first_token_passes_on_with_its_status(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    body = {"inputs": "[[fail=1]] x", "parameters": {"max_new_tokens": 3}}
    plain = await ask(stack.data, request("/generate", body, tenant="alice"))
    assert (plain.status, plain.json["error_type"]) == (424, "generation")
    stream = await ask(stack.data, request("/generate_stream", body, tenant="alice"))
    assert [each["error_type"] for each in stream.events] == ["generation"]
    assert 'fairqueue_requests_total{tenant="alice",outcome="engine_error"} 2\n' in await stack.metrics()
