"""A proxy that goes away, seen by its clients and by who waits for it to be gone.

Constants are set to "never" or "at once" where a phase of the drain is to last or to be over.
"""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from fairqueue_proxy import drain as drain_module
from fairqueue_proxy import engine_watch
from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.raw_client import RawClient, ask, request
from proxy.samples import sample
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, ScriptedEngine, event, json_reply, tgi_token
from proxy_stack import Stack, serving_proxy

GENERATE = generate()
CHAT = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
SLOW_READERS_BUFFER_BYTES = 4096
NEVER_SECONDS = 1000.0


@pytest.fixture(autouse=True)
def _everything_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test says otherwise, a drain waits for requests that may still come."""
    monkeypatch.setattr(drain_module, "QUIET_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr(drain_module, "TAKE_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr(drain_module, "LOOK_SECONDS", 0.005)


async def begin(stack: Stack) -> None:
    reply = await ask(stack.local, request("/-/drain"))
    assert (reply.status, reply.json) == (200, {"draining": True})


async def test_while_others_may_not_have_heard_of_it_requests_are_taken_on_connections_that_then_close(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port)
    async with RawClient(stack.data) as client:
        before = await client.ask(request("/generate", GENERATE, tenant="alice"))
        assert (before.status, before.headers.get("connection")) == (200, None)
        await begin(stack)
        plain = await client.ask(request("/generate", GENERATE, tenant="alice"))
        assert (plain.status, plain.headers["connection"]) == (200, "close")
        assert await client.rest() == b""
    # The listener stays open.
    async with RawClient(stack.data) as client:
        stream = await client.ask(request("/generate_stream", GENERATE, tenant="alice"))
        assert (stream.status, stream.headers["connection"]) == (200, "close")
        assert await client.rest() == b""


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions"])
async def test_once_it_has_been_quiet_new_requests_get_503_and_are_to_try_again_at_once(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    stack = await start_proxy(scripted.port)
    await begin(stack)
    monkeypatch.setattr(drain_module, "QUIET_SECONDS", 0)
    async with RawClient(stack.data) as client:
        reply = await client.ask(request(path, {**GENERATE, "messages": []}, tenant="alice"))
        assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
        assert await client.rest() == b""
    if path == "/generate":
        assert (reply.json["error_type"], reply.json["reason"]) == ("overloaded", "draining")
    else:
        assert (reply.json["error"]["type"], reply.json["error"]["code"]) == ("overloaded_error", 503)
    assert scripted.unanswered == 0
    assert sample(await stack.metrics(), "requests_total", tenant="alice", outcome="draining") == 1


async def test_free_routes_are_relayed_as_long_as_it_lives(
    start_proxy: StartProxy, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the engine's own probes, which come this way, would kill it in the middle of the drain."""
    stack = await start_proxy(engine.port)
    await begin(stack)
    assert (await stack.get(stack.data, "/health"))[0] == 200
    monkeypatch.setattr(drain_module, "QUIET_SECONDS", 0)
    assert stack.proxy is not None
    async with asyncio.timeout(5):
        await stack.proxy.drain.over.wait()
    assert (await stack.get(stack.data, "/health"))[0] == 200
    assert (await stack.get(stack.data, "/info"))[0] == 200


