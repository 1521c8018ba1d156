"""A policy begins to observe, or to be enforced, at every stage of a request's life."""

import asyncio

import pytest

from proxy.changing import STREAM, STREAMED, STREAMED_COST, Versions
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.observing import DONE, OVERLOADED, observing, would_be
from proxy.raw_client import RawClient, request
from proxy.samples import sample
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, Play, ScriptedEngine, json_reply, tgi_token

ENGINE_KEY = "of-the-engine"


async def test_who_waits_goes_to_the_engine_when_the_policy_begins_to_observe(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        plays = [await occupy(crowd, scripted)]
        for number in range(3):
            await crowd.join(f"alice-{number}", "alice", path=STREAM)
        assert scripted.unanswered == 0
        versions.apply(stack, mode="Observe", backpressure=ONE_AT_A_TIME)
        plays += [await scripted.play() for _ in range(3)]
        plays[0].answer(json_reply(DONE))
        for play in plays[1:]:
            play.answer(STREAMED)
        assert {await crowd.status(name) for name in crowd.tasks} == {200}
    assert sample(await stack.metrics(), "service_total", tenant="alice") >= 3 * STREAMED_COST


async def test_what_the_engine_has_counts_as_in_it_when_the_policy_begins_to_be_enforced(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions, until: Until
) -> None:
    tenants = [{"name": "alice", "limits": {"maxQueued": 1}}, {"name": "bob"}]
    stack = await observing(start_proxy, scripted, tenants=tenants, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        for number in range(3):
            await crowd.join(f"alice-{number}", "alice", path=STREAM)
        plays = [await scripted.play() for _ in range(3)]
        versions.apply(stack, tenants=tenants, backpressure=ONE_AT_A_TIME)
        text = await stack.metrics()
        assert sample(text, "in_flight_requests", tenant="alice") == 3
        assert sample(text, "queue_requests", tenant="alice") == 0
        await crowd.join("bob", "bob")
        assert crowd.waiting() == ["alice-0", "alice-1", "alice-2", "bob"]
        for play in plays[:2]:
            play.answer(STREAMED)
        assert {await crowd.status("alice-0"), await crowd.status("alice-1")} == {200}
        assert scripted.unanswered == 0
        plays[2].write(STREAM_HEAD + tgi_token("a"))
        await serve_in_turn_after(scripted, plays[2])
        assert await crowd.status("bob") == 200
    text = await stack.metrics()
    assert sample(text, "service_total", tenant="alice") == 3 * STREAMED_COST
    assert would_be(text) == {("alice", "tenant_queue_full"): 1}


async def serve_in_turn_after(scripted: ScriptedEngine, play: Play) -> None:
    """Ends a stream that has begun, and answers who comes then."""
    play.answer(tgi_token("x", last=True) + LAST_CHUNK)
    await serve_in_turn(scripted, await scripted.play(), 0)


async def test_who_waited_has_the_engines_key_and_who_came_to_be_observed_has_not(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    """A request goes out in the way of the policy under which it came, whatever is in force when it is sent."""
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, engine_key=ENGINE_KEY)
    async with Crowd(stack) as crowd:
        occupant = await occupy(crowd, scripted)
        await crowd.join("waits", "alice")
        versions.apply(stack, mode="Observe", backpressure=ONE_AT_A_TIME, engine_key=ENGINE_KEY)
        waited = await scripted.play()
        await crowd.join("observed", "alice")
        observed = await scripted.play()
        for play in (occupant, waited, observed):
            play.answer(json_reply(DONE))
        assert {await crowd.status(name) for name in crowd.tasks} == {200}
    assert waited.headers["authorization"] == f"Bearer {ENGINE_KEY}"
    assert observed.headers["authorization"] != f"Bearer {ENGINE_KEY}"


@pytest.mark.parametrize(("tenant", "body"), [(None, None), ("alice", b"{" + b" " * 20)], ids=["stranger", "no JSON"])
async def test_what_would_be_refused_is_when_its_body_is_there_only_after_the_switch(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions, tenant: str | None, body: bytes | None
) -> None:
    stack = await observing(start_proxy, scripted, engine_key=ENGINE_KEY)
    assert stack.proxy is not None
    async with RawClient(stack.data) as client:
        data = request("/generate", generate() if body is None else body, tenant=tenant)
        await client.send_all(data[:-5])
        async with asyncio.timeout(5):
            while not stack.proxy.runtime.room.held_bytes:
                await asyncio.sleep(0.001)
        versions.apply(stack, engine_key=ENGINE_KEY)
        client.send(data[-5:])
        assert (await client.reply()).status == (401 if tenant is None else 400)
    assert scripted.unanswered == 0


async def test_a_body_that_began_under_the_one_mode_is_queued_by_the_other_with_its_bytes_once(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions, until: Until
) -> None:
    data = request("/generate", generate("x" * 5000), tenant="alice")
    for before, after in (("Enforce", "Observe"), ("Observe", "Enforce")):
        stack = await start_proxy(scripted.port, mode=before, backpressure=ONE_AT_A_TIME)
        assert stack.proxy is not None
        runtime = stack.proxy.runtime
        async with Crowd(stack) as crowd, RawClient(stack.data) as client:
            occupant = await occupy(crowd, scripted, "bob")
            held = runtime.dispatcher.backlog.held_bytes
            client.send(data[:-5])
            await until(lambda: runtime.dispatcher.backlog.held_bytes + runtime.room.held_bytes > held)  # noqa: B023
            versions.apply(stack, mode=after, backpressure=ONE_AT_A_TIME)
            client.send(data[-5:])
            await until(lambda: runtime.dispatcher.backlog.queued == 1)  # noqa: B023
            (job,) = [job for job in runtime.dispatcher.jobs if job.tenant.name == "alice"]
            assert 5000 < job.held_bytes < 5200
            play = await scripted.play() if after == "Observe" else None
            assert scripted.unanswered == 0
            occupant.answer(json_reply(DONE))
            (play or await scripted.play()).answer(json_reply(DONE))
            assert (await client.reply()).status == 200
            assert await crowd.status("occupant") == 200


async def test_the_bounds_refuse_nobody_whose_body_was_still_coming(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions, until: Until
) -> None:
    bounds = {"maxBytes": 1 << 20, "maxBytesPerTenant": 1 << 20}
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME, queue=bounds)
    assert stack.proxy is not None
    backlog = stack.proxy.dispatcher.backlog
    async with Crowd(stack) as crowd, RawClient(stack.data) as client:
        occupant = await occupy(crowd, scripted, "bob")
        data = request("/generate", generate("x" * 900_000), tenant="alice")
        client.send(data[:-5])
        await until(lambda: backlog.held_bytes > 890_000)
        versions.apply(stack, mode="Observe", backpressure=ONE_AT_A_TIME, queue=bounds)
        await crowd.join("another", "bob", generate("y" * 300_000))
        client.send(data[-5:])
        for play in (occupant, await scripted.play(), await scripted.play()):
            play.answer(json_reply(DONE))
        assert (await client.reply()).status == 200
        assert {await crowd.status("occupant"), await crowd.status("another")} == {200}


async def test_what_the_engine_gives_back_after_the_switch_is_sent_again_at_once(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        given_back = await occupy(crowd, scripted)
        versions.apply(stack, mode="Observe", backpressure=ONE_AT_A_TIME)
        await crowd.join("observed", "bob")
        observed = await scripted.play()
        given_back.answer(OVERLOADED)
        again = await scripted.play()
        assert again.headers["x-request-id"] == "occupant"
        # Now it is like all others: what the engine says of it is for its client.
        again.answer(OVERLOADED)
        observed.answer(json_reply(DONE))
        assert [await crowd.status(name) for name in ("occupant", "observed")] == [429, 200]
