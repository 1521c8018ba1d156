"""What a request costs the scheduler itself, counted in looks at keys: time would depend on the machine."""

from typing import Any

import pytest

from fairqueue_proxy.scheduler import Limits, Node, Scheduler
from fairqueue_proxy.scheduler.lazy_heap import LazyHeap
from scheduler.scenario import anything_fits, plain_scheduler, send

REQUESTS = 200


def looks_per_request(tenants: int, tokens: int) -> float:
    """Looks at keys from arrival to end of a request of so many tokens, all tenants being backlogged."""
    core = plain_scheduler()
    for number in range(tenants):
        for leaf in [core.add_node(f"{number}")] * 2:
            send(core, leaf)
    looks = count_looks(core)
    for _ in range(REQUESTS):
        request = core.dispatch(anything_fits)
        assert request is not None
        for made in range(tokens):
            core.output(request, made, exact=True)
        core.finish(request)
        send(core, request.leaf)
    return looks[0] / REQUESTS


def count_looks(core: Scheduler) -> list[int]:
    looks = [0]

    def counting(heap: LazyHeap[Node]) -> None:
        key: Any = heap._key

        def counted(node: Node) -> tuple[float | str, ...]:
            looks[0] += 1
            result: tuple[float | str, ...] = key(node)
            return result

        heap._key = counted

    for heap in (core.root.by_key, core.root.by_settled, core.root.by_arrival):
        counting(heap)
    return looks


@pytest.mark.parametrize("tenants", [10, 1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_decision_looks_at_few_keys_however_many_tenants_there_are(tenants: int) -> None:
    looks = looks_per_request(tenants, tokens=10)
    assert looks <= 12, f"{looks} looks at keys a request among {tenants} tenants"


def test_a_token_looks_at_no_key() -> None:
    assert looks_per_request(10, tokens=10) == looks_per_request(10, tokens=200)


def test_a_request_behind_others_of_its_leaf_costs_neither_a_look_at_keys_nor_at_the_clock() -> None:
    times = [0]

    def clock() -> float:
        times[0] += 1
        return 0.0

    core = Scheduler(clock=clock)
    leaf = core.add_node("a", limits=Limits(tokens_per_minute=60))
    send(core, leaf)
    looks, before = count_looks(core), times[0]
    send(core, leaf)
    assert (looks, times[0]) == ([0], before)


def test_a_head_that_is_not_older_is_not_reported_to_the_order() -> None:
    core = plain_scheduler()
    leaf = core.add_node("a")
    for _ in range(3):
        send(core, leaf)
    looks = count_looks(core)
    core.start_out_of_turn(leaf.queue[0])
    assert looks == [0]


def test_no_order_by_arrival_is_kept_for_the_root() -> None:
    core = plain_scheduler()
    group = core.add_node("group")
    send(core, core.add_node("a", group))
    assert (len(core.root.by_key), len(group.by_arrival), len(core.root.by_arrival)) == (1, 1, 0)
