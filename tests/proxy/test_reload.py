"""Another document comes into force while requests wait and run: order, keys, places in the tree, limits and bounds.

What becomes of the counters is in `test_reload_counts`, how documents get here in `test_document_watch`.
"""

import asyncio
from typing import Any

import pytest

from fairqueue_proxy import drain as drain_module
from proxy.changing import STREAM, STREAMED, Versions, stream_in_turn, with_engine_key, with_keys
from proxy.conftest import StartProxy, Until
from proxy.crowd import ONE_AT_A_TIME, Crowd, generate, occupy, serve_in_turn
from proxy.raw_client import RawClient, ask, request
from proxy.scripted_engine import LAST_CHUNK, STREAM_HEAD, ScriptedEngine, json_reply, tgi_token

THREE = [{"name": "alice"}, {"name": "bob"}, {"name": "carol"}]
TREE = [{"name": "org"}, {"name": "team", "parent": "org"}, {"name": "other-org"}]


async def test_new_weights_change_the_order_of_what_waits_already(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, tenants=THREE, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "carol")
        for number in range(8):
            for tenant in ("alice", "bob"):
                await crowd.join(f"{tenant}-{number}", tenant, path=STREAM)
        order, play = await stream_in_turn(scripted, play, 4)
        assert order == ["alice-0", "bob-0", "alice-1", "bob-1"]
        heavier = [{"name": "alice", "weight": 3}, *THREE[1:]]
        versions.apply(stack, tenants=heavier, backpressure=ONE_AT_A_TIME)
        order, play = await stream_in_turn(scripted, play, 8)
        assert [name for name in order if name.startswith("alice")] == [f"alice-{number}" for number in range(2, 8)]
        assert [name for name in order if name.startswith("bob")] == ["bob-2", "bob-3"]
        # She has nothing left, and nobody is forgotten.
        order, play = await stream_in_turn(scripted, play, 4)
        assert order == ["bob-4", "bob-5", "bob-6", "bob-7"]
        play.answer(STREAMED)


