"""A node's own limits: they decide whether it takes part, and never hold up anybody else."""

import pytest

from fairqueue_proxy.scheduler import Limits, Node, Scheduler
from scheduler.scenario import Clock, anything_fits, plain_scheduler, send, serve, start_next


def flooded(core: Scheduler, *leaves: Node, requests: int = 5) -> None:
    for _ in range(requests):
        for leaf in leaves:
            send(core, leaf)


def started(core: Scheduler) -> list[str]:
    """Names of the leaves of all that may go now."""
    names = []
    while (request := core.dispatch(anything_fits)) is not None:
        core.check()
        names.append(request.leaf.name)
    return names


def test_a_tenant_has_no_more_in_flight_than_its_limit() -> None:
    core = plain_scheduler()
    capped = core.add_node("capped", limits=Limits(max_in_flight=3))
    flooded(core, capped)
    assert started(core) == ["capped"] * 3
    assert capped.in_flight == 3


def test_a_tenant_at_its_limit_holds_up_nobody() -> None:
    core = plain_scheduler()
    capped, other = core.add_node("capped", limits=Limits(max_in_flight=1)), core.add_node("other")
    flooded(core, capped, other)
    assert started(core).count("other") == 5


def test_a_tenant_at_its_limit_counts_as_having_left() -> None:
    core = plain_scheduler()
    other, capped = core.add_node("other"), core.add_node("capped", limits=Limits(max_in_flight=1))
    flooded(core, capped, requests=2)
    start_next(core)
    assert not capped.active
    assert core.root.last_left is capped
    assert core.gap(core.root).active == 0
    send(core, other)
    assert core.gap(core.root).active == 1


def test_an_ended_request_makes_room_for_the_next() -> None:
    core = plain_scheduler()
    capped = core.add_node("capped", limits=Limits(max_in_flight=1))
    flooded(core, capped, requests=2)
    running = start_next(core)
    assert core.head() is None
    serve(core, running)
    assert start_next(core).leaf is capped


@pytest.mark.parametrize("way_out", ["drop", "requeue"])
def test_a_request_that_the_engine_did_not_take_makes_room(way_out: str) -> None:
    core = plain_scheduler()
    capped = core.add_node("capped", limits=Limits(max_in_flight=1))
    flooded(core, capped, requests=2)
    getattr(core, way_out)(start_next(core))
    assert core.head() is capped.head


def test_each_sequence_counts_against_the_limit() -> None:
    core = plain_scheduler()
    capped = core.add_node("capped", limits=Limits(max_in_flight=4))
    send(core, capped, sequences=2)
    send(core, capped, sequences=2)
    send(core, capped)
    assert len(started(core)) == 2
    assert (capped.in_flight, core.root.in_flight) == (4, 4)


def test_a_request_for_more_than_the_limit_goes_when_nothing_is_in_flight() -> None:
    core = plain_scheduler()
    capped = core.add_node("capped", limits=Limits(max_in_flight=2))
    small, large = send(core, capped), send(core, capped, sequences=5)
    assert start_next(core) is small
    assert core.head() is None
    serve(core, small)
    assert start_next(core) is large
    assert capped.in_flight == 5


def test_nothing_overtakes_the_head_within_a_tenant_even_if_it_would_fit_the_limit() -> None:
    core = plain_scheduler()
    capped = core.add_node("capped", limits=Limits(max_in_flight=2))
    send(core, capped)
    send(core, capped, sequences=2)
    send(core, capped)
    assert len(started(core)) == 1


def test_a_limit_on_an_inner_node_holds_for_all_below_it() -> None:
    core = plain_scheduler()
    tenant = core.add_node("tenant", limits=Limits(max_in_flight=3))
    users = [core.add_node(name, tenant) for name in ("u", "v")]
    flooded(core, *users, core.add_node("other"))
    names = started(core)
    assert names.count("other") == 5
    assert sorted(name for name in names if name != "other") in (["u", "u", "v"], ["u", "v", "v"])


def test_nodes_below_a_limited_node_stay_active_and_are_not_lifted_when_it_returns() -> None:
    core = plain_scheduler()
    tenant = core.add_node("tenant", limits=Limits(max_in_flight=1))
    first, second = core.add_node("first", tenant), core.add_node("second", tenant)
    send(core, first, prompt=100)
    flooded(core, first, second)
    running = start_next(core)
    assert [node.active for node in (tenant, first, second)] == [False, True, True]
    assert core.head() is None
    serve(core, running)
    assert [node.active for node in (tenant, first, second)] == [True, True, True]
    assert (first.settled, second.settled) == (100.0, 0.0)


def test_an_inner_node_is_not_active_when_all_below_are_at_their_limits() -> None:
    core = plain_scheduler()
    group = core.add_node("group")
    for name in "ab":
        send(core, core.add_node(name, group, limits=Limits(max_in_flight=1)))
        send(core, group.children[name])
    start_next(core)
    assert group.active
    start_next(core)
    assert not group.active


def test_an_inner_node_with_room_for_one_takes_a_request_of_several_sequences() -> None:
    """Which request comes next is known only below, so an inner limit can be exceeded by one request's sequences."""
    core = plain_scheduler()
    tenant = core.add_node("tenant", limits=Limits(max_in_flight=2))
    user = core.add_node("user", tenant)
    send(core, user)
    send(core, user, sequences=3)
    send(core, user)
    assert len(started(core)) == 2
    assert tenant.in_flight == 4


