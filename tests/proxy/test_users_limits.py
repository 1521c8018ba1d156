"""Limits and bounds on a tenant whose users have leaves of their own: they hold for all of them together, who has to go
is found among them, and of users that have gone nothing is kept."""

from collections.abc import Callable
from typing import Any

import pytest

from fairqueue_proxy.backlog import Bound, Bounds
from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.scheduler import State
from proxy.conftest import StartProxy
from proxy.crowd import ONE_AT_A_TIME, Crowd, occupy, serve_in_turn
from proxy.scripted_engine import ScriptedEngine, json_reply
from proxy.users_desk import UsersDesk

GATEWAY = "127.0.0.2"
GENERATED = json_reply({"generated_text": "x"})
MINUTE_TOKENS = 600


def split_policy(within: str, **limits: int) -> dict[str, Any]:
    """Alice's users, or identities below `anonymous`, under these limits; bob is beside them."""
    sources = [
        {"name": "gateway", "type": "Header", "header": {"name": "X-Tenant", "trustedCIDRs": [f"{GATEWAY}/32"]}},
        {"name": "api-key", "type": "APIKey", "apiKey": {}},
    ]
    tenants: list[dict[str, Any]] = [{"name": "alice", "fairWithin": "User"}, {"name": "bob"}]
    anonymous: dict[str, Any] = {}
    (tenants[0] if within == "alice" else anonymous)["limits"] = limits
    identity = {"onUnidentified": "Anonymous", "sources": sources}
    return {"tenants": tenants, "anonymous": anonymous, "identity": identity}


async def join(crowd: Crowd, name: str, within: str, member: str) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    if within == "alice":
        await crowd.join(name, "alice", {**body, "user": member}, "/v1/chat/completions")
    else:
        await crowd.join(name, None, body, "/v1/chat/completions", headers={"X-Tenant": member}, source=GATEWAY)


@pytest.mark.parametrize("within", ["alice", "anonymous"])
async def test_all_members_of_a_class_have_no_more_in_flight_than_its_limit(
    start_proxy: StartProxy, scripted: ScriptedEngine, within: str
) -> None:
    stack = await start_proxy(scripted.port, **split_policy(within, maxInFlight=2))
    assert stack.proxy is not None
    tenant = stack.proxy.runtime.tenants.by_name[within]
    async with Crowd(stack) as crowd:
        for member in ("ann", "ben", "cem", "dan"):
            await join(crowd, member, within, member)
        plays = [await scripted.play(), await scripted.play()]
        assert tenant.in_flight == 2
        assert {row["why"] for row in (await stack.queue())["queued"]} == {"its tenant is at its own limit"}
        # It holds up nobody else.
        await crowd.join("other", "bob")
        (await scripted.play()).answer(GENERATED)
        assert await crowd.status("other") == 200
        for play in plays:
            play.answer(GENERATED)
            (await scripted.play()).answer(GENERATED)
            assert tenant.in_flight <= 2
        assert [await crowd.status(name) for name in ("ann", "ben", "cem", "dan")] == [200] * 4


@pytest.mark.parametrize("within", ["alice", "anonymous"])
async def test_all_members_of_a_class_wait_within_its_bound(
    start_proxy: StartProxy, scripted: ScriptedEngine, within: str
) -> None:
    stack = await start_proxy(scripted.port, **split_policy(within, maxQueued=2), backpressure=ONE_AT_A_TIME)
    async with Crowd(stack) as crowd:
        play = await occupy(crowd, scripted, "bob")
        for member in ("ann", "ben", "cem"):
            await join(crowd, member, within, member)
        reply = await crowd.tasks["cem"]
        assert (reply.status, reply.json["error"]["reason"]) == (429, "tenant_queue_full")
        assert reply.headers["x-fairqueue-tenant"] == within
        await crowd.join("other", "bob")
        assert crowd.waiting() == ["occupant", "ann", "ben", "other"]
        await serve_in_turn(scripted, play, 3)
        assert [await crowd.status(name) for name in ("ann", "ben", "other")] == [200] * 3


@pytest.mark.parametrize("within", ["alice", "anonymous"])
async def test_members_wait_until_what_another_has_overdrawn_is_paid(
    start_proxy: StartProxy, scripted: ScriptedEngine, within: str
) -> None:
    stack = await start_proxy(scripted.port, **split_policy(within, tokensPerMinute=60_000))
    async with Crowd(stack) as crowd:
        await join(crowd, "greedy", within, "ann")
        usage = {"prompt_tokens": 60_100, "completion_tokens": 200, "total_tokens": 60_300}
        (await scripted.play()).answer(json_reply({"choices": [], "usage": usage}))
        assert await crowd.status("greedy") == 200
        # 300 tokens at 1000 a second, less what has gone by since.
        await join(crowd, "next", within, "ben")
        await crowd.join("other", "bob")
        play = await scripted.play()
        assert play.headers["x-request-id"] == "other"
        play.answer(GENERATED)
        (await scripted.play()).answer(GENERATED)
        reply = await crowd.tasks["next"]
        assert reply.status == 200
        assert 0.1 < float(reply.headers["x-fairqueue-queue-seconds"]) < 2.0


