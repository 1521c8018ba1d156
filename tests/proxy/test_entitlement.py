"""What a tenant was entitled to, how long it was backlogged, how long the engine idled: on a clock that the test moves.

A tenant is backlogged while it has queued work that its own limits allow; only then may these counters move.
"""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.entitlement import Entitlement
from fairqueue_proxy.scheduler import MICRO, Limits, Node, Request, Scheduler
from proxy.desk import Desk
from upstream_engine import FakeClock


class Market:
    """A scheduler and the entitlement that follows it. Service is prompt tokens, at one cost unit each."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.entitlement = Entitlement(self.clock)
        self.scheduler = Scheduler(
            clock=self.clock,
            before_activity=self.entitlement.before_activity,
            before_flight=self.entitlement.before_flight,
        )

    def queue(self, leaf: Node, count: int = 1) -> list[Request]:
        requests = [Request(leaf, prompt_tokens=0, max_output_tokens=1) for _ in range(count)]
        for request in requests:
            self.scheduler.enqueue(request)
        return requests

    def start(self) -> Request:
        """Lets the next one in."""
        request = self.scheduler.dispatch(lambda request: True)
        assert request is not None
        return request

    def start_of(self, leaf: Node) -> Request:
        """Lets one of this leaf in; nobody else may be before it."""
        request = self.start()
        assert request.leaf is leaf
        return request

    def serve(self, request: Request, units: int) -> None:
        """The request, in flight, is charged so much."""
        self.scheduler.prompt(request, units)

    def entitled(self, *nodes: Node) -> list[float]:
        return [self.entitlement.entitled(node) / MICRO for node in nodes]

    def backlogged(self, *nodes: Node) -> list[float]:
        return [self.entitlement.active_seconds(node) for node in nodes]


@pytest.fixture
def market() -> Market:
    return Market()


def test_nobody_is_entitled_to_anything_before_something_was_served(market: Market) -> None:
    alice = market.scheduler.add_node("alice")
    market.queue(alice)
    assert market.entitled(alice) == [0]
    assert market.backlogged(alice) == [0]


def test_the_only_one_that_is_backlogged_is_entitled_to_all_that_is_served(market: Market) -> None:
    alice, bob = (market.scheduler.add_node(name) for name in ("alice", "bob"))
    market.queue(alice, 2)
    market.serve(market.start(), 100)
    assert market.entitled(alice, bob) == [100, 0]


@pytest.mark.parametrize("served", ["alice", "bob"])
def test_those_who_are_backlogged_share_by_weight_whoever_got_it(market: Market, served: str) -> None:
    first = market.scheduler.add_node(served, weight={"alice": 3, "bob": 1}[served])
    market.queue(first)
    running = market.start()
    other = market.scheduler.add_node("bob" if served == "alice" else "alice", weight=4 - first.weight)
    nodes = {first.name: first, other.name: other}
    market.queue(first)
    market.queue(other)
    market.serve(running, 100)
    assert market.entitled(nodes["alice"], nodes["bob"]) == [75, 25]


def test_what_is_served_while_nobody_is_backlogged_is_nobodys_share(market: Market) -> None:
    alice, bob = (market.scheduler.add_node(name) for name in ("alice", "bob"))
    market.queue(alice)
    running = market.start_of(alice)
    market.serve(running, 100)
    market.clock.now_seconds += 10
    assert market.entitled(alice, bob) == [0, 0]
    assert market.backlogged(alice, bob) == [0, 0]
    # Nor is it anybody's afterwards.
    market.queue(bob)
    assert market.entitled(alice, bob) == [0, 0]


def test_who_joins_has_no_share_in_what_was_served_before(market: Market) -> None:
    alice, bob = (market.scheduler.add_node(name) for name in ("alice", "bob"))
    market.queue(alice, 2)
    running = market.start_of(alice)
    market.serve(running, 100)
    market.queue(bob)
    assert market.entitled(alice, bob) == [100, 0]
    market.serve(running, 300)
    assert market.entitled(alice, bob) == [200, 100]


def test_who_leaves_keeps_what_it_was_entitled_to_and_gets_no_more(market: Market) -> None:
    alice, bob = (market.scheduler.add_node(name) for name in ("alice", "bob"))
    market.queue(alice, 2)
    running = market.start_of(alice)
    (waiting,) = market.queue(bob)
    market.serve(running, 100)
    market.scheduler.cancel(waiting)
    market.serve(running, 180)
    assert market.entitled(alice, bob) == [130, 50]
    market.queue(bob)
    market.serve(running, 200)
    assert market.entitled(alice, bob) == [140, 60]


def test_a_groups_share_is_shared_among_its_backlogged_members(market: Market) -> None:
    group = market.scheduler.add_node("group", weight=3)
    first, second, idle = (market.scheduler.add_node(name, group) for name in ("first", "second", "idle"))
    alone = market.scheduler.add_node("alone")
    market.queue(alone)
    running = market.start_of(alone)
    for leaf in (alone, first, second):
        market.queue(leaf)
    market.serve(running, 400)
    assert market.entitled(group, alone) == [300, 100]
    assert market.entitled(first, second, idle) == [150, 150, 0]


def test_shares_add_up_to_what_was_served_while_somebody_was_backlogged(market: Market) -> None:
    leaves = [market.scheduler.add_node(f"t{number}", weight=number) for number in range(1, 5)]
    market.queue(leaves[0], 2)
    running = market.start_of(leaves[0])
    for units, leaf in zip(range(10, 50, 10), leaves, strict=True):
        market.queue(leaf)
        market.serve(running, units)
    assert sum(market.entitled(*leaves)) == pytest.approx(40)
    assert market.entitled(market.scheduler.root) == [40]


def test_who_is_served_without_waiting_takes_its_part_and_no_more(market: Market) -> None:
    """Else the one that waits would be owed what a fair order never gives it."""
    alice, bob = (market.scheduler.add_node(name, weight=weight) for name, weight in (("alice", 3), ("bob", 1)))
    market.queue(alice)
    running = market.start_of(alice)
    market.queue(bob)
    market.serve(running, 100)
    assert market.entitled(alice, bob) == [0, 25]
    market.scheduler.finish(running)
    # Alone again.
    other = market.start_of(bob)
    market.queue(bob)
    market.serve(other, 60)
    assert market.entitled(alice, bob) == [0, 85]


def test_out_of_turn_and_given_back_it_counts_while_it_is_in_the_engine(market: Market) -> None:
    alice, bob = (market.scheduler.add_node(name) for name in ("alice", "bob"))
    market.queue(alice)
    running = market.start_of(alice)
    (early,) = market.queue(bob)
    market.scheduler.start_out_of_turn(early)
    market.queue(alice)
    market.serve(running, 100)
    assert market.entitled(alice, bob) == [50, 0]
    market.scheduler.drop(early)
    market.serve(running, 130)
    assert market.entitled(alice, bob) == [80, 0]


def test_what_is_owed_counts_from_the_beginning_of_a_wait_to_its_end(market: Market) -> None:
    alice, bob = (market.scheduler.add_node(name) for name in ("alice", "bob"))
    market.queue(alice, 2)
    running = market.start_of(alice)
    market.queue(bob)
    market.serve(running, 100)
    assert [market.entitlement.owed(node) / MICRO for node in (alice, bob)] == [0, 50]
    started = market.start_of(bob)
    # It waits no more, and got all that it asked for.
    assert market.entitlement.owed(bob) == 0
    market.queue(bob)
    assert market.entitlement.owed(bob) == 0
    market.serve(running, 160)
    assert market.entitlement.owed(bob) / MICRO == 30
    market.serve(started, 40)
    assert market.entitlement.owed(bob) / MICRO == 10


def test_what_is_let_in_is_not_owed_before_it_is_charged() -> None:
    clock = FakeClock()
    entitlement = Entitlement(clock)
    hooks = {"before_activity": entitlement.before_activity, "before_flight": entitlement.before_flight}
    scheduler = Scheduler(clock=clock, **hooks)
    alice, bob = (scheduler.add_node(name) for name in ("alice", "bob"))
    requests = [Request(leaf, prompt_tokens=50, max_output_tokens=1) for leaf in (alice, alice, bob, bob)]
    for request in requests:
        scheduler.enqueue(request)
    first, second = (scheduler.dispatch(lambda request: True) for _ in range(2))
    assert first is not None
    assert second is not None
    assert {first.leaf, second.leaf} == {alice, bob}
    scheduler.prompt(first, 80)
    # Of 80 cost units each was entitled to half, and of the second's 50 are let in.
    assert entitlement.owed(second.leaf) == 0


def test_a_new_weight_counts_from_now_on_for_who_waits_and_is_served(market: Market) -> None:
    alice, bob = (market.scheduler.add_node(name) for name in ("alice", "bob"))
    market.queue(alice, 2)
    running = market.start_of(alice)
    market.queue(bob)
    market.serve(running, 100)
    market.scheduler.reweigh(alice, 3)
    market.serve(running, 200)
    assert market.entitled(alice, bob) == [125, 75]


@given(st.randoms(use_true_random=False))
def test_shares_are_those_of_processor_sharing_worked_out_naively(random: Random) -> None:
    market = Market()
    scheduler = market.scheduler
    groups = [scheduler.add_node(f"group{number}", weight=random.randint(1, 4)) for number in range(2)]
    parents = [scheduler.root, *groups, *groups]
    leaves = [scheduler.add_node(f"t{n}", it, weight=random.randint(1, 4)) for n, it in enumerate(parents)]
    nodes = [*groups, *leaves]
    shares: dict[Node, float] = dict.fromkeys(nodes, 0.0)
    queued: list[Request] = []
    running: dict[Request, int] = {}
    for _ in range(60):
        what = random.choice(["queue", "start", "early", "finish", "cancel", "serve", "serve"])
        if what == "queue":
            queued += market.queue(random.choice(leaves))
        elif what == "start" and queued:
            started = market.start()
            queued.remove(started)
            running[started] = 0
        elif what in ("early", "cancel") and queued:
            request = queued.pop(random.randrange(len(queued)))
            if what == "cancel":
                scheduler.cancel(request)
            else:
                scheduler.start_out_of_turn(request)
                running[request] = 0
        elif what == "finish" and running:
            ended = random.choice(list(running))
            # What it is charged at its end is what it was charged before.
            scheduler.finish(ended, prompt_tokens=running.pop(ended), output_tokens=0)
        elif what == "serve" and running:
            served, units = random.choice(list(running)), random.randint(1, 100)
            handed_out: dict[Node, float] = {scheduler.root: units}
            for node in nodes:
                parent = node.parent
                assert parent is not None
                busy = sum(it.weight for it in parent.children.values() if it.active or it.in_flight)
                if node.active:
                    handed_out[node] = handed_out.get(parent, 0.0) * node.weight / busy
                    shares[node] += handed_out[node]
            running[served] += units
            market.serve(served, running[served])
        assert market.entitled(*nodes) == pytest.approx([shares[node] for node in nodes])


def test_backlogged_time_runs_while_work_is_queued_and_stands_while_it_is_only_in_flight(market: Market) -> None:
    alice, bob = (market.scheduler.add_node(name) for name in ("alice", "bob"))
    market.queue(alice, 2)
    market.start_of(alice)
    market.clock.now_seconds += 3
    assert market.backlogged(alice, bob) == [3, 0]
    market.start_of(alice)
    market.clock.now_seconds += 10
    assert market.backlogged(alice, bob) == [3, 0]
    market.queue(alice)
    market.clock.now_seconds += 4
    assert market.backlogged(alice, bob) == [7, 0]


def test_time_at_ones_own_limit_is_not_backlogged_and_entitles_to_nothing(market: Market) -> None:
    capped = market.scheduler.add_node("capped", limits=Limits(max_in_flight=1))
    market.queue(capped, 2)
    market.clock.now_seconds += 1
    running = market.start_of(capped)
    market.clock.now_seconds += 10
    market.serve(running, 100)
    assert market.backlogged(capped) == [1]
    assert market.entitled(capped) == [0]
    market.scheduler.finish(running)
    market.clock.now_seconds += 5
    assert market.backlogged(capped) == [6]


def test_capacity_idles_while_somebody_waits_and_something_is_free() -> None:
    desk = Desk("alice", places=3)
    dispatcher = desk.dispatcher
    # One place is free, but it takes two.
    running, waiting = (desk.submit("alice", sequences=2) for _ in range(2))
    desk.clock.now_seconds += 3
    assert dispatcher.idle_capacity_seconds == 3
    desk.finish(running)
    assert waiting.dispatched_at == desk.clock()
    desk.clock.now_seconds += 10
    assert dispatcher.idle_capacity_seconds == 3
    desk.finish(waiting)


def test_capacity_does_not_idle_while_the_engine_takes_nothing() -> None:
    desk = Desk("alice")
    desk.dispatcher.capacity.paused = True
    waiting = desk.submit("alice")
    desk.clock.now_seconds += 5
    desk.dispatcher.capacity.paused = False
    desk.dispatcher.pump()
    assert (waiting.dispatched_at, desk.dispatcher.idle_capacity_seconds) == (1005.0, 0)
    desk.finish(waiting)


def test_capacity_does_not_idle_while_the_engine_is_full_or_nobody_waits() -> None:
    desk = Desk("alice")
    desk.clock.now_seconds += 5
    running, waiting = desk.submit("alice"), desk.submit("alice")
    desk.clock.now_seconds += 5
    assert (waiting.dispatched_at, desk.dispatcher.idle_capacity_seconds) == (None, 0)
    desk.finish(running)
    desk.clock.now_seconds += 5
    desk.finish(waiting)
    desk.clock.now_seconds += 5
    assert desk.dispatcher.idle_capacity_seconds == 0


def test_capacity_does_not_idle_when_who_waits_is_at_its_own_limit() -> None:
    desk = Desk("alice", places=2)
    desk.tenants["alice"].node.limits = Limits(max_in_flight=1)
    running, waiting = desk.submit("alice"), desk.submit("alice")
    desk.clock.now_seconds += 5
    assert (running.dispatched_at, waiting.dispatched_at) == (1000.0, None)
    assert desk.dispatcher.idle_capacity_seconds == 0
    desk.dispatcher.leave(waiting)
    desk.finish(running)
    assert desk.dispatcher.idle_capacity_seconds == 0
