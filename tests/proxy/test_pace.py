"""How fast requests end, and from that when to try again. Time with nothing to do is not part of it."""

import random

import pytest

from fairqueue_proxy.pace import LONGEST_SECONDS, BusyTime, Pace, retry_after_seconds
from proxy.desk import Desk
from upstream_engine import FakeClock

HOUR_SECONDS = 3600


def serve_one_a_second(desk: Desk, tenant: str, count: int) -> None:
    for _ in range(count):
        job = desk.submit(tenant)
        desk.clock.now_seconds += 1
        desk.finish(job)


def test_busy_time_stands_still_while_there_is_nothing_to_do() -> None:
    clock = FakeClock()
    busy = BusyTime(clock)
    for _ in range(3):
        clock.now_seconds += HOUR_SECONDS
        busy.begin()
        clock.now_seconds += 1
        busy.begin()
        clock.now_seconds += 1
        busy.end()
    assert busy.seconds == 6


def test_busy_time_goes_on_while_there_is_something_to_do() -> None:
    clock = FakeClock()
    busy = BusyTime(clock)
    busy.begin()
    clock.now_seconds += 5
    assert busy.seconds == 5


def test_a_young_pace_is_not_too_low_and_an_old_one_follows() -> None:
    clock = FakeClock()
    pace = Pace(clock)
    pace.begin()

    def every(seconds: float, times: int) -> None:
        for _ in range(times):
            clock.now_seconds += seconds
            pace.tick()

    every(1, 3)
    assert pace.rate() == pytest.approx(1, rel=0.1)
    every(0.5, 400)
    assert pace.rate() == pytest.approx(2, rel=0.1)


def test_when_to_try_again_is_when_what_is_ahead_will_have_gone_give_or_take_a_fifth() -> None:
    source = random.Random(1)
    seconds = {retry_after_seconds(60, 2.0, source) for _ in range(100)}
    assert 24 <= min(seconds) < 27
    assert 33 < max(seconds) <= 36


@pytest.mark.parametrize(("ahead", "rate", "seconds"), [(0, 5.0, 1), (10**6, 1.0, LONGEST_SECONDS), (0, 0.0, 1)])
def test_when_to_try_again_is_within_a_second_and_two_minutes(ahead: int, rate: float, seconds: int) -> None:
    assert retry_after_seconds(ahead, rate, random.Random(1)) == seconds


@pytest.mark.parametrize("own", [True, False], ids=["the tenant's", "all"])
def test_after_a_quiet_hour_who_is_refused_is_told_the_same_as_before_it(own: bool) -> None:
    desk = Desk("alice")
    serve_one_a_second(desk, "alice", 20)
    desk.clock.now_seconds += HOUR_SECONDS
    for _ in range(31):
        desk.submit("alice")
    seconds = desk.dispatcher.retry_after_seconds(desk.tenants["alice"] if own else None)
    assert 24 <= seconds <= 36


def test_what_others_did_while_a_tenant_wanted_nothing_does_not_slow_its_pace() -> None:
    desk = Desk("alice", "bob")
    serve_one_a_second(desk, "bob", 20)
    serve_one_a_second(desk, "alice", HOUR_SECONDS)
    for _ in range(31):
        desk.submit("bob")
    assert 24 <= desk.dispatcher.retry_after_seconds(desk.tenants["bob"]) <= 36


def test_what_a_tenant_waits_for_others_is_part_of_its_pace() -> None:
    desk = Desk("alice", "bob")
    for _ in range(20):
        others, own = desk.submit("alice"), desk.submit("bob")
        desk.clock.now_seconds += 3
        desk.finish(others)
        desk.clock.now_seconds += 1
        desk.finish(own)
    for _ in range(16):
        desk.submit("bob")
    assert 48 <= desk.dispatcher.retry_after_seconds(desk.tenants["bob"]) <= 80


def test_who_left_the_queue_wants_nothing_any_more() -> None:
    desk = Desk("alice", "bob")
    serve_one_a_second(desk, "bob", 20)
    occupant, left = desk.submit("alice"), desk.submit("bob")
    desk.dispatcher.leave(left)
    desk.clock.now_seconds += HOUR_SECONDS
    desk.finish(occupant)
    for _ in range(31):
        desk.submit("bob")
    assert 24 <= desk.dispatcher.retry_after_seconds(desk.tenants["bob"]) <= 36


def test_a_tenant_of_whom_nothing_is_known_is_told_by_the_pace_of_all() -> None:
    desk = Desk("alice", "bob")
    for _ in range(20):
        job = desk.submit("alice")
        desk.clock.now_seconds += 0.1
        desk.finish(job)
    for _ in range(101):
        desk.submit("bob")
    assert 8 <= desk.dispatcher.retry_after_seconds(desk.tenants["bob"]) <= 12
