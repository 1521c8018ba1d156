"""How the tree shows itself, and that its self-check notices contradictions."""

from collections.abc import Callable

import pytest

from fairqueue_proxy.scheduler import Limits, Node, Scheduler
from scheduler.scenario import plain_scheduler, send, start_next


def example() -> tuple[Scheduler, Node]:
    core = plain_scheduler()
    tenant = core.add_node("tenant", core.add_node("group"))
    for _ in range(3):
        send(core, tenant)
    start_next(core)
    return core, tenant


def test_a_nodes_path_leads_up_to_the_root_without_it() -> None:
    core, tenant = example()
    assert tenant.path == (tenant, tenant.parent)
    assert core.root.path == ()


def test_a_nodes_path_name_leads_down() -> None:
    core, tenant = example()
    assert tenant.path_name == "group/tenant"
    assert core.root.path_name == ""


def test_a_node_shows_what_it_has_to_do() -> None:
    core, tenant = example()
    assert repr(tenant) == "<Node group/tenant active, 2 queued, 1 in flight, key 10>"
    assert repr(core.add_node("idle")) == "<Node idle inactive, 0 queued, 0 in flight, key 0>"


def test_a_scheduler_shows_what_it_has_to_do() -> None:
    core, _ = example()
    core.add_node("idle")
    assert repr(core) == "<Scheduler 2 leaves, 2 queued, 1 in flight>"


def test_a_node_weighs_one_and_has_no_limits_unless_told_otherwise() -> None:
    node = Node("a", None)
    assert (node.weight, node.limits, node.transient, node.bucket) == (1, Limits(), False, None)
    assert (Limits().max_in_flight, Limits().tokens_per_minute) == (None, None)


def test_a_leafs_head_is_its_oldest_request() -> None:
    _, tenant = example()
    assert tenant.head is min(tenant.queue.values(), key=lambda request: request.arrival)


def test_a_node_without_requests_has_no_head() -> None:
    assert Node("a", None).head is None


def test_a_consistent_tree_passes_its_check() -> None:
    core, _ = example()
    core.check()


def forget_activity(core: Scheduler, leaf: Node) -> None:
    leaf.active = False


def lose_a_slot(core: Scheduler, leaf: Node) -> None:
    core.root.in_flight += 1


def lose_a_course(core: Scheduler, leaf: Node) -> None:
    core.root.worst += 1


def free_twice(core: Scheduler, leaf: Node) -> None:
    for node in (*leaf.path, core.root):
        node.in_flight = -1


def refund_twice(core: Scheduler, leaf: Node) -> None:
    leaf.reserved = -1


def free_a_slot_but_not_its_course(core: Scheduler, leaf: Node) -> None:
    for node in (*leaf.path, core.root):
        node.in_flight = 0


def jump_the_queue(core: Scheduler, leaf: Node) -> None:
    leaf.queue.move_to_end(next(iter(leaf.queue)))


def keep_a_stranger(core: Scheduler, leaf: Node) -> None:
    assert leaf.parent is not None
    leaf.parent.by_key.add(Node("stranger", leaf.parent))


@pytest.mark.parametrize(
    "damage",
    [
        forget_activity,
        lose_a_slot,
        lose_a_course,
        free_twice,
        refund_twice,
        free_a_slot_but_not_its_course,
        jump_the_queue,
        keep_a_stranger,
    ],
)
def test_a_contradiction_in_the_tree_fails_its_check(damage: Callable[[Scheduler, Node], None]) -> None:
    core, tenant = example()
    damage(core, tenant)
    with pytest.raises(AssertionError):
        core.check()


def test_those_who_watch_are_told_before_activity_changes() -> None:
    told: list[tuple[str, bool, float]] = []
    core = Scheduler(
        clock=lambda: 0.0, before_activity=lambda node: told.append((node.path_name, node.active, node.settled))
    )
    tenant = core.add_node("tenant", core.add_node("group"))
    send(core, tenant)
    assert told == [("group/tenant", False, 0.0), ("group", False, 0.0)]
    told.clear()
    send(core, tenant)
    start_next(core)
    assert told == []
    start_next(core)
    assert told == [("group/tenant", True, 0.0), ("group", True, 0.0)]
