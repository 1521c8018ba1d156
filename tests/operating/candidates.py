"""Candidates for a Lease, the API server that keeps it, and a bad network between them; all in virtual time.

A request that its sender has given up is on its way still, and is done when it arrives.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fairqueue_operator.cluster_model import ClusterError, Conflict, NotFound, Resource, StoredLease, Unreachable
from fairqueue_operator.lease import Lease, Lost


@dataclass
class LeaseServer:
    """One Lease, with a version that changes with each write."""

    stored: StoredLease | None = None
    version: int = 0
    writes: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> StoredLease | None:
        return self.stored

    def create(self, spec: Resource) -> StoredLease:
        if self.stored is not None:
            raise Conflict("exists")
        return self._store(spec)

    def replace(self, spec: Resource, version: str) -> StoredLease:
        if self.stored is None:
            raise NotFound("gone")
        if self.stored.resource_version != version:
            raise Conflict("has changed")
        return self._store(spec)

    def held_by(self, holder: str, **said: Any) -> None:
        """Somebody else writes it."""
        lease = {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 0}
        self._store(lease | said)

    def _store(self, spec: Resource) -> StoredLease:
        self.version += 1
        self.writes.append(dict(spec))
        self.stored = StoredLease(
            spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"], str(self.version)
        )
        return self.stored


@dataclass(frozen=True)
class Trip:
    """Seconds to the server and back, and what becomes of the request: `lost` there, or `failed` on the way back."""

    there: float = 0.01
    back: float = 0.01
    lost: bool = False
    failed: bool = False


class Network:
    """What one candidate speaks through. `trips` says how the next request travels."""

    def __init__(self, server: LeaseServer, trips: Callable[[], Trip] = Trip) -> None:
        self.server = server
        self.trips = trips

    async def read_lease(self, namespace: str, name: str) -> StoredLease | None:
        found: StoredLease | None = await self._send(self.server.read)
        return found

    async def create_lease(self, namespace: str, name: str, spec: Resource) -> StoredLease:
        created: StoredLease = await self._send(lambda: self.server.create(spec))
        return created

    async def replace_lease(self, namespace: str, name: str, spec: Resource, resource_version: str) -> StoredLease:
        replaced: StoredLease = await self._send(lambda: self.server.replace(spec, resource_version))
        return replaced

    async def _send(self, operation: Callable[[], Any]) -> Any:
        trip, loop = self.trips(), asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()

        def arrive() -> None:
            try:
                result = operation()
            except ClusterError as error:
                loop.call_later(trip.back, answer, error)
            else:
                loop.call_later(trip.back, answer, Unreachable("broken") if trip.failed else result)

        def answer(result: Any) -> None:
            if answered.done():
                return
            if isinstance(result, ClusterError):
                answered.set_exception(result)
            else:
                answered.set_result(result)

        if not trip.lost:
            loop.call_later(trip.there, arrive)
        return await answered


class Candidate:
    """A replica: takes the Lease when it can, keeps it, and begins anew as another process when it loses it."""

    def __init__(self, server: LeaseServer, name: str, trips: Callable[[], Trip] = Trip, rate: float = 1.0) -> None:
        self.name = name
        self.network = Network(server, trips)
        self.rate = rate
        self.stalls: Callable[[], float] = lambda: 0.0
        self.lease = self._new()
        self.losses: list[str] = []

    def _new(self) -> Lease:
        loop = asyncio.get_running_loop()
        return Lease(
            self.network,
            "system",
            "operator",
            self.name,
            lambda: loop.time() * self.rate,
            self._pause,
            random.Random(1),
        )

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate + self.stalls())

    def start(self) -> "Candidate":
        self.task = asyncio.create_task(self._live())
        return self

    async def _live(self) -> None:
        while True:
            await self.lease.acquire()
            try:
                await self.lease.hold()
            except Lost as error:
                self.losses.append(str(error))
            self.lease = self._new()

    async def stop(self, *, release: bool) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if release:
            await self.lease.release()


async def held(candidate: Candidate) -> float:
    """Waits until it holds the Lease; the seconds that took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while not candidate.lease.is_held:
        await asyncio.sleep(0.01)
    return loop.time() - begun


def bad_network(jitter: random.Random) -> Callable[[], Trip]:
    """Mostly well; now and then slow, lost or failed, for any time."""

    def trips() -> Trip:
        trip = Trip(jitter.uniform(0, 0.2), jitter.uniform(0, 0.2))
        match jitter.randrange(8):
            case 0:
                return replace(trip, there=jitter.uniform(0, 40))
            case 1:
                return replace(trip, back=jitter.uniform(0, 40))
            case 2:
                return replace(trip, lost=True)
            case 3:
                return replace(trip, failed=True)
        return trip

    return trips
