"""What a reload must not lose: counts, charges, and requests that are between two states when it comes."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from fairqueue_proxy import engine_watch
from proxy.changing import STREAM, STREAMED, STREAMED_COST, Versions, stream_in_turn
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.raw_client import RawClient, request
from proxy.samples import Increases, counters, sample
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, Play, ScriptedEngine, json_reply, tgi_token

OVERLOADED = json_reply({"error": "Model is overloaded", "error_type": "overloaded"}, 503)
BOB = {"name": "bob"}
GROUP = [{"name": "org"}]
# Time goes on by itself.
CLOCKS = {"fairqueue_backlogged_seconds_total", "fairqueue_idle_capacity_seconds_total", "process_cpu_seconds_total"}

CHANGES: dict[str, list[dict[str, Any]]] = {
    "another weight": [{"tenants": [{"name": "alice", "weight": 9}, BOB]}],
    "moved": [{"tenants": [{"name": "alice", "group": "org"}, BOB], "groups": GROUP}],
    "moved and back": [{"tenants": [{"name": "alice", "group": "org"}, BOB], "groups": GROUP}, {}],
    "split": [{"tenants": [{"name": "alice", "fairWithin": "User"}, BOB]}],
    "split and whole again": [{"tenants": [{"name": "alice", "fairWithin": "User"}, BOB]}, {}],
    "removed": [{"tenants": [BOB]}],
    "moved and removed": [
        {"tenants": [{"name": "alice", "group": "org"}, BOB], "groups": GROUP},
        {"tenants": [BOB]},
    ],
    "both removed": [{"tenants": [{"name": "carol"}]}],
    "another cost": [{"cost": {"inputToken": 7, "outputToken": 1, "request": 3}}],
}


def assert_nothing_fell(before: str, after: str) -> None:
    """No sample that is in both."""
    was, now = counters(before), counters(after)
    fell = {series: (was[series], now[series]) for series in was.keys() & now.keys() if now[series] < was[series]}
    assert fell == {}


def increases(texts: list[str]) -> dict[str, float]:
    """By how much each counter has grown, over all its series."""
    found = Increases()
    for text in texts:
        found.scrape(text)
    return found.totals()


@pytest.mark.parametrize("change", CHANGES)
async def test_no_counter_falls_and_none_jumps(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions, change: str
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    assert stack.proxy is not None
    texts = [await stack.metrics()]
    async with Crowd(stack) as crowd:
        await crowd.join("first", "alice", path=STREAM)
        play = await scripted.play()
        for number in range(4):
            for tenant in ("alice", "bob"):
                await crowd.join(f"{tenant}-{number}", tenant, path=STREAM)
        _, play = await stream_in_turn(scripted, play, 3)
        play.write(STREAM_HEAD + tgi_token("x"))
        assert await crowd.status("alice-0") == 200
        texts.append(await stack.metrics())
        for policy in CHANGES[change]:
            was = increases(texts)
            versions.apply(stack, **policy, backpressure=ONE_AT_A_TIME)
            texts.append(await stack.metrics())
            now = increases(texts)
            assert {name: now[name] for name in was if name not in CLOCKS} == pytest.approx(
                {name: value for name, value in was.items() if name not in CLOCKS}
            )
        play.answer(tgi_token("x", last=True) + LAST_CHUNK)
        play = await scripted.play()
        for _ in range(4):
            texts.append(await stack.metrics())
            _, play = await stream_in_turn(scripted, play, 1)
        play.answer(STREAMED)
        for name in crowd.tasks:
            assert await crowd.status(name) == 200
        texts.append(await stack.metrics())
        for before, after in pairwise(texts):
            assert_nothing_fell(before, after)
    everything = increases(texts)
    assert everything["fairqueue_requests_total"] == 9
    assert everything["fairqueue_tokens_total"] == 9 * (5 + 3)
    if change != "another cost":
        assert everything["fairqueue_service_total"] == 9 * STREAMED_COST
    # While alice and bob both wait, what is served is what somebody is entitled to.
    assert everything["fairqueue_entitled_service_total"] <= everything["fairqueue_service_total"]
    assert everything["fairqueue_entitled_service_total"] >= 6 * STREAMED_COST


async def test_what_a_removed_tenant_is_charged_is_shown_among_the_others_and_what_it_was_is_not_shown_again(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        await crowd.join("first", "alice", path=STREAM)
        play = await scripted.play()
        for name in ("second", "third"):
            await crowd.join(name, "alice", path=STREAM)
        _, play = await stream_in_turn(scripted, play, 1)
        assert await crowd.status("first") == 200
        assert sample(await stack.metrics(), "service_total", tenant="alice") == STREAMED_COST
        versions.apply(stack, tenants=[BOB], backpressure=ONE_AT_A_TIME)
        text = await stack.metrics()
        assert 'tenant="alice"' not in text
        assert sample(text, "requests_total", tenant="other", outcome="completed") == 0
        assert sample(text, "service_total", tenant="other") == 0
        assert sample(text, "queue_requests", tenant="other") == 1
        assert sample(text, "in_flight_requests", tenant="other") == 1
        assert 'fairqueue_tenant_weight{tenant="other"}' not in text
        assert sample(text, "requests_total", tenant="bob", outcome="completed") == 0
        _, play = await stream_in_turn(scripted, play, 1)
        play.answer(STREAMED)
        assert [await crowd.status(name) for name in ("second", "third")] == [200, 200]
        # One who comes back goes on with what was shown of it.
        versions.apply(stack, backpressure=ONE_AT_A_TIME)
        text = await stack.metrics()
        assert sample(text, "service_total", tenant="other") == 2 * STREAMED_COST
        assert sample(text, "tokens_total", tenant="other", kind="output") == 6
        assert sample(text, "time_to_first_token_seconds_count", tenant="other") == 2
        assert sample(text, "service_total", tenant="alice") == STREAMED_COST
        assert sample(text, "queue_requests", tenant="other") == 0


async def test_what_runs_is_charged_by_the_cost_that_it_was_let_in_under(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        await crowd.join("running", "alice", path=STREAM)
        play = await scripted.play()
        await crowd.join("waiting", "bob", path=STREAM)
        dear = {"inputToken": 10, "outputToken": 20, "request": 100}
        versions.apply(stack, cost=dear, backpressure=ONE_AT_A_TIME)
        _, play = await stream_in_turn(scripted, play, 1)
        play.answer(STREAMED)
        assert [await crowd.status(name) for name in ("running", "waiting")] == [200, 200]
    text = await stack.metrics()
    assert sample(text, "service_total", tenant="alice") == 5 + 2 * 3
    assert sample(text, "service_total", tenant="bob") == 100 + 10 * 5 + 20 * 3


async def test_the_revision_in_force_is_told(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port)
    document = versions.document(tenants=[{"name": "alice", "weight": 2}])
    assert document.revision not in await stack.metrics()
    assert stack.proxy is not None
    stack.proxy.apply(document)
    text = await stack.metrics()
    assert sample(text, "config_info", policy="default/test", revision=document.revision, mode="Enforce") == 1
    assert text.count("fairqueue_config_info{") == 1
    assert document.revision in (await stack.get(stack.admin, "/-/config"))[1]


SPLIT = {"name": "alice", "fairWithin": "User"}


@pytest.mark.parametrize("alice", [{"name": "alice"}, SPLIT], ids=["whole", "split by users"])
@pytest.mark.parametrize("comes_back", [False, True], ids=["for good", "and back"])
async def test_whoever_is_removed_while_it_still_sends_its_body_is_refused_when_it_has(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    versions: Versions,
    until: Until,
    alice: dict[str, Any],
    comes_back: bool,
) -> None:
    """Queued on a node that is no longer in the tree, it would wait for ever."""
    stack = await start_proxy(scripted.port, tenants=[alice, BOB])
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    data = request("/generate", generate(), tenant="alice")
    async with RawClient(stack.data) as client:
        client.send(data[:-5])
        await until(lambda: dispatcher.backlog.held_bytes > 0)
        versions.apply(stack, tenants=[BOB])
        if comes_back:
            versions.apply(stack, tenants=[alice, BOB])
        client.send(data[-5:])
        reply = await client.reply()
        assert (reply.status, reply.json["reason"]) == (401, "unauthenticated")
        assert dispatcher.backlog.held_bytes == 0
        if comes_back:
            client.send(data)
            (await scripted.play()).answer(json_reply({"generated_text": "x"}))
            assert (await client.reply()).status == 200
    assert scripted.unanswered == 0
    text = await stack.metrics()
    assert sample(text, "requests_total", tenant="other", outcome="unauthenticated") == 1


@pytest.mark.parametrize("change", ["another weight", "moved", "split", "split and whole again"])
async def test_whoever_changes_its_place_while_it_still_sends_its_body_is_served_at_the_new_one(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions, until: Until, change: str
) -> None:
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    dispatcher, tenants = stack.proxy.dispatcher, stack.proxy.runtime.tenants
    data = request("/generate", generate(), tenant="alice")
    async with RawClient(stack.data) as client:
        client.send(data[:-5])
        await until(lambda: dispatcher.backlog.held_bytes > 0)
        for policy in CHANGES[change]:
            versions.apply(stack, **policy)
        client.send(data[-5:])
        play = await scripted.play()
        assert tenants.by_name["alice"].node in dispatcher.jobs[0].scheduled.path
        play.answer(json_reply({"generated_text": "x"}))
        assert (await client.reply()).status == 200


@pytest.mark.parametrize("change", CHANGES)
async def test_a_request_that_the_engine_did_not_take_is_sent_again_whatever_became_of_its_tenant(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    versions: Versions,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    monkeypatch.setattr(engine_watch, "OVERLOAD_PAUSE_SECONDS", 0.02)
    stack = await start_proxy(scripted.port)
    texts = [await stack.metrics()]
    async with Crowd(stack) as crowd:
        await crowd.join("again", "alice", path=STREAM)
        play = await scripted.play()
        for policy in CHANGES[change]:
            versions.apply(stack, **policy)
            play.answer(OVERLOADED)
            play = await scripted.play()
            texts.append(await stack.metrics())
        assert play.headers["x-request-id"] == "again"
        play.answer(STREAMED)
        assert await crowd.status("again") == 200
    texts.append(await stack.metrics())
    for before, after in pairwise(texts):
        assert_nothing_fell(before, after)
    found = increases(texts)
    assert found["fairqueue_tokens_total"] == 5 + 3
    assert found["fairqueue_requests_total"] == 1
    if change != "another cost":
        assert found["fairqueue_service_total"] == STREAMED_COST


async def test_what_waits_on_a_former_place_follows_at_the_next_move(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(engine_watch, "OVERLOAD_PAUSE_SECONDS", 1000.0)
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    dispatcher, tenants = stack.proxy.dispatcher, stack.proxy.runtime.tenants
    moved: dict[str, Any] = {"tenants": [{"name": "alice", "group": "org"}, BOB], "groups": GROUP}
    async with Crowd(stack) as crowd:
        await crowd.join("again", "alice", path=STREAM)
        play: Play = await scripted.play()
        versions.apply(stack, **moved)
        play.answer(OVERLOADED)
        await until(lambda: dispatcher.backlog.queued == 1)
        assert sample(await stack.metrics(), "queue_requests", tenant="alice") == 1
        versions.apply(stack)
        assert sample(await stack.metrics(), "queue_requests", tenant="alice") == 1
        assert list(tenants.by_name["alice"].node.queue.values()) == [dispatcher.jobs[0].request]
        dispatcher.capacity.paused = False
        dispatcher.pump()
        (await scripted.play()).answer(STREAMED)
        assert await crowd.status("again") == 200
    assert sample(await stack.metrics(), "service_total", tenant="alice") == STREAMED_COST


async def test_those_who_belong_to_no_tenant_are_finished_when_the_policy_takes_them_no_more(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port)
    nobody = request("/generate", generate())
    async with RawClient(stack.data) as client:
        assert (await client.ask(nobody)).status == 401
        versions.apply(stack, identity={"onUnidentified": "Anonymous"}, anonymous={"weight": 1})
        client.send(nobody)
        play = await scripted.play()
        assert sample(await stack.metrics(), "in_flight_requests", tenant="anonymous") == 1
        versions.apply(stack)
        play.answer(json_reply({"generated_text": "x"}))
        assert (await client.reply()).status == 200
        assert (await client.ask(nobody)).status == 401
    text = await stack.metrics()
    assert sample(text, "requests_total", tenant="other", outcome="completed") == 1
    assert 'tenant="anonymous"' not in text


async def test_a_hundred_reloads_leave_no_node_behind(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    assert stack.proxy is not None
    scheduler = stack.proxy.dispatcher.scheduler
    documents = [
        versions.document(**policy, backpressure=ONE_AT_A_TIME) for each in CHANGES.values() for policy in each
    ]
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        for number in range(3):
            await crowd.join(f"alice-{number}", "alice")
            await crowd.join(f"bob-{number}", "bob")
        for number in range(100):
            stack.proxy.apply(documents[number % len(documents)])
            scheduler.check()
            await asyncio.sleep(0)
        assert len(await serve_in_turn(scripted, play, 6)) == 6
    versions.apply(stack, tenants=[BOB])
    assert [node.name for node in scheduler.nodes()] == ["bob"]