async def test_a_new_key_works_and_a_removed_one_is_refused_at_once(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port)

    async def status(client: RawClient, key: str) -> int:
        client.send(request("/generate", generate(), headers={"Authorization": f"Bearer {key}"}))
        reply = asyncio.create_task(client.reply())
        play = asyncio.create_task(scripted.play())
        await asyncio.wait({reply, play}, return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            (await play).answer(json_reply({"generated_text": "x"}))
        play.cancel()
        return (await reply).status

    # One connection: whom a key belongs to is asked for each request.
    async with RawClient(stack.data) as client:
        assert [await status(client, key) for key in ("key-of-alice", "newer")] == [200, 401]
        versions.apply(stack, with_keys("alice", "key-of-alice", "newer"))
        assert [await status(client, key) for key in ("key-of-alice", "newer")] == [200, 200]
        versions.apply(stack, with_keys("alice", "newer"))
        assert [await status(client, key) for key in ("key-of-alice", "newer")] == [401, 200]


async def test_a_key_that_goes_over_to_another_tenant_is_that_ones(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port)
    assert stack.proxy is not None
    given_away = with_keys("alice", "another"), with_keys("bob", "key-of-alice")
    versions.apply(stack, lambda document: given_away[0](given_away[1](document)))
    async with Crowd(stack) as crowd:
        await crowd.join("whose", "alice")
        assert [job.tenant.name for job in stack.proxy.dispatcher.jobs] == ["bob"]
        (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        assert await crowd.status("whose") == 200


async def test_what_a_removed_tenant_has_queued_is_served_in_its_turn_and_nothing_new_is_taken(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    assert stack.proxy is not None
    scheduler = stack.proxy.dispatcher.scheduler
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        for number in range(2):
            await crowd.join(f"alice-{number}", "alice")
            await crowd.join(f"bob-{number}", "bob")
        versions.apply(stack, tenants=[{"name": "bob"}], backpressure=ONE_AT_A_TIME)
        await crowd.join("late", "alice")
        assert await crowd.status("late") == 401
        assert len(list(scheduler.nodes())) == 2
        order = await serve_in_turn(scripted, play, 4)
        assert sorted(order) == ["alice-0", "alice-1", "bob-0", "bob-1"]
        assert order.index("alice-1") < 3
        assert [await crowd.status(name) for name in order] == [200] * 4
        assert [node.name for node in scheduler.nodes()] == ["bob"]


async def test_a_tenant_that_comes_back_starts_anew_beside_what_it_left(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        await crowd.join("before", "alice")
        versions.apply(stack, tenants=[{"name": "bob"}], backpressure=ONE_AT_A_TIME)
        versions.apply(stack, backpressure=ONE_AT_A_TIME)
        await crowd.join("after", "alice")
        assert await serve_in_turn(scripted, play, 2) == ["before", "after"]
        assert [await crowd.status(name) for name in ("occupant", "before", "after")] == [200] * 3


async def test_a_tenant_that_moves_takes_its_queue_along_in_order(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    policy: dict[str, Any] = {"groups": TREE, "backpressure": ONE_AT_A_TIME}
    alice, rest = {"name": "alice", "group": "team"}, [{"name": "bob", "group": "org"}, {"name": "carol"}]
    stack = await start_proxy(scripted.port, tenants=[alice, *rest], **policy)
    assert stack.proxy is not None
    scheduler, tenants = stack.proxy.dispatcher.scheduler, stack.proxy.runtime.tenants
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        for number in range(4):
            await crowd.join(f"alice-{number}", "alice")
        for group in ("other-org", None, "team"):
            versions.apply(stack, tenants=[{**alice, "group": group}, *rest], **policy)
            parent = tenants.groups[group] if group is not None else scheduler.root
            assert tenants.by_name["alice"].node.parent is parent
            assert [job["request_id"] for job in (await stack.queue())["queued"]] == [f"alice-{n}" for n in range(4)]
        await crowd.join("bob-0", "bob")
        await crowd.join("alice-4", "alice")
        order = await serve_in_turn(scripted, play, 6)
        assert [name for name in order if name != "bob-0"] == [f"alice-{number}" for number in range(5)]
    assert len(list(scheduler.nodes())) == 6


@pytest.mark.parametrize(
    ("groups", "team_of"),
    [
        pytest.param([], None, id="all groups are gone"),
        pytest.param([{"name": "team"}], "team", id="the lower one stays, at the top"),
        pytest.param([{"name": "org", "parent": "team"}, {"name": "team"}], "org", id="upside down"),
        pytest.param([{"name": "org"}, {"name": "team", "parent": "other-org"}, TREE[2]], "team", id="moved across"),
    ],
)
@pytest.mark.parametrize("queued", [0, 2], ids=["idle", "waiting"])
async def test_groups_may_go_and_move_above_tenants_whose_requests_wait(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    versions: Versions,
    groups: list[dict[str, Any]],
    team_of: str | None,
    queued: int,
) -> None:
    policy: dict[str, Any] = {"backpressure": ONE_AT_A_TIME}
    stack = await start_proxy(
        scripted.port, tenants=[{"name": "alice", "group": "team"}, {"name": "bob"}], groups=TREE, **policy
    )
    assert stack.proxy is not None
    scheduler = stack.proxy.dispatcher.scheduler
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        for number in range(queued):
            await crowd.join(f"alice-{number}", "alice")
        versions.apply(stack, tenants=[{"name": "alice", "group": team_of}, {"name": "bob"}], groups=groups, **policy)
        scheduler.check()
        assert await serve_in_turn(scripted, play, queued) == [f"alice-{number}" for number in range(queued)]
        assert await crowd.status("occupant") == 200
    assert len(list(scheduler.nodes())) == len(groups) + 2


async def test_a_tenant_split_by_users_puts_what_waits_where_it_belongs_and_back_again(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    split = [{"name": "alice", "fairWithin": "User"}, {"name": "bob"}]
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        for name in ("dan-0", "dan-1", "dan-2", "eve-0", "eve-1"):
            chat = {"messages": [{"role": "user", "content": "x"}], "user": name.partition("-")[0]}
            await crowd.join(name, "alice", chat, "/v1/chat/completions")
        versions.apply(stack, tenants=split, backpressure=ONE_AT_A_TIME)
        assert {row["place_in_tenant"] for row in (await stack.queue())["queued"]} == {1, 2, 3}
        order = []
        for _ in range(2):
            play.answer(json_reply({"generated_text": "x"}))
            play = await scripted.play()
            order.append(play.headers["x-request-id"])
        assert order == ["dan-0", "eve-0"]
        versions.apply(stack, backpressure=ONE_AT_A_TIME)
        assert await serve_in_turn(scripted, play, 3) == ["dan-1", "dan-2", "eve-1"]


async def test_a_limit_holds_from_now_on_and_one_that_is_lifted_lets_in_at_once(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port)
    async with Crowd(stack) as crowd:
        plays = [await occupy(crowd, scripted)]
        versions.apply(stack, tenants=[{"name": "alice", "limits": {"maxInFlight": 1}}, {"name": "bob"}])
        await crowd.join("second", "alice")
        (row,) = (await stack.queue())["queued"]
        assert (row["request_id"], row["why"]) == ("second", "its tenant is at its own limit")
        versions.apply(stack)
        plays.append(await scripted.play())
        assert plays[-1].headers["x-request-id"] == "second"
        # A bucket of one token lets one request overdraw it, and no more.
        versions.apply(stack, tenants=[{"name": "alice", "limits": {"tokensPerMinute": 1}}, {"name": "bob"}])
        for name in ("third", "fourth"):
            await crowd.join(name, "alice", generate("x" * 400))
        plays.append(await scripted.play())
        assert [row["request_id"] for row in (await stack.queue())["queued"]] == ["fourth"]
        versions.apply(stack)
        plays.append(await scripted.play())
        for play in plays:
            play.answer(json_reply({"generated_text": "x"}))
        assert [await crowd.status(name) for name in ("second", "third", "fourth")] == [200] * 3


async def test_lower_bounds_on_the_queue_are_for_those_who_come_and_higher_ones_too(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        for number in range(3):
            await crowd.join(f"alice-{number}", "alice")
        tight = [{"name": "alice", "limits": {"maxQueued": 2}}, {"name": "bob"}]
        versions.apply(stack, tenants=tight, backpressure=ONE_AT_A_TIME)
        assert crowd.refused() == {}
        await crowd.join("alice-3", "alice")
        assert await crowd.status("alice-3") == 429
        versions.apply(stack, backpressure=ONE_AT_A_TIME, queue={"maxRequests": 2})
        # Whoever comes makes those give way who are too many now.
        await crowd.join("bob-0", "bob")
        assert [await crowd.status(name) for name in ("alice-1", "alice-2")] == [503, 503]
        assert crowd.waiting() == ["occupant", "alice-0", "bob-0"]
        versions.apply(stack, backpressure=ONE_AT_A_TIME)
        await crowd.join("alice-4", "alice")
        assert sorted(await serve_in_turn(scripted, play, 3)) == ["alice-0", "alice-4", "bob-0"]


async def test_a_larger_body_is_taken_only_by_the_policy_that_allows_it(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, queue={"maxBodyBytes": 1024})
    large = request("/generate", generate("x" * 2000), tenant="alice")
    assert (await ask(stack.data, large)).status == 413
    versions.apply(stack, queue={"maxBodyBytes": 4096})
    asking = asyncio.create_task(ask(stack.data, large))
    (await scripted.play()).answer(json_reply({"generated_text": "x"}))
    assert (await asking).status == 200


async def test_more_room_in_the_engine_is_used_at_once_and_less_when_it_has_become_less(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions, until: Until
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    assert stack.proxy is not None
    dispatcher = stack.proxy.dispatcher
    async with Crowd(stack) as crowd:
        plays = [await occupy(crowd, scripted)]
        for number in range(4):
            await crowd.join(f"r{number}", "bob")
        versions.apply(stack, backpressure={"maxRequests": 3})
        plays += [await scripted.play(), await scripted.play()]
        assert dispatcher.in_flight == 3
        versions.apply(stack, backpressure=ONE_AT_A_TIME)
        for left in (2, 1):
            plays.pop().answer(json_reply({"generated_text": "x"}))
            await until(lambda left=left: dispatcher.in_flight == left)  # type: ignore[misc]
            assert scripted.unanswered == 0
        assert await serve_in_turn(scripted, plays.pop(), 2) == ["r2", "r3"]


async def test_a_drain_ends_when_the_window_in_force_is_over(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    assert stack.proxy is not None
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        await crowd.join("waits", "bob")
        await ask(stack.local, request("/-/drain"))
        assert drain_module.TAKE_SECONDS > 1
        versions.apply(stack, backpressure=ONE_AT_A_TIME, drain={"timeout": "1ms"})
        assert await crowd.status("waits") == 503
        await serve_in_turn(scripted, play, 0)
        assert await crowd.status("occupant") == 200


async def test_whatever_is_sent_to_the_engine_from_now_on_has_its_new_key(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port, backpressure=ONE_AT_A_TIME)
    assert stack.proxy is not None
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted)
        assert "authorization" not in play.headers
        await crowd.join("waits", "bob")
        versions.apply(stack, with_engine_key("first"), backpressure=ONE_AT_A_TIME)
        versions.apply(stack, with_engine_key("second"), backpressure=ONE_AT_A_TIME)
        play.answer(json_reply({"generated_text": "x"}))
        play = await scripted.play()
        # It came under a policy that knew another key; the engine knows only this one.
        assert play.headers["authorization"] == "Bearer second"
        play.answer(json_reply({"generated_text": "x"}))
        assert await crowd.status("waits") == 200
    scripted.asked.clear()
    await stack.proxy.watch.look()
    await stack.get(stack.data, "/metrics")
    assert scripted.asked
    assert all(b"authorization: bearer second\r\n" in head.lower() for head in scripted.asked)


async def test_a_stream_goes_on_whatever_becomes_of_its_tenant(
    start_proxy: StartProxy, scripted: ScriptedEngine, versions: Versions
) -> None:
    stack = await start_proxy(scripted.port)
    policies: list[dict[str, Any]] = [
        {"tenants": [{"name": "alice", "weight": 7}], "cost": {"outputToken": 9}},
        {"tenants": [{"name": "alice", "group": "org"}], "groups": TREE},
        {"tenants": [{"name": "alice", "fairWithin": "User"}]},
        {"tenants": [{"name": "bob"}], "queue": {"timeout": "1ms"}},
    ]
    async with RawClient(stack.data) as client:
        client.send(request(STREAM, generate(), tenant="alice"))
        play = await scripted.play()
        play.write(STREAM_HEAD + tgi_token("first"))
        stream = await client.until(b"\n\n\r\n")
        for policy in policies:
            versions.apply(stack, **policy)
            play.write(tgi_token("more"))
            stream += await client.until(b"\n\n\r\n")
        play.answer(tgi_token("last", last=True) + LAST_CHUNK)
        stream += await client.until(b"\r\n0\r\n\r\n")
        assert stream.count(b"data:") == 6
