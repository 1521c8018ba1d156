"""The Lease: who gets it and when, and that two never hold it at once, whatever the network does. In virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.cluster_model import Forbidden
from fairqueue_operator.lease import DURATION_SECONDS, HOLD_SECONDS, RENEW_SECONDS, RETRY_SECONDS, Lease
from operating import virtual_time
from operating.candidates import Candidate, LeaseServer, Network, Trip, bad_network, held


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**arguments: Any) -> None:
        async def main() -> None:
            await test(**arguments)

        virtual_time.run(main())

    return run


@in_virtual_time
async def test_the_first_gets_it_at_once_and_renews_it() -> None:
    server = LeaseServer()
    candidate = Candidate(server, "a").start()
    assert await held(candidate) < 1
    assert server.writes[0]["leaseDurationSeconds"] == DURATION_SECONDS
    assert server.writes[0]["holderIdentity"].startswith("a_")
    await asyncio.sleep(60)
    assert 11 <= server.version <= 14
    assert {write["leaseTransitions"] for write in server.writes} == {0}
    assert candidate.losses == []
    await candidate.stop(release=False)


@in_virtual_time
async def test_the_second_waits_until_the_first_has_not_renewed_for_its_duration() -> None:
    server = LeaseServer()
    first = Candidate(server, "a").start()
    await held(first)
    second = Candidate(server, "b").start()
    await asyncio.sleep(100)
    assert not second.lease.is_held
    await first.stop(release=False)
    assert DURATION_SECONDS - RENEW_SECONDS <= await held(second) <= DURATION_SECONDS + RETRY_SECONDS + 1
    assert server.writes[-1]["leaseTransitions"] == 1
    await second.stop(release=False)


@pytest.mark.parametrize("moment", [18.0, 20.0], ids=["between renewals", "in a renewal"])
@in_virtual_time
async def test_one_that_is_released_is_taken_at_once(moment: float) -> None:
    server = LeaseServer()
    first = Candidate(server, "a").start()
    await held(first)
    second = Candidate(server, "b").start()
    await asyncio.sleep(moment)
    await first.stop(release=True)
    assert not first.lease.is_held
    assert await held(second) <= RETRY_SECONDS + 0.1
    await first.lease.release()
    assert second.lease.is_held
    await second.stop(release=False)


@in_virtual_time
async def test_what_was_lost_is_not_released() -> None:
    server = LeaseServer()
    candidate = Candidate(server, "a").start()
    await held(candidate)
    candidate.task.cancel()
    await asyncio.sleep(HOLD_SECONDS)
    assert not candidate.lease.is_held
    writes = server.version
    await candidate.lease.release()
    assert server.version == writes


@pytest.mark.parametrize("trip", [Trip(lost=True), Trip(failed=True)], ids=["lost", "failed"])
@in_virtual_time
async def test_a_release_that_does_not_come_through_ends(trip: Trip) -> None:
    candidate = Candidate(LeaseServer(), "a").start()
    await held(candidate)
    candidate.network.trips = lambda: trip
    async with asyncio.timeout(5):
        await candidate.stop(release=True)


@pytest.mark.parametrize(
    "said",
    [{"renewTime": "2001-01-01T00:00:00.000000Z"}, {"renewTime": "2999-01-01T00:00:00.000000Z"}, {}],
    ids=["long ago", "in future", "never"],
)
@in_virtual_time
async def test_times_that_stand_in_the_lease_mean_nothing(said: Any) -> None:
    server = LeaseServer()
    server.held_by("other", **said)
    candidate = Candidate(server, "a").start()
    assert DURATION_SECONDS <= await held(candidate) <= DURATION_SECONDS + RETRY_SECONDS + 1
    await candidate.stop(release=False)


@in_virtual_time
async def test_a_holder_that_asks_for_longer_is_left_longer() -> None:
    server = LeaseServer()
    server.held_by("other", leaseDurationSeconds=60)
    candidate = Candidate(server, "a").start()
    assert 60 <= await held(candidate) <= 63
    await candidate.stop(release=False)


@in_virtual_time
async def test_without_an_answer_it_is_lost_in_time() -> None:
    candidate = Candidate(LeaseServer(), "a").start()
    await held(candidate)
    candidate.network.trips = lambda: Trip(lost=True)
    await asyncio.sleep(HOLD_SECONDS - 0.5)
    assert candidate.lease.is_held
    assert candidate.losses == []
    await asyncio.sleep(0.6)
    assert candidate.losses == ["the lease could not be renewed for 10 s"]
    await candidate.stop(release=False)


@pytest.mark.parametrize("trip", [Trip(there=30), Trip(back=30), Trip(failed=True)], ids=["late", "slow", "broken"])
@in_virtual_time
async def test_a_renewal_of_which_nothing_is_heard_is_made_good(trip: Trip) -> None:
    """It was done, or will be when it arrives: the next one finds the Lease to be another version, and its own."""
    candidate = Candidate(LeaseServer(), "a").start()
    await held(candidate)
    trips = [trip]
    candidate.network.trips = lambda: trips.pop() if trips else Trip()
    await asyncio.sleep(120)
    assert candidate.losses == []
    assert candidate.lease.is_held
    await candidate.stop(release=False)


@in_virtual_time
async def test_a_renewal_counts_from_when_it_was_sent_and_not_from_its_answer() -> None:
    server = LeaseServer()
    candidate = Candidate(server, "a").start()
    await held(candidate)
    candidate.network.trips = lambda: Trip(there=0.0, back=2.0)
    while server.version < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(2.1)
    candidate.network.trips = lambda: Trip(lost=True)
    await asyncio.sleep(HOLD_SECONDS - 2.3)
    assert candidate.lease.is_held
    await asyncio.sleep(0.3)
    assert not candidate.lease.is_held
    await candidate.stop(release=False)


@in_virtual_time
async def test_it_is_lost_at_once_when_another_holds_it() -> None:
    server = LeaseServer()
    candidate = Candidate(server, "a").start()
    await held(candidate)
    server.held_by("other")
    await asyncio.sleep(RENEW_SECONDS + 0.1)
    assert candidate.losses == ["the lease is held by other"]
    await candidate.stop(release=False)


@in_virtual_time
async def test_one_that_was_deleted_is_lost_and_is_not_taken_before_its_holder_can_know() -> None:
    server = LeaseServer()
    first = Candidate(server, "a").start()
    await held(first)
    second = Candidate(server, "b").start()
    await asyncio.sleep(20)
    server.stored = None
    first.network.trips = second.network.trips
    while not first.losses:
        assert not second.lease.is_held
        await asyncio.sleep(0.01)
    assert first.losses == ["the lease was deleted"]
    await first.stop(release=False)
    assert await held(second) <= DURATION_SECONDS + RETRY_SECONDS + 1
    await second.stop(release=False)


@in_virtual_time
async def test_of_two_that_want_it_one_gets_it() -> None:
    server = LeaseServer()
    candidates = [Candidate(server, name).start() for name in "abcde"]
    await asyncio.sleep(30)
    assert sum(it.lease.is_held for it in candidates) == 1
    for candidate in candidates:
        await candidate.stop(release=False)


@in_virtual_time
async def test_a_process_of_the_same_name_is_another_candidate() -> None:
    server = LeaseServer()
    first = Candidate(server, "a").start()
    await held(first)
    await first.stop(release=False)
    again = Candidate(server, "a").start()
    assert await held(again) >= DURATION_SECONDS - 0.1
    await again.stop(release=False)


@in_virtual_time
async def test_a_creation_of_which_nothing_is_heard_is_found_to_be_ones_own() -> None:
    trips = [Trip(failed=True), Trip()]
    candidate = Candidate(LeaseServer(), "a", lambda: trips.pop() if trips else Trip()).start()
    assert await held(candidate) <= RETRY_SECONDS + 0.1
    await candidate.stop(release=False)


@in_virtual_time
async def test_a_holder_that_stands_still_for_a_while_does_not_believe_that_it_holds() -> None:
    server = LeaseServer()
    first = Candidate(server, "a").start()
    await held(first)
    second = Candidate(server, "b").start()
    first.stalls = lambda: 60.0
    await held(second)
    assert not first.lease.is_held
    first.stalls = lambda: 0.0
    await asyncio.sleep(70)
    assert first.losses == ["the lease could not be renewed for 10 s"]
    for candidate in (first, second):
        await candidate.stop(release=False)


@in_virtual_time
async def test_without_the_right_it_waits_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    class Forbidding(Network):
        async def _send(self, operation: Callable[[], Any]) -> Any:
            raise Forbidden("GET: 403")

    loop = asyncio.get_running_loop()
    lease = Lease(Forbidding(LeaseServer()), "ns", "n", "a", loop.time, asyncio.sleep, random.Random(1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await lease.acquire()
    assert caplog.text.count("the lease cannot be read or written") == 1


@given(seed=st.integers(0, 2**32))
@in_virtual_time
async def test_two_never_hold_it_at_once(seed: int) -> None:
    """Three candidates over bad networks, with clocks that run a little differently, processes that stand still and
    processes that end, in order or not."""
    jitter = random.Random(seed)
    server = LeaseServer()
    candidates = [
        Candidate(server, name, bad_network(jitter), rate=jitter.uniform(0.95, 1.05)).start() for name in "abc"
    ]
    for candidate in candidates:
        candidate.stalls = lambda: jitter.uniform(0, 40) if jitter.random() < 0.05 else 0.0
    holders = []
    for step in range(6000):
        await asyncio.sleep(0.05)
        now = [candidate.name for candidate in candidates if candidate.lease.is_held]
        assert len(now) <= 1
        holders += now
        if step % 1000 == 999:
            restarted = jitter.choice(candidates)
            await restarted.stop(release=jitter.random() < 0.5)
            restarted.lease = restarted._new()
            restarted.start()
    assert len(holders) > 600, "somebody works most of the time"
    for candidate in candidates:
        await candidate.stop(release=False)