def test_tokens_over_the_rate_have_to_be_waited_for() -> None:
    clock = Clock(1000.0)
    core = plain_scheduler(clock)
    metered = core.add_node("metered", limits=Limits(tokens_per_minute=60))
    send(core, metered, prompt=90)
    send(core, metered)
    running = start_next(core)
    assert core.head() is None
    assert core.next_change() == 1030.0
    clock.now = 1029.9
    assert core.head() is None
    assert core.next_change() == 1030.0
    clock.now = 1030.0
    assert start_next(core).leaf is metered
    assert running.metered_tokens == 90


def test_output_counts_against_the_rate_as_it_comes() -> None:
    core = plain_scheduler()
    metered = core.add_node("metered", limits=Limits(tokens_per_minute=60))
    send(core, metered, prompt=30)
    send(core, metered)
    running = start_next(core)
    core.output(running, 30, exact=False)
    assert core.head() is metered.head
    core.output(running, 40, exact=False)
    assert not metered.active
    assert core.next_change() == 10.0


def test_expected_output_does_not_count_against_the_rate() -> None:
    core = Scheduler(clock=Clock())
    metered = core.add_node("metered", limits=Limits(tokens_per_minute=60))
    flooded(core, metered, requests=3)
    assert start_next(core).predicted_tokens == 100
    assert metered.active


def test_an_overestimated_prompt_is_given_back_to_the_rate() -> None:
    core = plain_scheduler()
    metered = core.add_node("metered", limits=Limits(tokens_per_minute=60))
    send(core, metered, prompt=100)
    send(core, metered)
    running = start_next(core)
    assert core.next_change() == 40.0
    core.prompt(running, 80)
    assert core.next_change() == 20.0
    core.prompt(running, 50)
    assert core.next_change() is None
    assert metered.active


@pytest.mark.parametrize("way_out", ["drop", "requeue"])
def test_a_request_that_the_engine_did_not_take_is_given_back_to_the_rate(way_out: str) -> None:
    core = plain_scheduler()
    metered = core.add_node("metered", limits=Limits(tokens_per_minute=60))
    send(core, metered, prompt=100)
    send(core, metered)
    request = start_next(core)
    assert not metered.active
    getattr(core, way_out)(request)
    assert core.head() is metered.head
    assert request.metered_tokens == 0


def test_a_tenant_over_its_rate_holds_up_nobody() -> None:
    core = plain_scheduler()
    metered, other = core.add_node("metered", limits=Limits(tokens_per_minute=15)), core.add_node("other")
    flooded(core, metered, other)
    names = started(core)
    assert (names.count("metered"), names.count("other")) == (2, 5)


def test_a_rate_on_an_inner_node_holds_for_all_below_it() -> None:
    clock = Clock()
    core = plain_scheduler(clock)
    tenant = core.add_node("tenant", limits=Limits(tokens_per_minute=15))
    flooded(core, core.add_node("u", tenant), core.add_node("v", tenant))
    assert sorted(started(core)) == ["u", "v"]
    assert core.next_change() == 20.0
    clock.now = 20.0
    assert len(started(core)) == 1


def test_the_next_change_is_the_first_of_several() -> None:
    core = plain_scheduler()
    for name, prompt in (("late", 100), ("early", 80), ("later", 120)):
        leaf = core.add_node(name, limits=Limits(tokens_per_minute=60))
        send(core, leaf, prompt=prompt)
        send(core, leaf)
        start_next(core)
    assert core.next_change() == 20.0


def test_a_rate_that_is_lifted_is_waited_for_no_more() -> None:
    core = plain_scheduler()
    for name, prompt in (("lifted", 80), ("other", 100)):
        leaf = core.add_node(name, limits=Limits(tokens_per_minute=60))
        send(core, leaf, prompt=prompt)
        send(core, leaf)
        start_next(core)
    core.limit(core.root.children["lifted"], Limits())
    assert core.root.children["lifted"].active
    assert core.next_change() == 40.0


def test_all_whose_time_has_come_become_active() -> None:
    clock = Clock()
    core = plain_scheduler(clock)
    leaves = [core.add_node(name, limits=Limits(tokens_per_minute=60)) for name in "abc"]
    for leaf, prompt in zip(leaves, (70, 80, 100), strict=True):
        send(core, leaf, prompt=prompt)
        send(core, leaf)
        start_next(core)
    clock.now = 20.0
    core.head()
    assert [leaf.active for leaf in leaves] == [True, True, False]
    assert core.next_change() == 40.0


def test_nothing_changes_by_time_for_a_tenant_without_work() -> None:
    core = plain_scheduler()
    metered = core.add_node("metered", limits=Limits(tokens_per_minute=60))
    send(core, metered, prompt=100)
    start_next(core)
    assert core.next_change() is None
    waiting = send(core, metered)
    assert core.next_change() == 40.0
    core.cancel(waiting)
    assert core.next_change() is None


def test_nothing_changes_by_time_for_a_tenant_that_also_has_too_much_in_flight() -> None:
    core = plain_scheduler()
    limited = core.add_node("limited", limits=Limits(max_in_flight=1, tokens_per_minute=60))
    send(core, limited, prompt=100)
    send(core, limited)
    running = start_next(core)
    assert core.next_change() is None
    serve(core, running)
    assert core.next_change() == 40.0
