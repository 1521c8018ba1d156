"""What stands while weights change, and what those who follow the tree are told of it."""

import pytest

from fairqueue_proxy.scheduler import Gap, Limits, Node, Prediction, Request, Scheduler, State
from scheduler.scenario import Clock, anything_fits, plain_scheduler, send, serve, start_next


def told(core: Scheduler) -> list[tuple[str, bool, int]]:
    """Collects what `before_activity` is told: name, whether active so far, weight so far."""
    notes: list[tuple[str, bool, int]] = []
    core._before_activity = lambda node: notes.append((node.name, node.active, node.weight))
    return notes


def test_who_follows_an_active_node_sees_it_leave_with_the_old_weight_and_come_with_the_new() -> None:
    core = plain_scheduler()
    alice = core.add_node("alice")
    send(core, alice)
    notes = told(core)
    core.reweigh(alice, 3)
    assert notes == [("alice", True, 1), ("alice", False, 3)]
    assert alice.active is True
    core.check()


def test_a_node_that_wants_nothing_changes_its_weight_unseen() -> None:
    core = plain_scheduler()
    alice = core.add_node("alice")
    notes = told(core)
    core.reweigh(alice, 3)
    assert (notes, alice.weight, alice.active) == ([], 3, False)


def test_the_same_weight_again_changes_nothing() -> None:
    core = plain_scheduler()
    alice = core.add_node("alice", weight=2)
    send(core, alice, prompt=9)
    serve(core, start_next(core))
    charged, base = alice._charged, alice._base
    core.reweigh(alice, 2)
    assert (alice._charged, alice._base, core.root.old_lightest) == (charged, base, 0)


def light_and_heavy() -> tuple[Scheduler, Node, Node]:
    """One request of 100 each has been served: keys 100 and 10; H is 600, so the bound 600 by the light one."""
    core = plain_scheduler()
    light, heavy = core.add_node("light"), core.add_node("heavy", weight=10)
    for _ in range(30):
        send(core, light, prompt=100)
        send(core, heavy, prompt=100)
    for request in [start_next(core) for _ in range(2)]:
        serve(core, request)
    return core, light, heavy


def test_between_two_weights_the_old_bound_stands() -> None:
    core, light, _ = light_and_heavy()
    assert core.gap(core.root) == Gap(90.0, 600.0, 2)
    first, second = start_next(core), start_next(core)
    assert (light.reserved, light.key) == (0, 100.0)
    core.reweigh(light, 10)
    moved = core.gap(core.root)
    assert (moved.bound, moved.active) == (core.root.peak_worst / 1_000_000, 2)
    serve(core, first)
    serve(core, second)
    while core.root.old_lightest:
        serve(core, start_next(core))
        gap = core.gap(core.root)
        assert (gap.gap <= gap.bound, gap.active) == (True, 2)
    assert core.root.old_lightest == 0


def test_a_reservation_that_weighs_more_by_a_lighter_weight_is_within_what_stands() -> None:
    core, _, heavy = light_and_heavy()
    running = start_next(core)
    assert running.leaf is heavy
    assert heavy.reserved == 100_000_000
    before = core.gap(core.root).bound
    core.reweigh(heavy, 1)
    # 100 reserved units were 10 of its key and are 100 now.
    assert core.gap(core.root) == Gap(10.0, before, 2)
    serve(core, running)


def test_what_stands_goes_only_when_a_weight_that_falls_again_can_lead_to_no_larger_gap_either() -> None:
    core = plain_scheduler()
    slow, other = core.add_node("slow"), core.add_node("other", weight=10)
    short, long = (send(core, slow, prompt=0, longest=longest) for longest in (45, 450))
    send(core, slow)
    send(core, other)
    for request in (short, long):
        assert start_next(core) is request
    core.output(short, 45, exact=True)
    core.finish(short)
    core.reweigh(slow, 100)
    core.gap(core.root)
    # No lighter than the other one: that changes no bound.
    core.reweigh(slow, 10)
    core.output(long, 450, exact=True)
    gap = core.gap(core.root)
    assert (gap.gap, gap.gap <= gap.bound) == (180.0, True)
    core.finish(long)


def test_a_prompt_that_is_longer_than_estimated_widens_the_bound_after_what_stood_is_gone() -> None:
    core = plain_scheduler()
    alice, bob = core.add_node("alice"), core.add_node("bob", weight=4)
    send(core, bob, prompt=0, longest=800)
    core.finish(start_next(core))
    send(core, alice, prompt=0, longest=195)
    estimated = Request(alice, 40, 0)
    core.enqueue(estimated)
    send(core, alice)
    send(core, bob)
    first = start_next(core)
    assert start_next(core) is estimated
    serve(core, first, output=195)
    core.reweigh(alice, 4)
    assert core.gap(core.root) == Gap(400.0, 400.0, 2)
    assert core.root.old_lightest == 0
    core.prompt(estimated, 440)
    assert core.gap(core.root) == Gap(500.0, 500.0, 2)
    core.finish(estimated)


def test_what_stands_goes_only_when_what_is_still_in_flight_can_lead_to_no_larger_gap() -> None:
    core = plain_scheduler()
    slow, other = core.add_node("slow"), core.add_node("other", weight=10)
    send(core, slow, prompt=0, longest=500)
    running = start_next(core)
    for _ in range(20):
        send(core, other, prompt=100, longest=0)
        send(core, slow, prompt=100, longest=0)
    core.output(running, 100, exact=True)
    assert core.gap(core.root) == Gap(200.0, 1000.0, 2)
    core.reweigh(slow, 10)
    # The other one comes close; the long request has 800 of its 1,000 units still to come, 80 by the new weight.
    while other.key < 110:
        serve(core, start_next(core))
        core.gap(core.root)
    core.output(running, 500, exact=True)
    gap = core.gap(core.root)
    assert (slow.key, other.key) == (280.0, 110.0)
    assert gap.gap <= gap.bound
    core.finish(running)


