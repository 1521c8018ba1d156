"""A policy that changes while requests wait and run: weights, limits, tenants that move or leave, another cost."""

import pytest

from fairqueue_proxy.scheduler import Cost, Limits, Node, Request, Scheduler, State
from scheduler.scenario import charge, plain_scheduler, send, serve, start_next


def order(core: Scheduler, count: int) -> list[str]:
    """Whose requests go next, each served at once."""
    names = []
    for _ in range(count):
        request = start_next(core)
        names.append(request.leaf.name)
        serve(core, request)
    return names


def flooded(core: Scheduler, *nodes: Node, count: int = 20) -> None:
    for _ in range(count):
        for node in nodes:
            send(core, node, prompt=100)


def test_a_new_weight_counts_from_now_on() -> None:
    core = plain_scheduler()
    alice, bob = core.add_node("alice"), core.add_node("bob")
    flooded(core, alice, bob)
    order(core, 8)
    assert (alice.settled, bob.settled) == (400.0, 400.0)
    core.reweigh(alice, 3)
    assert (alice.settled, bob.settled) == (400.0, 400.0)
    assert sorted(order(core, 8)) == ["alice"] * 6 + ["bob"] * 2
    core.check()


def test_more_weight_brings_a_tenant_forward_at_once() -> None:
    core = plain_scheduler()
    alice, bob = core.add_node("alice"), core.add_node("bob")
    flooded(core, alice, bob)
    running = [start_next(core) for _ in range(2)]
    first = start_next(core)
    head = core.head()
    assert head is not None
    assert (first.leaf, head.leaf) == (alice, bob)
    # Two of alice's are reserved for, one of bob's; at four times the weight hers count for half of his.
    core.reweigh(alice, 4)
    head = core.head()
    assert head is not None
    assert head.leaf is alice
    for request in (*running, first):
        serve(core, request)


def test_the_old_bound_stands_until_all_are_within_the_new_one() -> None:
    core = plain_scheduler()
    light, heavy = core.add_node("light"), core.add_node("heavy", weight=10)
    flooded(core, light, heavy)
    for request in [start_next(core) for _ in range(2)]:
        serve(core, request)
    before = core.gap(core.root)
    core.reweigh(light, 10)
    between = core.gap(core.root)
    assert between.bound == before.bound
    assert between.bound / 10 < between.gap
    order(core, 20)
    after = core.gap(core.root)
    assert after.bound == before.bound / 10
    assert after.gap <= after.bound


def test_a_request_is_charged_by_the_cost_function_that_it_was_started_under() -> None:
    core = plain_scheduler(cost=Cost(input_token=1, output_token=2))
    alice = core.add_node("alice")
    first, second = send(core, alice, prompt=10), send(core, alice, prompt=10)
    running = start_next(core)
    assert running is first
    core.cost = Cost(input_token=5, output_token=7)
    core.output(first, 3, exact=True)
    core.prompt(first, 10)
    core.finish(first)
    assert first.charged == 16_000_000
    assert start_next(core) is second
    core.prompt(second, 10)
    core.output(second, 3, exact=True)
    core.finish(second)
    assert second.charged == 71_000_000


def test_what_a_removed_tenant_has_queued_is_finished_under_its_last_weight_and_then_it_is_gone() -> None:
    core = plain_scheduler()
    alice, bob = core.add_node("alice", weight=3), core.add_node("bob")
    flooded(core, alice, bob, count=6)
    core.retire(alice)
    assert alice.leaving
    assert "alice" not in core.root.children
    names = [start_next(core) for _ in range(8)]
    assert sum(request.leaf is alice for request in names) == 6
    assert alice in core.nodes()
    for request in names:
        serve(core, request)
    assert list(core.nodes()) == [bob]
    core.check()


def test_a_removed_tenant_that_has_nothing_to_do_is_gone_at_once_and_its_name_is_free() -> None:
    core = plain_scheduler()
    group = core.add_node("group")
    core.add_node("alice", group)
    removed: list[str] = []
    core._after_removal = lambda node: removed.append(node.path_name)
    core.retire(group)
    assert list(core.nodes()) == []
    assert len(removed) == 2
    assert core.add_node("group").name == "group"


