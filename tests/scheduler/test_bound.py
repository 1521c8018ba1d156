"""The bound on how far apart backlogged siblings may drift (after VTC, OSDI '24, Lemma 4.3)."""

import pytest

from fairqueue_proxy.scheduler import Cost, Gap, Limits, Node, Request, Scheduler
from scheduler.scenario import anything_fits, plain_scheduler, send, serve, start_next


def two_tenants(weight: int = 1) -> tuple[Scheduler, Node, Node]:
    core = plain_scheduler()
    return core, core.add_node("a"), core.add_node("b", weight=weight)


def test_a_tree_without_work_has_no_gap_and_no_bound() -> None:
    assert plain_scheduler().gap(plain_scheduler().root) == Gap(gap=0.0, bound=0.0, active=0)


def test_the_gap_is_between_the_keys_of_active_children() -> None:
    core, first, second = two_tenants()
    send(core, core.add_node("idle"), prompt=7000)
    start_next(core)
    for leaf in (first, first, second, second):
        send(core, leaf)
    core.output(start_next(core), 30, exact=True)
    start_next(core)
    assert (first.key, second.key) == (70.0, 10.0)
    gap = core.gap(core.root)
    assert (gap.gap, gap.active) == (60.0, 2)


def test_the_bound_is_the_longest_course_of_what_is_in_flight() -> None:
    core, first, second = two_tenants()
    send(core, first, prompt=10, longest=100)
    send(core, second, prompt=20, longest=30)
    start_next(core)
    assert core.gap(core.root).bound == 210.0
    start_next(core)
    assert core.gap(core.root).bound == 210.0 + 80.0


def test_the_bound_is_the_largest_so_far() -> None:
    core, first, _ = two_tenants()
    send(core, first)
    serve(core, start_next(core), 1)
    assert (core.root.worst, core.gap(core.root).bound) == (0, 210.0)
    send(core, first, prompt=1, longest=1)
    start_next(core)
    assert core.gap(core.root).bound == 210.0


def test_the_bound_is_divided_by_the_smallest_weight_among_siblings() -> None:
    core = plain_scheduler()
    send(core, core.add_node("a", weight=5))
    core.add_node("b", weight=2)
    start_next(core)
    assert core.gap(core.root).bound == 210.0 / 2


def test_each_group_has_a_bound_of_its_own() -> None:
    core = plain_scheduler()
    group = core.add_node("group")
    send(core, core.add_node("a", group))
    send(core, core.add_node("b"), prompt=1, longest=0)
    start_next(core)
    start_next(core)
    assert (core.gap(group).bound, core.gap(core.root).bound) == (210.0, 211.0)


def test_output_longer_than_announced_raises_the_bound() -> None:
    core, first, _ = two_tenants()
    send(core, first, prompt=10, longest=5)
    request = start_next(core)
    core.output(request, 5, exact=True)
    assert core.gap(core.root).bound == 20.0
    core.output(request, 7, exact=True)
    assert core.gap(core.root).bound == 24.0


def test_a_discount_for_cached_tokens_does_not_lower_the_bound() -> None:
    core = plain_scheduler(cost=Cost(cached_input_percent=0))
    send(core, core.add_node("a"))
    core.prompt(start_next(core), 10, cached_tokens=10)
    assert core.root.worst == 210_000_000


def test_each_sequence_counts_towards_the_bound() -> None:
    core = plain_scheduler(cost=Cost(request=50))
    send(core, core.add_node("a"), prompt=10, longest=100, sequences=3)
    start_next(core)
    assert core.gap(core.root).bound == 150.0 + 10.0 + 200.0


def test_a_prompt_found_shorter_counts_at_its_true_length_from_then_on() -> None:
    core, first, _ = two_tenants()
    for _ in range(3):
        core.enqueue(Request(first, 50, 0))
    core.prompt(start_next(core), 20)
    start_next(core)
    assert core.gap(core.root).bound == 70.0
    start_next(core)
    assert core.gap(core.root).bound == 120.0


def test_the_gap_comes_within_a_tenth_of_the_bound() -> None:
    """A tenant fills the engine, then another one joins: all that the first still makes drives them apart."""
    core, first, second = two_tenants()
    for _ in range(9):
        send(core, first, prompt=1, longest=100)
    running = [start_next(core) for _ in range(8)]
    send(core, second)
    for request in running:
        core.output(request, 100, exact=True)
    gap = core.gap(core.root)
    assert gap.gap <= gap.bound
    assert gap.gap >= 0.9 * gap.bound, f"gap {gap.gap} is {gap.gap / gap.bound:.3f} of the bound {gap.bound}"


def test_a_light_tenant_comes_within_a_tenth_of_the_bound_too() -> None:
    core = plain_scheduler()
    light, heavy = core.add_node("light"), core.add_node("heavy", weight=10)
    for _ in range(9):
        send(core, light, prompt=1, longest=100)
    running = [start_next(core) for _ in range(8)]
    send(core, heavy)
    for request in running:
        core.output(request, 100, exact=True)
    gap = core.gap(core.root)
    assert gap.gap <= gap.bound
    assert gap.gap >= 0.9 * gap.bound, f"gap {gap.gap} is {gap.gap / gap.bound:.3f} of the bound {gap.bound}"


def test_the_bound_holds_when_prompts_turn_out_longer_one_after_the_other() -> None:
    """All that was in flight when a tenant was last chosen counts at its true length, also what has ended since.

    Counted only while in flight, the corrected prompts would give a bound of 1,038 beside a gap of 1,980.
    """
    core, first, second = two_tenants()
    for leaf in (first, second):
        for _ in range(4):
            core.enqueue(Request(leaf, prompt_tokens=10, max_output_tokens=1))
    for request in [start_next(core) for _ in range(4)]:
        if request.leaf is first:
            core.prompt(request, 1000)
            core.finish(request)
    gap = core.gap(core.root)
    assert gap.gap == 1980.0
    assert gap.gap <= gap.bound <= 1.1 * gap.gap, f"bound {gap.bound}"


def test_corrections_count_from_the_last_dispatch_only() -> None:
    """So that a thousand small corrections do not add up to a bound that says nothing."""
    core, first, _ = two_tenants()
    for _ in range(1000):
        core.enqueue(Request(first, prompt_tokens=10, max_output_tokens=0))
        request = start_next(core)
        core.prompt(request, 11)
        core.finish(request)
    assert core.gap(core.root).bound == 11.0


@pytest.mark.parametrize("way_out", ["drop", "requeue"])
def test_what_the_engine_did_not_take_is_not_in_flight_for_the_bound(way_out: str) -> None:
    core, first, second = two_tenants()
    send(core, first)
    getattr(core, way_out)(start_next(core))
    send(core, second)
    core.dispatch(anything_fits)
    assert core.gap(core.root).bound == 210.0


def test_a_tenant_at_its_limit_is_no_part_of_the_gap() -> None:
    core = plain_scheduler()
    capped, other = core.add_node("capped", limits=Limits(max_in_flight=1)), core.add_node("other")
    for leaf in (capped, capped, other):
        send(core, leaf)
    request = start_next(core)
    assert request.leaf is capped
    core.output(request, 100, exact=True)
    assert core.gap(core.root) == Gap(gap=0.0, bound=210.0, active=1)
