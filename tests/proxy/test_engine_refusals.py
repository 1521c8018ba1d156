"""Requests that the engine refuses whenever they come: they are tried again while it may just be full, and believed to
be the reason themselves after some tries."""

import asyncio
from typing import Any

import pytest

from fairqueue_proxy import engine_watch
from fairqueue_proxy.relay import MOST_REFUSALS, MOST_REFUSALS_ALONE
from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy, Until
from proxy.crowd import Crowd, generate
from proxy.raw_client import RawClient, Reply, request
from proxy.samples import sample
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, Play, ScriptedEngine, event, json_reply, scripted_engine
from proxy_stack import Stack

OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}
REFUSALS = {
    "429": json_reply(OVERLOADED, 429),
    "503": json_reply(OVERLOADED, 503),
    "an event after 200": STREAM_HEAD + event(OVERLOADED) + LAST_CHUNK,
}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_watch, "OVERLOAD_PAUSE_SECONDS", 0.005)


def of_error(reply: Reply) -> Any:
    return reply.events[0] if reply.status == 200 else reply.json


async def assert_passed_on(stack: Stack, reply: Reply, refusal: bytes) -> None:
    """The engine's own words, and no charge."""
    assert (reply.status, of_error(reply)) == (int(refusal.split()[1]), OVERLOADED)
    metrics = await stack.metrics()
    assert sample(metrics, "requests_total", tenant="alice", outcome="engine_error") == 1
    assert sample(metrics, "service_total", tenant="alice") == 0


async def fill(crowd: Crowd, scripted: ScriptedEngine, count: int) -> list[Play]:
    """So many requests of bob's that the engine has and works on."""
    plays = []
    for number in range(count):
        await crowd.join(f"running-{number}", "bob")
        plays.append(await scripted.play())
    return plays


