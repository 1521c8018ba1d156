"""The lift: nobody takes credit along from a time when it wanted nothing (VTC, OSDI '24, Algorithm 2)."""

from fairqueue_proxy.scheduler import Limits
from scheduler.scenario import charge, plain_scheduler, send, serve, start_next


def test_a_joiner_starts_at_the_smallest_settled_of_its_active_siblings() -> None:
    core = plain_scheduler()
    small, large, joiner = core.add_node("small"), core.add_node("large"), core.add_node("joiner")
    for leaf, prompt in ((small, 100), (large, 300)):
        send(core, leaf, prompt=prompt)
        send(core, leaf)
    for request in [start_next(core), start_next(core)]:
        serve(core, request)
    assert (small.settled, large.settled) == (100.0, 300.0)
    send(core, joiner)
    assert joiner.settled == 100.0


def test_a_joiner_does_not_pay_for_its_siblings_reservations() -> None:
    core = plain_scheduler()
    busy, joiner = core.add_node("busy"), core.add_node("joiner")
    send(core, busy, prompt=500)
    send(core, busy)
    start_next(core)
    assert (busy.settled, busy.key) == (0.0, 500.0)
    send(core, joiner)
    assert joiner.settled == 0.0


def test_a_joiner_in_debt_stays_in_debt() -> None:
    core = plain_scheduler()
    debtor, other = core.add_node("debtor"), core.add_node("other")
    send(core, other)
    send(core, debtor, prompt=800)
    serve(core, start_next(core))
    send(core, other, prompt=1)
    serve(core, start_next(core))
    assert (debtor.settled, debtor.active, other.active) == (800.0, False, True)
    send(core, debtor)
    assert debtor.settled == 800.0


def test_when_nobody_is_active_a_joiner_starts_where_the_last_one_left() -> None:
    core = plain_scheduler()
    first, last, joiner = core.add_node("first"), core.add_node("last"), core.add_node("joiner")
    charge(core, first, 900)
    send(core, last, prompt=70)
    send(core, first, prompt=1)
    for _ in range(2):
        serve(core, start_next(core))
    assert (first.settled, last.settled) == (901.0, 970.0)
    assert core.root.last_left is first
    send(core, joiner)
    assert joiner.settled == 901.0


def test_the_mark_of_the_last_one_that_left_is_what_it_settled_since() -> None:
    core = plain_scheduler()
    last, joiner = core.add_node("last"), core.add_node("joiner")
    send(core, last)
    request = start_next(core)
    assert not last.active
    core.output(request, 45, exact=True)
    send(core, joiner)
    assert joiner.settled == last.settled == 100.0


def test_credit_does_not_survive_a_drain() -> None:
    """Without the second half of the lift, the one that slept would now be served 1,000 units ahead of the other."""
    core = plain_scheduler()
    worker, sleeper = core.add_node("worker"), core.add_node("sleeper")
    for _ in range(10):
        charge(core, worker, 100)
    assert core.root.in_flight == 0
    for leaf in (sleeper, worker):
        for _ in range(20):
            send(core, leaf, prompt=10)
    served = [start_next(core).leaf for _ in range(10)]
    assert served.count(sleeper) == served.count(worker) == 5


def test_the_first_ever_to_come_is_not_lifted() -> None:
    core = plain_scheduler()
    first = core.add_node("first")
    send(core, first)
    assert first.settled == 0.0


def test_nobody_is_lifted_while_it_stays_backlogged() -> None:
    core = plain_scheduler()
    steady, other = core.add_node("steady"), core.add_node("other")
    for _ in range(3):
        send(core, steady, prompt=1)
    charged = []
    for leaf in (steady, other):
        send(core, leaf, prompt=100)
    while steady.active:
        request = start_next(core)
        before = steady.settled
        serve(core, request)
        charged.append(steady.settled - before)
        send(core, other, prompt=100)
    assert sum(charged) == steady.settled == 103.0


def test_a_group_is_lifted_among_groups_and_its_tenants_among_themselves() -> None:
    core = plain_scheduler()
    group, alone = core.add_node("group"), core.add_node("alone")
    one, two = core.add_node("one", group), core.add_node("two", group)
    charge(core, one, 30)
    charge(core, alone, 500)
    send(core, two)
    assert (group.settled, two.settled) == (530.0, 30.0)


def test_a_tenant_that_comes_back_from_its_own_limit_is_lifted_like_any_joiner() -> None:
    core = plain_scheduler()
    capped = core.add_node("capped", limits=Limits(max_in_flight=1))
    other = core.add_node("other")
    send(core, capped)
    send(core, capped)
    running = start_next(core)
    assert (capped.active, running.leaf) == (False, capped)
    charge(core, other, 700)
    send(core, other)
    serve(core, running)
    assert capped.active
    assert capped.settled == other.settled == 700.0


def test_a_lift_leaves_what_is_reserved_on_top() -> None:
    core = plain_scheduler()
    joiner, other = core.add_node("joiner", weight=2), core.add_node("other")
    send(core, joiner, prompt=40)
    start_next(core)
    charge(core, other, 100)
    send(core, other)
    send(core, joiner)
    assert (joiner.settled, joiner.key) == (100.0, 120.0)


def test_a_lift_counts_as_no_service() -> None:
    core = plain_scheduler()
    worker, joiner = core.add_node("worker"), core.add_node("joiner")
    charge(core, worker, 100)
    send(core, joiner)
    assert (joiner.settled, joiner.served) == (100.0, 0)