def test_prompt_and_output_of_all_users_draw_on_one_bucket() -> None:
    desk = UsersDesk(places=10, tokens_per_minute=MINUTE_TOKENS)
    first = desk.submit_of("ann", "first", prompt_tokens=MINUTE_TOKENS - 1)
    # Something is left, so the next one goes, however much it takes.
    second = desk.submit_of("ben", "second", prompt_tokens=100)
    third = desk.submit_of("cem", "third")
    assert desk.queued() == ["third"]
    desk.finish(first)
    desk.finish(second)
    # Owed: 99 of the prompts and one token of each output, at ten a second.
    assert desk.dispatcher.scheduler.next_change() == pytest.approx(desk.clock() + 10.1)
    desk.wait(10.0)
    assert desk.queued() == ["third"]
    desk.submit("bob", "other")
    assert desk.queued() == ["third"]
    desk.wait(0.11)
    assert desk.queued() == []
    desk.finish(third)


def test_a_tenant_in_debt_takes_no_credit_along_from_its_wait() -> None:
    desk = UsersDesk(tokens_per_minute=MINUTE_TOKENS)
    job = desk.submit_of("ann", prompt_tokens=2 * MINUTE_TOKENS)
    desk.submit_of("ben", "late")
    for number in range(3):
        desk.submit_of("bob", f"bob-{number}", tenant="bob", prompt_tokens=2000)
    desk.finish(job)
    for _ in range(3):
        (running,) = (each for each in desk.dispatcher.jobs if each.scheduled.state is State.IN_FLIGHT)
        desk.finish(running)
    assert desk.queued() == ["late"]
    assert not desk.alice.active
    desk.wait(61)
    assert desk.queued() == []
    assert desk.alice.settled >= desk.tenants["bob"].node.settled > 6000


@pytest.fixture
def desk() -> UsersDesk:
    """Bob has the engine's only place; alice's users have leaves."""
    desk = UsersDesk()
    desk.submit("bob", "occupant")
    return desk


def victim(desk: UsersDesk, bound: Bound) -> str:
    job = desk.dispatcher.backlog.victim(desk.dispatcher.scheduler.root, bound)
    assert job is not None
    return job.request_id


def test_what_waits_counts_at_its_user_and_at_its_tenant(desk: UsersDesk) -> None:
    backlog, node = desk.dispatcher.backlog, desk.alice
    jobs = [desk.submit_of(user) for user in ("ann", "ann", "ben")]
    assert [backlog.queued_of(each) for each in (node, node.children["=ann"], node.children["=ben"])] == [3, 2, 1]
    desk.dispatcher.leave(jobs[0])
    assert [backlog.queued_of(each) for each in (node, node.children["=ann"], node.children["=ben"])] == [2, 1, 1]
    desk.dispatcher.leave(jobs[2])
    assert [backlog.queued_of(each) for each in (node, node.children["=ann"])] == [1, 1]
    assert "=ben" not in node.children


def test_of_a_split_tenant_the_newest_of_the_user_with_most_gives_way(desk: UsersDesk) -> None:
    for number in range(3):
        desk.submit_of("busy", f"busy-{number}", size_bytes=1)
    for number in range(2):
        desk.submit_of("calm", f"calm-{number}", size_bytes=9)
    desk.submit_of("bob", "bob-0", tenant="bob", size_bytes=12)
    assert victim(desk, Bound.REQUESTS) == "busy-2"
    assert victim(desk, Bound.BYTES) == "calm-1"


def test_many_users_do_not_hide_a_tenants_flood(desk: UsersDesk) -> None:
    for number in range(6):
        desk.submit_of(f"user-{number}", f"made-up-{number}", size_bytes=1)
    for number in range(4):
        desk.submit_of("bob", f"bob-{number}", tenant="bob", size_bytes=1)
    for bound in Bound:
        assert victim(desk, bound).startswith("made-up")


@pytest.mark.parametrize(("arriving", "gone"), [(50, "arriving"), (5, "busy-1")])
def test_a_body_that_still_arrives_is_weighed_against_the_users_of_its_tenant(
    desk: UsersDesk, arriving: int, gone: str
) -> None:
    """Whose it is nobody knows before all of it is there."""
    for number in range(2):
        desk.submit_of("busy", f"busy-{number}", size_bytes=10)
    desk.receiving("alice", "arriving", arriving)
    assert victim(desk, Bound.BYTES) == gone
    assert victim(desk, Bound.REQUESTS) == "busy-1"


