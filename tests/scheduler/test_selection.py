"""Whose request goes next."""

import pytest

from fairqueue_proxy.scheduler import Node, Request, Scheduler
from scheduler.scenario import anything_fits, charge, nothing_fits, plain_scheduler, send, serve, start_next


def order_of(core: Scheduler, requests: int) -> list[str]:
    """Names of the leaves of the next requests, each served in full before the next is chosen."""
    names = []
    for _ in range(requests):
        request = start_next(core)
        names.append(request.leaf.path_name)
        serve(core, request)
    return names


def test_nothing_goes_when_nothing_is_queued() -> None:
    core = plain_scheduler()
    assert core.head() is None
    core.add_node("a")
    assert core.head() is None
    assert core.dispatch(anything_fits) is None


def test_the_tenant_that_was_charged_least_goes_first() -> None:
    core = plain_scheduler()
    served, fresh = core.add_node("a"), core.add_node("b")
    send(core, served, prompt=5)
    send(core, served)
    send(core, fresh)
    serve(core, start_next(core))
    assert start_next(core).leaf is fresh


def test_requests_of_a_tenant_go_in_the_order_of_their_arrival() -> None:
    core = plain_scheduler()
    tenant = core.add_node("a")
    requests = [send(core, tenant, prompt=prompt) for prompt in (30, 10, 20)]
    assert [start_next(core) for _ in requests] == requests


def test_a_reservation_counts_against_its_tenant() -> None:
    core = plain_scheduler()
    busy, other = core.add_node("a"), core.add_node("b")
    send(core, busy)
    send(core, busy)
    send(core, other, prompt=1)
    assert start_next(core).leaf is busy
    assert (busy.settled, busy.key) == (0.0, 10.0)
    assert start_next(core).leaf is other


def test_of_equal_tenants_the_one_with_the_oldest_request_goes_first() -> None:
    core = plain_scheduler()
    late, early = core.add_node("a"), core.add_node("b")
    first = send(core, early)
    send(core, late)
    send(core, early)
    assert core.head() is first


def test_between_equal_groups_the_oldest_head_request_below_decides() -> None:
    core = plain_scheduler()
    one, two = core.add_node("one"), core.add_node("two")
    first = send(core, core.add_node("a", two))
    send(core, core.add_node("a", one))
    send(core, core.add_node("b", two))
    assert core.head() is first


def test_a_group_that_lost_its_oldest_request_counts_by_the_next_one() -> None:
    core = plain_scheduler()
    one, two = core.add_node("one"), core.add_node("two")
    oldest = send(core, core.add_node("a", one))
    middle = send(core, core.add_node("a", two))
    send(core, core.add_node("b", one))
    core.cancel(oldest)
    assert core.head() is middle


def test_a_request_that_comes_back_restores_its_groups_age() -> None:
    core = plain_scheduler()
    one, two = core.add_node("one"), core.add_node("two")
    tenant = core.add_node("a", one)
    oldest = send(core, tenant)
    send(core, core.add_node("a", two))
    send(core, tenant)
    assert start_next(core) is oldest
    core.requeue(oldest)
    assert core.head() is oldest


def test_groups_share_first_and_tenants_share_within_their_group() -> None:
    core = plain_scheduler()
    crowd = core.add_node("crowd")
    members = [core.add_node(name, crowd) for name in "ab"]
    alone = core.add_node("alone")
    for leaf in (*members, alone):
        for _ in range(10):
            send(core, leaf)
    names = order_of(core, 12)
    assert names.count("alone") == 6
    assert names.count("crowd/a") == names.count("crowd/b") == 3


def test_a_team_below_an_organisation_takes_its_weight_of_the_organisations_part() -> None:
    core = plain_scheduler()
    organisation = core.add_node("org")
    heavy, light = core.add_node("heavy", organisation, weight=3), core.add_node("light", organisation)
    leaves = [core.add_node("t", heavy), core.add_node("t", light), core.add_node("alone")]
    for leaf in leaves:
        for _ in range(40):
            send(core, leaf)
    names = order_of(core, 40)
    assert (names.count("alone"), names.count("org/heavy/t"), names.count("org/light/t")) == (20, 15, 5)


