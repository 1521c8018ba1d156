"""Streams that wait and end in a refusal: with its status while headers are held back; after that in an event of the
route's own shape, and properly ended, so that the connection goes on."""

import asyncio
import json
from typing import Any

import pytest

from fairqueue_proxy import drain as drain_module
from fairqueue_proxy import engine_watch, waiting
from proxy.conftest import StartProxy
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.early import ROUTES, SHORT, Early, routes
from proxy.raw_client import RawClient, request
from proxy.samples import sample
from proxy.scripted_engine import STREAM_HEAD, ScriptedEngine, json_reply, scripted_engine


@pytest.fixture(autouse=True)
def _comments_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "COMMENT_SECONDS", 0.01)


async def refused_early(early: Early, route: str, reason: str) -> None:
    """An error event in the shape of the route, then a proper end: the connection goes on."""
    reply = await early.error()
    if route == "chat":
        error, done = reply.events
        assert done == "[DONE]"
        assert (error["error"]["reason"], error["error"]["code"] >= 500) == (reason, True)
    else:
        (error,) = reply.events
        assert (error["error_type"], error["reason"]) == ("overloaded", reason)


@pytest.mark.parametrize("status", [200, 422, 500])
async def test_whoever_is_answered_before_that_gets_the_real_status(
    start_proxy: StartProxy, scripted: ScriptedEngine, status: int
) -> None:
    stack = await start_proxy(scripted.port, queue={"holdHeaders": "1m"})
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", generate(), tenant="bob"))
        reply = json_reply({"error": "no", "error_type": "validation"}, status)
        (await scripted.play()).answer(STREAM_HEAD + ROUTES["native"][2] if status == 200 else reply)
        assert (await client.reply()).status == status


@routes
async def test_whoever_waits_too_long_before_that_gets_504(
    start_proxy: StartProxy, scripted: ScriptedEngine, route: str
) -> None:
    queue = {"holdHeaders": "1m", "timeout": "50ms"}
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=queue)
    async with Crowd(stack) as crowd:
        await occupy(crowd, scripted)
        path, body, _ = ROUTES[route]
        await crowd.join("late", "bob", body, path)
        assert await crowd.status("late") == 504


@routes
async def test_whoever_waits_too_long_after_that_is_told_in_an_event(
    start_proxy: StartProxy, scripted: ScriptedEngine, route: str
) -> None:
    queue = {**SHORT, "timeout": "150ms"}
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=queue)
    async with Crowd(stack) as crowd, RawClient(stack.data) as client:
        play = await occupy(crowd, scripted)
        early = Early(client)
        await early.send(route)
        await refused_early(early, route, "queue_timeout")
        # Framed to its end: the next request comes on the same connection.
        play.answer(json_reply({"generated_text": "x"}))
        client.send(request("/generate", generate(), tenant="bob"))
        (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        assert (await client.reply()).status == 200
    text = await stack.metrics()
    assert sample(text, "requests_total", tenant="bob", outcome="queue_timeout") == 1


@routes
async def test_whoever_has_to_give_way_after_that_is_told_in_an_event(
    start_proxy: StartProxy, scripted: ScriptedEngine, route: str
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue={**SHORT, "maxRequests": 2})
    async with Crowd(stack) as crowd, RawClient(stack.data) as client:
        play = await occupy(crowd, scripted)
        await crowd.join("older", "bob")
        early = Early(client)
        await early.send(route)
        await crowd.join("quiet", "alice")
        await refused_early(early, route, "queue_full")
        assert sorted(await serve_in_turn(scripted, play, 2)) == ["older", "quiet"]


@routes
async def test_if_the_engine_is_gone_whoever_waits_is_told_in_an_event(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    monkeypatch.setattr(engine_watch, "UNAVAILABLE_SECONDS", 0.1)
    monkeypatch.setattr(engine_watch, "PROBE_SECONDS", 0.01)
    stack = await start_proxy(scripted.port, queue=SHORT)
    await scripted.stop()
    async with RawClient(stack.data) as client:
        early = Early(client)
        await early.send(route)
        await refused_early(early, route, "engine_unavailable")


@routes
@pytest.mark.parametrize("where", ["queued", "in the engine"])
async def test_if_the_proxy_goes_away_whoever_waits_is_told_in_an_event(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, route: str, where: str
) -> None:
    monkeypatch.setattr(drain_module, "LOOK_SECONDS", 0.005)
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=SHORT, drain={"timeout": "50ms"})
    assert stack.proxy is not None
    async with Crowd(stack) as crowd, RawClient(stack.data) as client:
        if where == "queued":
            await occupy(crowd, scripted)
        early = Early(client)
        await early.send(route)
        finishing = asyncio.create_task(stack.proxy.finish())
        await refused_early(early, route, "draining")
        await finishing


NATIVE_ERROR = {"error": "Input validation error: no", "error_type": "validation"}
OPENAI_ERROR = {"error": {"message": "a  b", "type": "invalid_request_error", "code": 422}}
PRETTY = b'{\r\n  "error": {\n    "message": "two  spaces",\n    "code": 500\n  }\n}'


def _raw(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


ANSWERS: dict[str, tuple[str, bytes, Any]] = {
    "native 422": ("native", json_reply(NATIVE_ERROR, 422), NATIVE_ERROR),
    "chat 422": ("chat", json_reply(OPENAI_ERROR, 422), OPENAI_ERROR),
    "chat 500 on many lines": ("chat", _raw(500, PRETTY), {"error": {"message": "two  spaces", "code": 500}}),
    "a plain reply": ("native", json_reply({"generated_text": "two  spaces"}), {"generated_text": "two  spaces"}),
    "a plain reply on many lines": ("chat", _raw(200, b'{\n "id": "a  b"\n}'), {"id": "a  b"}),
    "native text": ("native", _raw(500, b"it\nbroke"), {"error": "it\nbroke", "error_type": "generation"}),
    "native nothing": ("native", _raw(424, b""), {"error": "the engine answered 424"}),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_engine_that_answers_with_no_stream_is_heard_in_one_event(
    start_proxy: StartProxy, scripted: ScriptedEngine, case: str
) -> None:
    stack = await start_proxy(scripted.port, queue=SHORT)
    route, answer, expected = ANSWERS[case]
    async with RawClient(stack.data) as client:
        early = Early(client)
        await early.send(route)
        (await scripted.play()).answer(answer)
        error, *done = (await early.error()).events
        assert done in ([], ["[DONE]"])
        assert {key: error[key] for key in expected} == expected
    outcome = "completed" if "a plain reply" in case else "engine_error"
    assert sample(await stack.metrics(), "requests_total", tenant="bob", outcome=outcome) == 1


async def test_an_error_of_the_engines_has_the_name_that_anthropics_clients_look_for(start_proxy: StartProxy) -> None:
    async with scripted_engine(total_slots=1, default_generation_settings={"n_ctx": 2048}) as llama:
        stack = await start_proxy(llama.port, kind="LlamaCpp", queue=SHORT)
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "stream": True}
        said = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
        async with RawClient(stack.data) as client:
            client.send(request("/v1/messages", body, tenant="bob"))
            play = await llama.play()
            assert (await client.head())[0] == 200
            play.answer(json_reply(said, 400))
            early = Early(client)
            reply = await early.error()
            assert reply.events == [said]
            assert reply.body.endswith(b"\n\nevent: error\ndata: " + json.dumps(said).encode() + b"\n\n")
