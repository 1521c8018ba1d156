"""The phases of a drain, on a clock that the test moves and with a dispatcher without network.

What clients see of it is in `test_draining_proxy.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fairqueue_api.address import Address
from fairqueue_proxy import drain as drain_module
from fairqueue_proxy.drain import Drain
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.proxy import Proxy
from proxy.desk import Desk
from proxy_stack import document_of

NEVER_SECONDS = 1000.0
WINDOW_SECONDS = 100.0
LOOKS = 5

StartDrain = Callable[[Desk], Drain]


@pytest.fixture
async def start_drain(monkeypatch: pytest.MonkeyPatch) -> StartDrain:
    """A drain that looks at each turn of the loop; ended with the test's loop."""
    monkeypatch.setattr(drain_module, "LOOK_SECONDS", 0)
    return lambda desk: Drain(desk.dispatcher, WINDOW_SECONDS, desk.clock)


async def answering() -> bool:
    """An engine that answers when it is asked."""
    return True


async def looks() -> None:
    """Lets a drain look a few times."""
    for _ in range(LOOKS):
        await asyncio.sleep(0)


async def soon(awaitable: Awaitable[object]) -> None:
    async with asyncio.timeout(5):
        await awaitable


def test_the_times_are_those_that_the_documentation_tells() -> None:
    assert (drain_module.QUIET_SECONDS, drain_module.TAKE_SECONDS, drain_module.WAIT_FOR_BEGIN_SECONDS) == (5, 15, 15)


@pytest.mark.parametrize(
    ("grace_seconds", "window_seconds"),
    [(None, 60.0), (90, 60.0), (75, 60.0), (50, 35.0), (10, 0.0)],
)
def test_the_window_ends_fifteen_seconds_before_the_pod_is_killed(
    tmp_path: Path, grace_seconds: float | None, window_seconds: float
) -> None:
    document = document_of(tmp_path, tenants=[{"name": "alice"}], drain={"timeout": "60s"})
    assert Proxy(document, Address("127.0.0.1", 1), grace_seconds=grace_seconds).drain.window_seconds == window_seconds