@pytest.mark.parametrize("weight", [1, 3])
def test_over_a_long_run_service_is_in_proportion_to_weight(weight: int) -> None:
    core = plain_scheduler()
    heavy, light = core.add_node("heavy", weight=weight), core.add_node("light")
    for leaf in (heavy, light):
        for prompt in range(400):
            send(core, leaf, prompt=1 + prompt * 7 % 50)
    order_of(core, 400)
    assert heavy.served / light.served == pytest.approx(weight, rel=0.01)


def test_a_head_that_does_not_fit_stops_everybody() -> None:
    core = plain_scheduler()
    large = send(core, core.add_node("a"), prompt=1000)
    small = send(core, core.add_node("b"), prompt=1)
    asked: list[Request] = []

    def small_fits(request: Request) -> bool:
        asked.append(request)
        return request is small

    assert core.dispatch(small_fits) is None
    assert asked == [large]
    assert core.root.in_flight == 0


def test_a_head_that_did_not_fit_is_still_the_head() -> None:
    core = plain_scheduler()
    request = send(core, core.add_node("a"))
    assert core.dispatch(nothing_fits) is None
    assert core.head() is request
    assert core.dispatch(anything_fits) is request


def test_a_cancelled_request_never_goes() -> None:
    core = plain_scheduler()
    tenant = core.add_node("a")
    cancelled, kept = send(core, tenant), send(core, tenant)
    core.cancel(cancelled)
    assert start_next(core) is kept
    assert core.head() is None


def test_a_tenant_whose_key_fell_goes_first_again() -> None:
    core = plain_scheduler()
    first, second = core.add_node("first"), core.add_node("second")
    for leaf in (first, first, first, second, second):
        send(core, leaf)
    started = {request.leaf: request for request in (start_next(core), start_next(core))}
    assert core.head() is first.head
    core.drop(started[second])
    assert core.head() is second.head


def test_a_charge_to_a_user_counts_for_its_tenant_and_its_group() -> None:
    core = plain_scheduler()
    group = core.add_node("group", weight=2)
    tenant = core.add_node("tenant", group, weight=5)
    user = core.add_node("user", tenant)
    charge(core, user, 100)
    assert [node.settled for node in (user, tenant, group)] == [100.0, 20.0, 50.0]
    assert [node.served for node in (user, tenant, group, core.root)] == [100_000_000] * 4


def test_nodes_lists_parents_before_children() -> None:
    core = plain_scheduler()
    group = core.add_node("group")
    expected = {core.add_node("a", group), core.add_node("b"), group}
    nodes = list(core.nodes())
    assert set(nodes) == expected
    assert nodes.index(group) < nodes.index(group.children["a"])


def test_siblings_need_different_names() -> None:
    core = plain_scheduler()
    core.add_node("a")
    with pytest.raises(ValueError, match=r"^'' already has a child 'a'$"):
        core.add_node("a")


def test_a_name_can_be_used_again_below_another_parent() -> None:
    core = plain_scheduler()
    group = core.add_node("a")
    assert core.add_node("a", group).path_name == "a/a"


@pytest.mark.parametrize("dispatched", [False, True], ids=["queued", "in flight"])
def test_a_leaf_with_requests_cannot_become_a_group(dispatched: bool) -> None:
    core = plain_scheduler()
    tenant = core.add_node("a")
    send(core, tenant)
    if dispatched:
        start_next(core)
    with pytest.raises(ValueError, match=r"^'a' holds requests and can't have children$"):
        core.add_node("user", tenant)
    assert tenant.children == {}


def test_tenants_and_users_can_be_added_while_others_are_in_flight() -> None:
    core = plain_scheduler()
    tenant = core.add_node("a")
    send(core, core.add_node("first", tenant))
    start_next(core)
    added: list[Node] = [core.add_node("b"), core.add_node("second", tenant)]
    for leaf in added:
        send(core, leaf)
    assert {start_next(core).leaf for _ in added} == set(added)


@pytest.mark.parametrize("grouped", [False, True], ids=["tenants", "a tenant of a group"])
def test_a_request_that_comes_back_is_older_than_those_of_others_that_came_after_it(grouped: bool) -> None:
    core = plain_scheduler()
    parent = core.add_node("group") if grouped else core.root
    first, sibling, other = core.add_node("a", parent), core.add_node("c", parent), core.add_node("b")
    oldest = send(core, first)
    for leaf in (other, sibling, first):
        send(core, leaf)
    assert start_next(core) is oldest
    assert core.head() is other.head
    core.requeue(oldest)
    assert core.head() is oldest
