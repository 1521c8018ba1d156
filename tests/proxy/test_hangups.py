"""Clients that leave: at any moment, in any way. The engine is told and the slot is free within a tenth of a second."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fairqueue_sim import Outcome, RunningEngine
from proxy.conftest import StartProxy, Until
from proxy.raw_client import RawClient, ask, request
from proxy.samples import sample
from proxy.scripted_engine import STREAM_HEAD, ScriptedEngine, json_reply, scripted_engine, tgi_token
from proxy_stack import Stack

SOON_SECONDS = 0.1
ATTEMPTS = 3
GENERATE = {"inputs": "hello", "parameters": {"max_new_tokens": 2}}
LONG = {"inputs": "[[slow=5]] hello", "parameters": {"max_new_tokens": 2000}}

WAYS: dict[str, Callable[[RawClient], None]] = {
    "half-close": RawClient.half_close,
    "close": RawClient.close,
    "reset": RawClient.reset,
}
ways = pytest.mark.parametrize("leave", WAYS.values(), ids=WAYS.keys())


async def soon(attempt: Callable[[int], Awaitable[float]]) -> None:
    """The attempt, which returns seconds, is quick. A busy machine may delay it once, and once more."""
    took = [await attempt(0)]
    while took[-1] > SOON_SECONDS and len(took) < ATTEMPTS:
        took.append(await attempt(len(took)))
    assert took[-1] <= SOON_SECONDS, took


async def rows(stack: Stack, part: str) -> list[dict[str, Any]]:
    return list((await stack.queue())[part])


@ways
async def test_who_leaves_while_queued_is_gone_from_the_queue_and_never_sent(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, leave: Callable[[RawClient], None]
) -> None:
    stack = await start_proxy(scripted.port, backpressure={"maxRequests": 1})
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog
    async with RawClient(stack.data) as occupant:
        occupant.send(request("/generate", GENERATE, tenant="bob"))
        play = await scripted.play()

        async def attempt(number: int) -> float:
            async with RawClient(stack.data) as client:
                client.send(request("/generate", GENERATE, tenant="alice"))
                await until(lambda: backlog.queued == 1)
                assert [row["tenant"] for row in await rows(stack, "queued")] == ["alice"]
                left_at = time.monotonic()
                leave(client)
                await until(lambda: backlog.queued == 0)
                took = time.monotonic() - left_at
                assert await rows(stack, "queued") == []
                return took

        await soon(attempt)
        play.answer(json_reply({"generated_text": "x"}))
        assert (await occupant.reply()).status == 200
    assert scripted.unanswered == 0
    metrics = await stack.metrics()
    assert 'requests_total{tenant="alice",outcome="client_gone"}' in metrics
    assert 'fairqueue_service_total{tenant="alice"} 0\n' in metrics


@ways
@pytest.mark.parametrize("path", ["/generate_stream", "/generate"])
async def test_who_leaves_before_the_first_byte_takes_the_engines_connection_along(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    until: Until,
    leave: Callable[[RawClient], None],
    path: str,
) -> None:
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher

    async def attempt(number: int) -> float:
        async with RawClient(stack.data) as client:
            client.send(request(path, GENERATE, tenant="alice"))
            play = await scripted.play()
            assert len(await rows(stack, "in_flight")) == 1
            left_at = time.monotonic()
            leave(client)
            await play.closed_by_proxy()
            await until(lambda: dispatcher.in_flight == 0)
            return time.monotonic() - left_at

    await soon(attempt)
    assert await rows(stack, "in_flight") == []
    assert 'requests_total{tenant="alice",outcome="client_gone"}' in await stack.metrics()


@ways
async def test_who_leaves_in_the_middle_of_a_stream_stops_the_engine_and_pays_for_what_came(
    start_proxy: StartProxy, engine: RunningEngine, until: Until, leave: Callable[[RawClient], None]
) -> None:
    stack = await start_proxy(engine.port)
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    charged = 0.0

    async def attempt(number: int) -> float:
        nonlocal charged
        async with RawClient(stack.data) as client:
            name = f"leaver-{number}"
            client.send(request("/generate_stream", LONG, tenant="alice", headers={"x-request-id": name}))
            for _ in range(5):
                await client.until(b"\n\n")
            left_at = time.monotonic()
            leave(client)
            await until(lambda: dispatcher.in_flight == 0)
            freed_after = time.monotonic() - left_at
            truth = engine.truth.find(name)
            await until(lambda: truth.outcome is not None)
            assert (truth.outcome, truth.ended_at is not None) == (Outcome.CANCELLED, True)
            assert 5 <= truth.sent_tokens < 200
            total = sample(await stack.metrics(), "tokens_total", tenant="alice", kind="output")
            output, charged = total - charged, total
            # What was on its way when the proxy hung up, it has not seen.
            assert 5 <= output <= truth.sent_tokens
            assert output >= sum(at < left_at for at in truth.sent) - 1
            return max(freed_after, (truth.ended_at or 0.0) - left_at)

    await soon(attempt)
    assert await rows(stack, "in_flight") == []


@ways
async def test_who_leaves_a_plain_reply_stops_an_engine_that_can_be_stopped(
    start_proxy: StartProxy, engine: RunningEngine, until: Until, leave: Callable[[RawClient], None]
) -> None:
    stack = await start_proxy(engine.port)
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher

    async def attempt(number: int) -> float:
        async with RawClient(stack.data) as client:
            name = f"leaver-{number}"
            client.send(request("/generate", LONG, tenant="alice", headers={"x-request-id": name}))
            await until(lambda: bool(engine.model.running))
            left_at = time.monotonic()
            leave(client)
            await until(lambda: dispatcher.in_flight == 0)
            truth = engine.truth.find(name)
            await until(lambda: truth.outcome is not None)
            assert truth.outcome is Outcome.CANCELLED
            return (truth.ended_at or 0.0) - left_at

    await soon(attempt)


@ways
async def test_who_leaves_while_sending_a_body_leaves_no_bytes_behind(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, leave: Callable[[RawClient], None]
) -> None:
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog

    async def attempt(number: int) -> float:
        async with RawClient(stack.data) as client:
            client.send(request("/generate", b" " * 5000, tenant="alice", headers={"Content-Length": "100000"}))
            await until(lambda: backlog.held_bytes == 5000)
            left_at = time.monotonic()
            leave(client)
            await until(lambda: backlog.held_bytes == 0)
            return time.monotonic() - left_at

    await soon(attempt)
    assert scripted.unanswered == 0


PIPELINED = {
    "a long body": request("/generate", {**GENERATE, "inputs": "x" * 2_000_000}, tenant="alice"),
    "many requests": request("/health", method="GET") * 3000,
}
pipelined = pytest.mark.parametrize("behind", PIPELINED.values(), ids=PIPELINED.keys())


@ways
@pipelined
async def test_who_leaves_with_further_requests_sent_ahead_frees_its_slot(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    until: Until,
    leave: Callable[[RawClient], None],
    behind: bytes,
) -> None:
    """Its leaving is told behind more bytes than the proxy reads ahead."""
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher

    async def attempt(number: int) -> float:
        async with RawClient(stack.data) as client:
            client.send(request("/generate", GENERATE, tenant="alice"))
            play = await scripted.play()
            await client.send_all(behind)
            left_at = time.monotonic()
            leave(client)
            await until(lambda: dispatcher.in_flight == 0)
            took = time.monotonic() - left_at
            await play.closed_by_proxy()
            return took

    await soon(attempt)
    assert 'requests_total{tenant="alice",outcome="client_gone"}' in await stack.metrics()


@ways
@pipelined
async def test_who_leaves_with_further_requests_sent_ahead_is_gone_from_the_queue(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    until: Until,
    leave: Callable[[RawClient], None],
    behind: bytes,
) -> None:
    stack = await start_proxy(scripted.port, backpressure={"maxRequests": 1})
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog
    async with RawClient(stack.data) as occupant:
        occupant.send(request("/generate", GENERATE, tenant="bob"))
        play = await scripted.play()

        async def attempt(number: int) -> float:
            async with RawClient(stack.data) as client:
                client.send(request("/generate", GENERATE, tenant="alice"))
                await until(lambda: backlog.queued == 1)
                await client.send_all(behind)
                left_at = time.monotonic()
                leave(client)
                await until(lambda: backlog.queued == 0)
                return time.monotonic() - left_at

        await soon(attempt)
        play.answer(json_reply({"generated_text": "x"}))
        assert (await occupant.reply()).status == 200
    assert scripted.unanswered == 0


@pipelined
async def test_who_sends_so_much_ahead_that_its_leaving_could_not_be_seen_is_cut(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, behind: bytes
) -> None:
    """Also when all of it is there before the first request has begun."""
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    async with RawClient(stack.data) as client:
        client.send(request("/generate", GENERATE, tenant="alice") + behind)
        assert await client.rest() == b""
        await until(lambda: not dispatcher.jobs)


async def test_a_few_requests_sent_ahead_are_answered_one_after_the_other(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request("/generate", GENERATE, tenant="alice"))
        play = await scripted.play()
        client.send(request("/generate", {**GENERATE, "inputs": "x" * 20_000}, tenant="alice"))
        client.send(request("/health", method="GET") * 3)
        for text in ("first", "second"):
            play.answer(json_reply({"generated_text": text}))
            assert (await client.reply()).json == {"generated_text": text}
            play = await scripted.play() if text == "first" else play
        assert [(await client.reply()).status for _ in range(3)] == [200] * 3


async def test_a_freed_slot_goes_to_the_next_at_once(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port, backpressure={"maxRequests": 1})
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog

    async def attempt(number: int) -> float:
        async with RawClient(stack.data) as leaver, RawClient(stack.data) as heir:
            leaver.send(request("/generate_stream", GENERATE, tenant="alice"))
            first = await scripted.play()
            first.write(STREAM_HEAD + tgi_token("a"))
            await leaver.until(b"\n\n")
            heir.send(request("/generate", GENERATE, tenant="bob"))
            await until(lambda: backlog.queued == 1)
            left_at = time.monotonic()
            leaver.reset()
            second = await scripted.play()
            took = time.monotonic() - left_at
            second.answer(json_reply({"generated_text": "x"}))
            assert (await heir.reply()).status == 200
            return took

    await soon(attempt)


async def test_a_plain_reply_of_an_engine_that_does_not_stop_is_read_to_its_end_for_nobody(
    start_proxy: StartProxy, until: Until
) -> None:
    async with scripted_engine(total_slots=1, default_generation_settings={"n_ctx": 2048}) as llama:
        stack = await start_proxy(llama.port, kind="LlamaCpp", backpressure={"maxRequests": 1})
        assert stack.proxy is not None
        dispatcher = stack.proxy.dispatcher
        chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 64}
        async with RawClient(stack.data) as leaver, RawClient(stack.data) as other:
            leaver.send(request("/v1/chat/completions", chat, tenant="alice"))
            play = await llama.play()
            leaver.reset()
            other.send(request("/v1/chat/completions", chat, tenant="bob"))
            await until(lambda: dispatcher.backlog.queued == 1)
            await asyncio.sleep(0.05)
            # The engine still works for alice: its only slot is taken, and so it stands in the books.
            assert [row["tenant"] for row in await rows(stack, "in_flight")] == ["alice"]
            assert llama.unanswered == 0
            play.answer(_llama_reply(prompt_tokens=11, completion_tokens=64))
            second = await llama.play()
            second.answer(_llama_reply(prompt_tokens=11, completion_tokens=3))
            assert (await other.reply()).status == 200
        metrics = await stack.metrics()
        assert 'fairqueue_service_total{tenant="alice"} 139\n' in metrics
        assert 'fairqueue_service_total{tenant="bob"} 17\n' in metrics
        assert 'fairqueue_requests_total{tenant="alice",outcome="client_gone"} 1\n' in metrics


async def test_a_stream_of_an_engine_that_does_stop_streams_is_closed(start_proxy: StartProxy) -> None:
    async with scripted_engine(total_slots=1, default_generation_settings={"n_ctx": 2048}) as llama:
        stack = await start_proxy(llama.port, kind="LlamaCpp")
        chat = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
        async with RawClient(stack.data) as leaver:
            leaver.send(request("/v1/chat/completions", chat, tenant="alice"))
            play = await llama.play()
            leaver.half_close()
            await play.closed_by_proxy()


async def test_a_client_may_leave_between_its_requests(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port)
    async with RawClient(stack.data) as client:
        assert (await client.ask(request("/generate", GENERATE, tenant="alice"))).status == 200
        client.half_close()
        assert await client.rest() == b""
    assert (await ask(stack.data, request("/generate", GENERATE, tenant="alice"))).status == 200
    assert 'fairqueue_requests_total{tenant="alice",outcome="completed"} 2\n' in await stack.metrics()


def _llama_reply(*, prompt_tokens: int, completion_tokens: int) -> bytes:
    message = {"role": "assistant", "content": "x"}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    choice = {"index": 0, "finish_reason": "length", "message": message}
    return json_reply({"object": "chat.completion", "choices": [choice], "usage": usage})