async def test_without_a_drain_everything_is_taken_for_ever(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    desk.clock.now_seconds += NEVER_SECONDS
    drain.take()
    assert not drain.begun.is_set()


async def test_requests_are_taken_until_none_has_come_for_five_seconds(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    occupant = desk.submit("alice")
    drain.begin()
    for _ in range(2):
        desk.clock.now_seconds += 4.9
        drain.take()
    desk.clock.now_seconds += 5
    with pytest.raises(Refused) as refused:
        drain.take()
    assert (refused.value.outcome, refused.value.status) == (Outcome.DRAINING, 503)
    # Once it refuses, it refuses for good.
    with pytest.raises(Refused):
        drain.take()
    desk.finish(occupant)
    await soon(drain.over.wait())


async def test_requests_that_never_stop_are_taken_for_fifteen_seconds(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    drain.begin()
    for _ in range(7):
        desk.clock.now_seconds += 2
        drain.take()
    desk.clock.now_seconds += 1
    with pytest.raises(Refused):
        drain.take()
    await soon(drain.over.wait())


async def test_it_is_over_when_it_is_quiet_and_nothing_is_left_and_not_before(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    running, waiting = desk.submit("alice"), desk.submit("alice")
    drain.begin()
    desk.clock.now_seconds += 4
    desk.finish(running)
    await looks()
    desk.clock.now_seconds += 4
    await looks()
    assert not drain.over.is_set()
    desk.finish(waiting)
    await soon(drain.over.wait())


async def test_with_nothing_to_do_it_still_waits_for_those_who_have_not_heard_of_it(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    drain.begin()
    desk.clock.now_seconds += 4.9
    await looks()
    assert not drain.over.is_set()
    desk.clock.now_seconds += 0.1
    await soon(drain.over.wait())


async def test_a_second_beginning_changes_nothing_unless_it_is_to_refuse(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    occupant = desk.submit("alice")
    drain.begin()
    desk.clock.now_seconds += 4
    drain.begin()
    desk.clock.now_seconds += 0.9
    drain.take()
    drain.begin(refuse=True)
    with pytest.raises(Refused):
        drain.take()
    desk.finish(occupant)
    await soon(drain.over.wait())


def one_a_second(desk: Desk, seconds: int) -> None:
    for _ in range(seconds):
        job = desk.submit("alice")
        desk.clock.now_seconds += 1
        desk.finish(job)


async def test_what_cannot_finish_in_the_window_is_refused_at_once_the_newest_of_who_has_most_first(
    start_drain: StartDrain,
) -> None:
    desk = Desk("alice", "bob")
    drain = start_drain(desk)
    one_a_second(desk, 20)
    occupant = desk.submit("alice")
    jobs = [desk.submit("alice", f"a{number}") for number in range(90)]
    jobs += [desk.submit("bob", f"b{number}") for number in range(3)]
    drain.begin()
    desk.clock.now_seconds += 5
    # So many at the pace of late in the time that is left.
    kept = int(desk.dispatcher.requests_per_second() * (WINDOW_SECONDS - 5))
    assert 50 < kept < 93
    assert len(desk.queued()) == 93
    await looks()
    assert desk.queued() == [f"a{number}" for number in range(kept - 3)] + ["b0", "b1", "b2"]
    refused = [job.refused for job in jobs if job.refused is not None]
    assert len(refused) == 93 - kept
    assert all(isinstance(each, Refused) and each.outcome is Outcome.DRAINING for each in refused)
    # Each is raised where its request is handled: one and the same would gather the traces of all.
    assert len(set(map(id, refused))) == len(refused)
    assert not drain.over.is_set()
    await drain.close()
    desk.finish(occupant)


async def test_nobody_is_refused_who_can_still_finish(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    one_a_second(desk, 20)
    for number in range(30):
        desk.submit("alice", f"a{number}")
    drain.begin()
    desk.clock.now_seconds += 5
    await looks()
    assert len(desk.queued()) == 29
    await drain.close()


async def test_the_time_in_which_there_was_nothing_to_do_makes_nobody_hopeless(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    one_a_second(desk, 20)
    desk.clock.now_seconds += 3600
    for number in range(30):
        desk.submit("alice", f"a{number}")
    drain.begin()
    desk.clock.now_seconds += 5
    await looks()
    assert len(desk.queued()) == 29
    await drain.close()


async def test_it_goes_on_when_there_is_more_to_refuse_than_there_is_anybody_to_be_refused(
    start_drain: StartDrain,
) -> None:
    """Whatever the count of the queue says: it must not hold up the loop, nor the drain's end."""
    desk = Desk("alice")
    drain = start_drain(desk)
    one_a_second(desk, 20)
    running = desk.submit("alice")
    desk.dispatcher.backlog.queued += 1000
    drain.begin(refuse=True)
    await looks()
    assert not drain.over.is_set()
    desk.finish(running)
    await soon(drain.over.wait())


async def test_nobody_is_hopeless_while_it_is_not_known_how_fast_requests_end(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    for number in range(30):
        desk.submit("alice", f"a{number}")
    drain.begin()
    desk.clock.now_seconds += WINDOW_SECONDS - 1
    await looks()
    assert len(desk.queued()) == 29
    await drain.close()


async def test_when_the_window_is_over_all_that_wait_or_still_send_are_refused_and_who_comes_too(
    start_drain: StartDrain,
) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    running, waiting, sending = desk.submit("alice"), desk.submit("alice"), desk.receiving("alice")
    drain.begin()
    desk.clock.now_seconds += WINDOW_SECONDS
    await soon(drain.over.wait())
    assert (running.refused, desk.queued()) == (None, [])
    assert isinstance(waiting.refused, Refused)
    assert isinstance(sending.refused, Refused)
    assert waiting.refused is not sending.refused
    with pytest.raises(Refused):
        drain.take()


async def test_a_window_shorter_than_the_quiet_time_ends_the_taking_too(start_drain: StartDrain) -> None:
    """Who waits for the drain's end stops the engine then: what is taken later would be lost."""
    desk = Desk("alice")
    drain = Drain(desk.dispatcher, 2.0, desk.clock)
    drain.begin()
    desk.clock.now_seconds += 2
    await soon(drain.over.wait())
    with pytest.raises(Refused):
        drain.take()


async def test_who_waits_hears_at_once_when_the_engine_is_not_healthy(start_drain: StartDrain) -> None:
    drain = start_drain(Desk("alice"))
    await soon(drain.wait(lambda: False, answering))
    assert not drain.begun.is_set()


async def test_who_waits_hears_at_once_when_the_engine_does_not_answer_and_no_drain_has_begun(
    start_drain: StartDrain,
) -> None:
    asked = asyncio.Event()

    async def hanging() -> bool:
        await asked.wait()
        return False

    waiting = asyncio.create_task(start_drain(Desk("alice")).wait(lambda: True, hanging))
    await looks()
    assert not waiting.done()
    asked.set()
    await soon(waiting)


async def test_an_engine_that_is_slow_to_answer_is_waited_for_once_the_drain_has_begun(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    running = desk.submit("alice")

    async def slow() -> bool:
        return False

    drain.begin()
    waiting = asyncio.create_task(drain.wait(lambda: True, slow))
    desk.clock.now_seconds += 20
    await looks()
    assert not waiting.done()
    desk.finish(running)
    await soon(waiting)
    assert drain.over.is_set()


async def test_who_waits_for_a_drain_that_never_begins_waits_fifteen_seconds(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    waiting = asyncio.create_task(start_drain(desk).wait(lambda: True, answering))
    await looks()
    desk.clock.now_seconds += 14.9
    await looks()
    assert not waiting.done()
    desk.clock.now_seconds += 0.1
    await soon(waiting)


async def test_who_waits_for_a_drain_waits_for_its_beginning_and_then_for_its_end(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    running = desk.submit("alice")
    waiting = asyncio.create_task(drain.wait(lambda: True, answering))
    await looks()
    drain.begin()
    desk.clock.now_seconds += 20
    await looks()
    assert not waiting.done()
    desk.finish(running)
    await soon(waiting)
    assert drain.over.is_set()


async def test_who_waits_stops_waiting_when_the_engine_stops_being_healthy(start_drain: StartDrain) -> None:
    desk = Desk("alice")
    drain = start_drain(desk)
    desk.submit("alice")
    healthy = True
    waiting = asyncio.create_task(drain.wait(lambda: healthy, answering))
    drain.begin()
    await looks()
    assert not waiting.done()
    healthy = False
    await soon(waiting)
    assert not drain.over.is_set()
    await drain.close()
