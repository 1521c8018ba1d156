"""Users that come and go, and what is kept of them."""

from collections.abc import Callable

import pytest

from fairqueue_proxy.scheduler import Node, Scheduler
from scheduler.scenario import charge, plain_scheduler, send, serve, start_next


def tenant_with(core: Scheduler, *users: str) -> tuple[Node, list[Node]]:
    tenant = core.add_node("tenant")
    return tenant, [core.add_node(user, tenant, transient=True) for user in users]


def finish(core: Scheduler, user: Node) -> None:
    serve(core, start_next(core))


def drop(core: Scheduler, user: Node) -> None:
    core.drop(start_next(core))


def cancel(core: Scheduler, user: Node) -> None:
    assert user.head is not None
    core.cancel(user.head)


@pytest.mark.parametrize("end", [finish, drop, cancel])
def test_a_user_is_forgotten_when_its_last_request_ends(end: Callable[[Scheduler, Node], None]) -> None:
    core = plain_scheduler()
    tenant, (user,) = tenant_with(core, "u")
    send(core, user)
    end(core, user)
    assert tenant.children == {}
    core.check()


@pytest.mark.parametrize("end", [finish, drop, cancel])
def test_a_tenant_is_kept_when_its_last_request_ends(end: Callable[[Scheduler, Node], None]) -> None:
    core = plain_scheduler()
    tenant = core.add_node("a")
    send(core, tenant)
    end(core, tenant)
    assert core.root.children == {"a": tenant}


def test_a_user_is_kept_while_it_has_something_queued() -> None:
    core = plain_scheduler()
    tenant, (user,) = tenant_with(core, "u")
    send(core, user)
    send(core, user)
    serve(core, start_next(core))
    assert tenant.children == {"u": user}


def test_a_user_is_kept_while_it_has_something_in_flight() -> None:
    core = plain_scheduler()
    tenant, (user,) = tenant_with(core, "u")
    send(core, user)
    running = start_next(core)
    waiting = send(core, user)
    core.cancel(waiting)
    assert tenant.children == {"u": user}
    serve(core, running)
    assert tenant.children == {}


def test_a_user_in_debt_is_kept_until_the_others_have_caught_up() -> None:
    core = plain_scheduler()
    tenant, (debtor, other) = tenant_with(core, "debtor", "other")
    send(core, debtor, prompt=100)
    for prompt in (60, 60, 10):
        send(core, other, prompt=prompt)
    serve(core, start_next(core))
    for settled in (60.0, 120.0):
        assert set(tenant.children) == {"debtor", "other"}
        serve(core, start_next(core))
        assert other.settled == settled
    serve(core, start_next(core))
    assert tenant.children == {}


def test_a_user_that_was_forgotten_comes_back_where_it_would_have_been() -> None:
    core = plain_scheduler()
    tenant, (user,) = tenant_with(core, "u")
    stays = core.add_node("stays", tenant)
    charge(core, user, 40)
    assert "u" not in tenant.children
    charge(core, stays, 25)
    again = core.add_node("u", tenant, transient=True)
    send(core, again)
    assert again.settled == stays.settled == 65.0


def test_a_user_with_debt_that_comes_back_still_has_it() -> None:
    core = plain_scheduler()
    tenant, (debtor, other) = tenant_with(core, "debtor", "other")
    send(core, debtor, prompt=100)
    send(core, other)
    send(core, other)
    serve(core, start_next(core))
    send(core, debtor)
    assert debtor.settled == 100.0
    assert tenant.children["debtor"] is debtor
    serve(core, start_next(core))
    serve(core, start_next(core))
    assert core.head() is debtor.head
    assert "debtor" in tenant.children
    core.check()


def test_a_user_can_come_and_go_beside_one_that_stays() -> None:
    """What a forgotten leaf leaves in the heaps must not be compared with its successor of the same name."""
    core = plain_scheduler()
    tenant = core.add_node("tenant")
    send(core, core.add_node("a", tenant))
    for _ in range(20):
        core.cancel(send(core, core.add_node("u", tenant, transient=True)))
        core.check()
    assert set(tenant.children) == {"a"}


def test_a_user_in_debt_can_come_back_to_a_heap_that_it_never_quite_left() -> None:
    core = plain_scheduler()
    tenant = core.add_node("tenant")
    stays = core.add_node("stays", tenant)
    for _ in range(20):
        user = tenant.children.get("u") or core.add_node("u", tenant, transient=True)
        for leaf in (user, stays, stays):
            send(core, leaf)
        for _ in range(3):
            serve(core, start_next(core))
    assert set(tenant.children) <= {"stays", "u"}


def test_a_tenant_whose_users_are_all_forgotten_is_not_active() -> None:
    core = plain_scheduler()
    tenant, (user,) = tenant_with(core, "u")
    charge(core, user, 10)
    assert not tenant.active
    assert core.head() is None
    core.check()


def test_thousands_of_users_in_turn_leave_nothing_behind() -> None:
    core = plain_scheduler()
    tenant = core.add_node("tenant")
    stays = core.add_node("stays", tenant)
    most = 0
    for number in range(3000):
        if number % 50 == 0:
            send(core, stays, prompt=1)
        send(core, core.add_node(f"u{number}", tenant, transient=True), prompt=1 + number % 7)
        while core.head() is not None:
            serve(core, start_next(core))
        most = max(most, len(tenant.children))
    heaps = (tenant.by_key, tenant.by_settled, tenant.by_arrival, tenant.idle)
    assert most <= 10
    assert max(len(heap._heap) for heap in heaps) <= 2 * most + 17