async def test_what_waits_is_finished_when_it_is_quiet_and_then_it_is_over(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    assert stack.proxy is not None
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        await crowd.join("first", "bob")
        await begin(stack)
        monkeypatch.setattr(drain_module, "QUIET_SECONDS", 0)
        await crowd.join("late", "alice")
        assert await crowd.status("late") == 503
        assert not stack.proxy.drain.over.is_set()
        assert await serve_in_turn(scripted, play, 1) == ["first"]
        assert [await crowd.status(name) for name in ("occupant", "first")] == [200, 200]
    async with asyncio.timeout(5):
        await stack.proxy.drain.over.wait()


async def test_when_the_window_is_over_who_waits_is_refused_and_who_is_in_the_engine_is_not(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, drain={"timeout": "100ms"})
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        await crowd.join("first", "bob")
        await begin(stack)
        refused = await crowd.tasks["first"]
        assert (refused.status, refused.json["reason"], refused.headers["retry-after"]) == (503, "draining", "1")
        await serve_in_turn(scripted, play, 0)
        assert await crowd.status("occupant") == 200


async def test_who_waits_for_the_end_is_answered_at_the_end(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "QUIET_SECONDS", 0)
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        waiting = asyncio.create_task(ask(stack.admin, request("/-/drain/wait", method="GET")))
        await begin(stack)
        assert not waiting.done()
        await serve_in_turn(scripted, play, 0)
        assert await crowd.status("occupant") == 200
        reply = await waiting
        assert (reply.status, reply.json) == (200, {"over": True})


async def test_who_waits_while_the_engine_is_not_healthy_is_answered_at_once(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    """A liveness restart of the engine must not hang on it."""
    scripted.healthy = False
    stack = await start_proxy(scripted.port)
    reply = await ask(stack.admin, request("/-/drain/wait", method="GET"))
    assert (reply.status, reply.json) == (200, {"over": False})


async def test_who_waits_while_the_engine_hangs_does_not_wait_for_the_next_look_at_it(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_watch, "HANGS_SECONDS", 0.05)
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    scripted.answers["GET /health"] = None
    reply = await ask(stack.admin, request("/-/drain/wait", method="GET"))
    assert (reply.status, reply.json) == (200, {"over": False})
    assert stack.proxy.watch.healthy


async def test_who_waits_for_a_drain_that_does_not_begin_is_answered_after_a_while(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "WAIT_FOR_BEGIN_SECONDS", 0.05)
    stack = await start_proxy(scripted.port)
    reply = await ask(stack.admin, request("/-/drain/wait", method="GET"))
    assert (reply.status, reply.json) == (200, {"over": False})


async def test_told_to_end_it_finishes_what_it_has_takes_no_connection_and_refuses_on_those_it_has(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    async with RawClient(stack.data) as streaming, RawClient(stack.data) as idle:
        streaming.send(request("/generate_stream", GENERATE, tenant="alice"))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token(" first"))
        await streaming.until(b"\r\n\r\n")
        idle.send(request("/generate", GENERATE, tenant="bob"))
        (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        assert (await idle.reply()).status == 200
        finishing = asyncio.create_task(stack.proxy.finish())
        await until(stack.proxy.drain.begun.is_set)
        with pytest.raises(ConnectionRefusedError):
            await ask(stack.data, request("/health", method="GET"))
        reply = await idle.ask(request("/generate", GENERATE, tenant="bob"))
        assert (reply.status, reply.json["reason"]) == (503, "draining")
        assert not finishing.done()
        play.answer(tgi_token(" last", last=True) + LAST_CHUNK)
        assert (await streaming.until(b"0\r\n\r\n")).count(b"data:") == 2
        async with asyncio.timeout(5):
            await finishing


async def test_a_request_whose_body_is_still_coming_was_taken_and_is_finished(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    data = request("/generate", GENERATE, tenant="alice")
    async with RawClient(stack.data) as client:
        client.send(data[:-5])
        await until(lambda: stack.proxy is not None and stack.proxy.dispatcher.backlog.held_bytes > 0)
        finishing = asyncio.create_task(stack.proxy.finish())
        for _ in range(5):
            await asyncio.sleep(drain_module.LOOK_SECONDS)
        assert not finishing.done()
        client.send(data[-5:])
        (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        assert (await client.reply()).status == 200
        async with asyncio.timeout(5):
            await finishing


def outcomes_in(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The outcome of each request that was logged."""
    lines = [record.__dict__["fields"] for record in caplog.records if record.name == "fairqueue.requests"]
    return {line["request_id"]: line["outcome"] for line in lines}


async def test_at_the_end_of_its_life_all_that_is_not_finished_is_ended_in_words(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """A plain reply that has not begun, a stream that has, and a body that is still coming."""
    stack = await start_proxy(scripted.port, drain={"timeout": "300ms"})
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog

    def named(name: str, path: str, body: object) -> bytes:
        return request(path, body, tenant="alice", headers={"x-request-id": name})

    with caplog.at_level("INFO"):
        async with (
            RawClient(stack.data) as plain,
            RawClient(stack.data) as native,
            RawClient(stack.data) as chat,
            RawClient(stack.data) as sending,
        ):
            plain.send(named("plain", "/generate", GENERATE))
            await scripted.play()
            native.send(named("native", "/generate_stream", GENERATE))
            (await scripted.play()).write(STREAM_HEAD + tgi_token("a"))
            chat.send(named("chat", "/v1/chat/completions", CHAT))
            (await scripted.play()).write(STREAM_HEAD + event({"choices": [{"index": 0, "delta": {"content": "a"}}]}))
            for client in (native, chat):
                await client.until(b"\r\n\r\n")
                await client.until(b"\n\n\r\n")
            held = backlog.held_bytes
            sending.send(named("sending", "/generate", GENERATE)[:-5])
            await until(lambda: backlog.held_bytes > held)
            async with asyncio.timeout(5):
                await stack.proxy.finish()
            for client in (plain, sending):
                reply = await client.reply()
                assert (reply.status, reply.json["reason"], reply.headers["retry-after"]) == (503, "draining", "1")
            assert (await native.until(LAST_CHUNK)).count(b'"error_type":"overloaded"') == 1
            last = await chat.until(LAST_CHUNK)
            assert last.count(b'"overloaded_error"') == 1
            assert last.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert outcomes_in(caplog) == dict.fromkeys(["plain", "native", "chat", "sending"], "draining")
    metrics = await stack.metrics()
    assert sample(metrics, "requests_total", tenant="alice", outcome="draining") == 4
    assert sample(metrics, "tokens_total", tenant="alice", kind="output") == 2
    assert sample(metrics, "in_flight_requests", tenant="alice") == 0


async def test_a_finished_reply_goes_out_whole_to_a_slow_reader_before_the_process_ends(
    scripted: ScriptedEngine, tmp_path: Path
) -> None:
    whole = {"generated_text": "x" * 3_900_000}
    tenants = [{"name": "alice"}]
    async with (
        serving_proxy(tmp_path, scripted.port, tmp_path / "log", tenants=tenants, drain={"timeout": "20s"}) as stack,
        RawClient(stack.data, receive_buffer_bytes=SLOW_READERS_BUFFER_BYTES) as client,
    ):
        assert stack.process is not None
        client.send(request("/generate", GENERATE, tenant="alice"))
        play = await scripted.play()
        client.stop_reading()
        play.answer(json_reply(whole))
        async with asyncio.timeout(5):
            # It is another process, which tells only who asks it that it has the whole reply.
            while sample(await stack.metrics(), "in_flight_requests", tenant="alice"):
                await asyncio.sleep(0.01)
        stack.process.send_signal(signal.SIGTERM)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stack.process.wait(), 1)
        client.read_again()
        assert (await client.reply()).json == whole
        assert await asyncio.wait_for(stack.process.wait(), 10) == 0