def test_an_arrival_beyond_the_pods_bound_drives_out_the_flooding_user(desk: UsersDesk) -> None:
    desk.dispatcher.backlog.bounds = Bounds(5, 100, 100, 100)
    flood = [desk.submit_of("busy", f"busy-{number}") for number in range(4)]
    desk.submit_of("calm", "calm")
    desk.submit("bob", "bob-0")
    assert desk.queued() == ["busy-0", "busy-1", "busy-2", "calm", "bob-0"]
    assert flood[3].refused is not None
    with pytest.raises(Refused):
        desk.submit_of("busy", "busy-4")
    desk.submit_of("calm", "calm-1")
    assert desk.queued() == ["busy-0", "busy-1", "calm", "bob-0", "calm-1"]


def served(desk: UsersDesk, job: Job) -> None:
    desk.finish(job)


def put_back_and_served(desk: UsersDesk, job: Job) -> None:
    desk.dispatcher.put_back(job)
    desk.finish(job)


def put_back_and_left(desk: UsersDesk, job: Job) -> None:
    desk.dispatcher.capacity.paused = True
    desk.dispatcher.put_back(job)
    desk.dispatcher.leave(job)
    desk.dispatcher.capacity.paused = False


def dropped(desk: UsersDesk, job: Job) -> None:
    desk.dispatcher.drop(job)


IN_THE_ENGINE = [served, put_back_and_served, put_back_and_left, dropped]


def hung_up_in_the_queue(desk: UsersDesk, name: str) -> None:
    desk.dispatcher.leave(desk.submit_of(name, size_bytes=3))


def refused_in_the_queue(desk: UsersDesk, name: str) -> None:
    desk.dispatcher.refuse(desk.submit_of(name, size_bytes=3), Refused(Outcome.QUEUE_FULL, "x"))


def hung_up_while_sending(desk: UsersDesk, name: str) -> None:
    desk.dispatcher.leave(desk.receiving("alice", name, 3))


def refused_as_its_last_bytes_came(desk: UsersDesk, name: str) -> None:
    job = desk.receiving("alice", name, 3)
    desk.dispatcher.refuse(job, Refused(Outcome.QUEUE_FULL, "x"))
    desk.size(job, name)
    with pytest.raises(Refused):
        desk.dispatcher.submit(job)
    desk.dispatcher.leave(job)


def over_its_tenants_bound(desk: UsersDesk, name: str) -> None:
    desk.tenants["alice"].max_queued = 0
    job = desk.receiving("alice", name, 3)
    desk.size(job, name)
    with pytest.raises(Refused):
        desk.dispatcher.submit(job)
    desk.dispatcher.leave(job)
    desk.tenants["alice"].max_queued = None


IN_THE_QUEUE = [
    hung_up_in_the_queue,
    refused_in_the_queue,
    hung_up_while_sending,
    refused_as_its_last_bytes_came,
    over_its_tenants_bound,
]


def assert_nobody_is_remembered(desk: UsersDesk) -> None:
    backlog, scheduler = desk.dispatcher.backlog, desk.dispatcher.scheduler
    assert (backlog._loads, backlog._waiting, backlog._tenant_bytes) == ({}, {}, {})
    assert not backlog.waits
    assert {node.name for node in scheduler.nodes()} == {"alice", "bob"}
    assert {node.name for node in desk.entitlement._shares} <= {"", "alice", "bob"}
    scheduler.check()


@pytest.mark.parametrize("ends", IN_THE_ENGINE, ids=lambda ends: ends.__name__)
def test_nothing_is_kept_of_users_whose_requests_were_in_the_engine(ends: Callable[[UsersDesk, Job], None]) -> None:
    desk = UsersDesk(places=3)
    for turn in range(4):
        jobs = [desk.submit_of(f"user-{turn}-{number}", size_bytes=2) for number in range(3)]
        assert desk.queued() == []
        for job in jobs:
            ends(desk, job)
    assert_nobody_is_remembered(desk)


@pytest.mark.parametrize("ends", IN_THE_QUEUE, ids=lambda ends: ends.__name__)
def test_nothing_is_kept_of_users_who_were_not_let_in(desk: UsersDesk, ends: Callable[[UsersDesk, str], None]) -> None:
    (occupant,) = desk.dispatcher.jobs
    desk.submit_of("steady", "steady")
    for number in range(5):
        ends(desk, f"user-{number}")
        assert set(desk.alice.children) == {"=steady"}
    desk.finish(occupant)
    (steady,) = desk.dispatcher.jobs
    desk.finish(steady)
    assert_nobody_is_remembered(desk)