async def refuse(stack: Stack, scripted: ScriptedEngine, until: Until, refusal: bytes) -> None:
    """The engine refuses what it is sent next, and that is queued again."""
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog
    (await scripted.play()).answer(refusal)
    await until(lambda: backlog.queued == 1)


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_what_an_empty_engine_refuses_four_times_is_refused_for_itself_and_the_refusal_is_passed_on(
    start_proxy: StartProxy, scripted: ScriptedEngine, refusal: bytes
) -> None:
    assert MOST_REFUSALS_ALONE == 3
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", generate(), tenant="alice"))
        for _ in range(MOST_REFUSALS_ALONE + 1):
            (await scripted.play()).answer(refusal)
        await assert_passed_on(stack, await client.reply(), refusal)
    assert scripted.unanswered == 0


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_what_a_working_engine_refuses_is_tried_again_whenever_one_has_ended_and_believed_in_the_end(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until, refusal: bytes
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client, Crowd(stack) as crowd:
        running = await fill(crowd, scripted, MOST_REFUSALS_ALONE)
        client.send(request("/generate_stream", generate(), tenant="alice", headers={"x-request-id": "refused"}))
        for play in running:
            await refuse(stack, scripted, until, refusal)
            assert scripted.unanswered == 0
            play.answer(json_reply({"generated_text": "x"}))
        # It is alone now, and so many times was enough.
        (await scripted.play()).answer(refusal)
        await assert_passed_on(stack, await client.reply(), refusal)
        # Once believed, it is in nobody's way any more.
        await crowd.join("later", "bob")
        (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        assert [await crowd.status(name) for name in crowd.tasks] == [200] * (MOST_REFUSALS_ALONE + 1)
    assert scripted.unanswered == 0


async def test_an_engine_that_is_full_for_a_while_is_not_believed_and_the_request_is_served(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    assert MOST_REFUSALS == 10
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client, Crowd(stack) as crowd:
        running = await fill(crowd, scripted, MOST_REFUSALS + 1)
        client.send(request("/generate", generate(), tenant="alice", headers={"x-request-id": "refused"}))
        for play in running[1:]:
            await refuse(stack, scripted, until, REFUSALS["429"])
            play.answer(json_reply({"generated_text": "x"}))
        (await scripted.play()).answer(json_reply({"generated_text": "served"}))
        assert (await client.reply()).json == {"generated_text": "served"}
        running[0].answer(json_reply({"generated_text": "x"}))
        assert [await crowd.status(name) for name in crowd.tasks] == [200] * (MOST_REFUSALS + 1)


async def test_what_the_engine_never_takes_leaves_the_places_of_the_others_as_they_were(
    start_proxy: StartProxy, scripted: ScriptedEngine, until: Until
) -> None:
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client, Crowd(stack) as crowd:
        running = await fill(crowd, scripted, MOST_REFUSALS_ALONE)
        client.send(request("/generate", generate(), tenant="alice", headers={"x-request-id": "refused"}))
        for play in running:
            await refuse(stack, scripted, until, REFUSALS["429"])
            play.answer(json_reply({"generated_text": "x"}))
        (await scripted.play()).answer(REFUSALS["429"])
        assert (await client.reply()).status == 429
        for number in range(MOST_REFUSALS_ALONE):
            await crowd.join(f"later-{number}", "bob")
        # It was not the engine that had no room: all are there at once.
        plays = [await scripted.play() for _ in range(MOST_REFUSALS_ALONE)]
        for play in plays:
            play.answer(json_reply({"generated_text": "x"}))
        assert [await crowd.status(f"later-{number}") for number in range(MOST_REFUSALS_ALONE)] == [200] * 3


TGI_LIMITS = {"max_concurrent_requests": 64, "max_total_tokens": 4096, "max_best_of": 2, "max_client_batch_size": 4}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"inputs": "x", "parameters": {"best_of": 1000}}),
        ("/v1/completions", {"prompt": ["x"] * 1000, "max_tokens": 2}),
    ],
    ids=["best_of", "prompts"],
)
async def test_more_sequences_than_the_engine_takes_at_all_do_not_wait_for_an_empty_engine(
    start_proxy: StartProxy, path: str, body: object
) -> None:
    async with scripted_engine(**TGI_LIMITS) as tgi:
        stack = await start_proxy(tgi.port)
        assert stack.proxy is not None
        async with RawClient(stack.data) as running, RawClient(stack.data) as client:
            running.send(request("/generate", generate(), tenant="alice"))
            play = await tgi.play()
            client.send(request(path, body, tenant="bob"))
            absurd = await tgi.play()
            assert stack.proxy.dispatcher.in_flight == 2
            absurd.answer(json_reply({"error": "too many", "error_type": "validation"}, 422))
            assert (await client.reply()).status == 422
            play.answer(json_reply({"generated_text": "x"}))
            assert (await running.reply()).status == 200
        assert sample(await stack.metrics(), "service_total", tenant="bob") == 0


async def test_as_many_sequences_as_the_engine_takes_take_as_many_places(start_proxy: StartProxy) -> None:
    async with scripted_engine(**TGI_LIMITS) as tgi:
        stack = await start_proxy(tgi.port)
        assert stack.proxy is not None
        async with RawClient(stack.data) as client:
            client.send(request("/v1/completions", {"prompt": ["x"] * 4, "max_tokens": 2}, tenant="bob"))
            play = await tgi.play()
            assert stack.proxy.dispatcher.in_flight == 4
            play.answer(json_reply({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 4}}))
            assert (await client.reply()).status == 200


async def test_a_flood_of_what_the_engine_never_takes_does_not_empty_it(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port, backpressure={"maxRequests": 4})
    absurd = request("/generate", {"inputs": "x", "parameters": {"best_of": 1000}}, tenant="bob")
    long = {"inputs": "x", "parameters": {"max_new_tokens": 400}}
    async with Crowd(stack) as crowd, RawClient(stack.data) as flooder:
        for number in range(3):
            await crowd.join(f"long-{number}", "alice", long)
        for _ in range(5):
            assert (await flooder.ask(absurd)).status == 422
        # None of them had to end for that.
        assert crowd.waiting() == ["long-0", "long-1", "long-2"]
        replies = await asyncio.gather(*crowd.tasks.values())
        assert {reply.status for reply in replies} == {200}