def test_the_root_stays() -> None:
    core = plain_scheduler()
    with pytest.raises(ValueError, match="root"):
        core.retire(core.root)


def test_a_group_that_left_goes_with_the_last_request_below_it() -> None:
    core = plain_scheduler()
    group = core.add_node("group")
    alice = core.add_node("alice", group)
    core.add_node("bob", group)
    send(core, alice)
    running = start_next(core)
    core.retire(group)
    assert [node.leaving for node in core.nodes()] == [True, True]
    serve(core, running)
    assert list(core.nodes()) == []


def test_a_moved_tenant_starts_at_the_level_of_its_new_siblings_and_takes_its_queue_along() -> None:
    core = plain_scheduler()
    rich, poor = core.add_node("rich"), core.add_node("poor")
    alice, bob, carol = core.add_node("alice", rich), core.add_node("bob", rich), core.add_node("carol", poor)
    flooded(core, alice, bob, count=9)
    order(core, 12)
    waiting = [request for request in alice.queue.values()]
    assert alice.settled > 0
    flooded(core, carol, count=4)
    moved = core.add_node("alice", poor)
    core.transfer((request, moved) for request in waiting)
    core.retire(alice)
    assert list(moved.queue.values()) == waiting
    # The counters of other siblings are another clock: with what she had there she would wait for ever here.
    assert moved.settled == carol.settled
    assert list(rich.children) == ["bob"]
    core.check()


def test_requests_keep_their_order_whatever_they_are_put_beside() -> None:
    core = plain_scheduler()
    alice, bob = core.add_node("alice"), core.add_node("bob")
    first, second, third = send(core, alice), send(core, bob), send(core, alice)
    core.transfer([(first, bob), (third, bob)])
    assert list(bob.queue.values()) == [first, second, third]
    assert not alice.active
    assert core.head() is first


def test_only_what_is_queued_can_be_moved() -> None:
    core = plain_scheduler()
    alice, bob = core.add_node("alice"), core.add_node("bob")
    request = send(core, alice)
    start_next(core)
    with pytest.raises(AssertionError):
        core.transfer([(request, bob)])


def test_who_gives_its_queue_away_does_not_join_for_what_is_left_of_it_meanwhile() -> None:
    told: list[Node] = []
    core = Scheduler(clock=lambda: 0.0, before_activity=told.append)
    alice, bob = core.add_node("alice", limits=Limits(max_in_flight=3)), core.add_node("bob")
    send(core, alice, sequences=2)
    start_next(core)
    charge(core, bob, 1)
    # Two of three slots are taken: alice's next does not fit. The one behind it would.
    waiting = [send(core, alice, sequences=2), send(core, alice)]
    moved = core.add_node("moved")
    assert core.root.last_left is bob
    told.clear()
    core.transfer((request, moved) for request in waiting)
    assert told == [moved]
    assert core.root.last_left is bob


def test_a_new_limit_holds_at_once_and_a_lifted_one_too() -> None:
    core = plain_scheduler()
    alice = core.add_node("alice")
    flooded(core, alice, count=3)
    start_next(core)
    core.limit(alice, Limits(max_in_flight=1))
    assert core.head() is None
    core.limit(alice, Limits())
    assert core.head() is not None


def test_a_debt_of_tokens_outlives_a_new_rate() -> None:
    now = 0.0
    core = Scheduler(clock=lambda: now)
    alice = core.add_node("alice", limits=Limits(tokens_per_minute=60))
    flooded(core, alice, count=3)
    request = start_next(core)
    core.prompt(request, 180)
    assert core.next_change() == 120.0
    # The same 120 tokens below zero, at twice the rate, of a bucket that holds twice as much.
    core.limit(alice, Limits(tokens_per_minute=120))
    assert core.next_change() == 30.0
    core.limit(alice, Limits())
    assert core.next_change() is None
    assert core.head() is not None


def test_a_request_that_comes_back_finds_its_old_place_even_when_its_tenant_left() -> None:
    core = plain_scheduler()
    alice = core.add_node("alice")
    request: Request = send(core, alice)
    start_next(core)
    core.retire(alice)
    core.requeue(request)
    assert request.state is State.QUEUED
    assert core.head() is request
    core.cancel(request)
    assert list(core.nodes()) == []