def test_at_exactly_the_new_bound_nothing_old_stands_any_more() -> None:
    core = plain_scheduler()
    alice, bob = core.add_node("alice"), core.add_node("bob")
    send(core, alice, prompt=0)
    send(core, bob, prompt=0)
    core.root.keep_bound(1)
    assert core.gap(core.root) == Gap(0.0, 0.0, 2)
    assert core.root.old_lightest == 0


def test_what_stands_is_no_tighter_than_the_bound_by_a_lighter_weight_that_has_come_since() -> None:
    core = plain_scheduler()
    alice, bob = core.add_node("alice", weight=5), core.add_node("bob", weight=20)
    running = [send(core, leaf, prompt=0, longest=25) for leaf in (alice, bob)]
    while core.dispatch(anything_fits):
        pass
    core.reweigh(alice, 20)
    assert core.gap(core.root).bound == 100.0 / 5
    core.add_node("light")
    assert core.gap(core.root).bound == 100.0
    for request in running:
        core.finish(request)


def test_without_anybody_active_what_stands_goes_on_standing() -> None:
    core = plain_scheduler()
    core.add_node("alice")
    core.root.keep_bound(1)
    core.root.keep_bound(4)
    assert core.gap(core.root) == Gap(0.0, 0.0, 0)
    assert core.root.old_lightest == 1


def test_a_user_that_gets_a_request_from_elsewhere_is_no_longer_idle() -> None:
    core = plain_scheduler()
    tenant = core.add_node("tenant")
    ann, ben = core.add_node("ann", tenant, transient=True), core.add_node("ben", tenant, transient=True)
    for leaf in (ann, ben):
        send(core, leaf, prompt=50)
    first, second = start_next(core), start_next(core)
    serve(core, second)
    serve(core, first)
    other = core.add_node("other")
    request = send(core, other)
    kept = next(iter(tenant.children.values()), None) or core.add_node("cid", tenant, transient=True)
    core.transfer([(request, kept)])
    assert kept not in tenant.idle
    assert core.head() is request


def test_a_retired_user_is_no_longer_among_the_idle() -> None:
    core = plain_scheduler()
    tenant = core.add_node("tenant")
    ann, ben = core.add_node("ann", tenant, transient=True), core.add_node("ben", tenant, transient=True)
    send(core, ben, prompt=5)
    send(core, ann, prompt=50)
    while (request := core.dispatch(lambda _request: True)) is not None:
        if request.leaf is ben:
            send(core, ben, prompt=5)
        serve(core, request)
        if ann in tenant.idle:
            break
    core.retire(tenant)
    assert len(tenant.idle) == 0


def test_a_request_that_is_abandoned_takes_the_leaf_along_that_was_made_for_it() -> None:
    core = plain_scheduler()
    tenant = core.add_node("tenant")
    send(core, core.add_node("ann", tenant, transient=True))
    serve(core, start_next(core))
    leaf = core.add_node("ben", tenant, transient=True)
    request = Request(leaf, 1, 1)
    core.abandon(request)
    assert request.state is State.ENDED
    assert "ben" not in tenant.children
    with pytest.raises(AssertionError):
        core.abandon(request)


def test_requests_that_end_without_an_engine_are_ended() -> None:
    core = plain_scheduler()
    alice = core.add_node("alice")
    waiting, running = send(core, alice), send(core, alice)
    core.cancel(waiting)
    assert start_next(core) is running
    core.drop(running)
    assert (waiting.state, running.state) == (State.ENDED, State.ENDED)


def test_lengths_are_learned_in_whole_tokens_of_one_sequence() -> None:
    core = Scheduler(prediction=Prediction.MEAN, clock=Clock())
    alice = core.add_node("alice")
    request = send(core, alice, sequences=2)
    start_next(core)
    serve(core, request, output=5)
    assert alice.outputs.mean == 3
    assert isinstance(alice.outputs.mean, int)


@pytest.mark.parametrize(
    ("before", "after", "change_at", "free_at"),
    [(60, 120, 0.0, 30.0), (60, 120, 30.0, 45.0), (60, 120, 60.0, None), (120, 60, 0.0, 120.0), (60, 30, 240.0, None)],
)
def test_a_bucket_owes_the_same_tokens_after_its_rate_has_changed(
    before: int, after: int, change_at: float, free_at: float | None
) -> None:
    """180 tokens are taken at the start."""
    clock = Clock()
    core = Scheduler(clock=clock)
    alice = core.add_node("alice", limits=Limits(tokens_per_minute=before))
    for _ in range(2):
        send(core, alice, prompt=180)
    core.prompt(start_next(core), 180)
    clock.now = change_at
    core.limit(alice, Limits(max_in_flight=9, tokens_per_minute=after))
    assert core.next_change() == free_at
    assert alice.limits == Limits(9, after)


def test_a_rate_that_is_new_begins_with_a_full_bucket() -> None:
    clock = Clock(100.0)
    core = Scheduler(clock=clock)
    alice = core.add_node("alice")
    core.limit(alice, Limits(tokens_per_minute=60))
    assert alice.bucket is not None
    assert alice.bucket.ready_at == 40.0
    alice.bucket.take(90, clock.now)
    assert alice.bucket.ready_at == 130.0
