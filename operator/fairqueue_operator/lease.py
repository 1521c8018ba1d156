"""Which of several replicas works: whoever holds the Lease. At no time do two of them believe that they do.

The holder writes the Lease every few seconds. It counts from when it *sent* its last write that came through, and
stops some seconds before others may take over; those count from when they *saw* the Lease change last, on their own
monotonic clocks. What stands in the Lease about times is for people: nobody's clock is compared with another's. A
write names the version that was read, so of two that want the Lease one gets it; a write that arrives late, after
others wrote, does nothing. An answer that does not come leaves open whether the write was done: the Lease is read
again, and only a write that is known to have been done counts.

Each object is a candidate of its own, under a name that no other has had: a process that was started again waits
like any other.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import uuid4

from . import log_lines
from .cluster_model import ClusterError, Conflict, NotFound, Resource, StoredLease

DURATION_SECONDS: Final = 15
RENEW_SECONDS: Final = 5.0
HOLD_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 0.5
_REQUEST_SECONDS: Final = 4.0
_RELEASE_SECONDS: Final = 3.0


class LeaseCluster(Protocol):
    """What is needed of the API server. Writes give the Lease as it is then; see `OperatorCluster`."""

    async def read_lease(self, namespace: str, name: str) -> StoredLease | None: ...

    async def create_lease(self, namespace: str, name: str, spec: Resource) -> StoredLease: ...

    async def replace_lease(self, namespace: str, name: str, spec: Resource, resource_version: str) -> StoredLease: ...


class Lost(Exception):
    """The Lease is not held any more, or it cannot be known; one line. Whoever works must stop."""


class Lease:
    """See the module's text. First `acquire`, then `hold` for as long as there is work, then `release`."""

    def __init__(
        self,
        cluster: LeaseCluster,
        namespace: str,
        name: str,
        instance: str,
        monotonic: Callable[[], float],
        pause: Callable[[float], Awaitable[None]],
        jitter: random.Random,
    ) -> None:
        self._cluster = cluster
        self._place = namespace, name
        self._me = f"{instance}_{uuid4().hex}"
        self._monotonic = monotonic
        self._pause = pause
        self._jitter = jitter
        # As written last by us, and when that was sent; None while others may hold it.
        self._held: StoredLease | None = None
        self._sent = 0.0
        # The version seen last while another held it, and when it was first seen.
        self._seen: tuple[str, float] | None = None
        self._failing = False

    @property
    def is_held(self) -> bool:
        """Whether it may be worked right now. It can be lost before `hold` comes to say so: ask before each write."""
        return self._held is not None and self._left() > 0

    async def acquire(self) -> None:
        """Waits until the Lease is held."""
        while not self.is_held:
            try:
                await self._try()
                self._failing = False
            except Conflict:
                # Another was faster: who that is will be read.
                pass
            except (ClusterError, TimeoutError) as error:
                self._failed(error)
            if not self.is_held:
                await self._pause(self._jitter.uniform(0.8, 1.0) * RETRY_SECONDS)
        log_lines.info("the lease is held", holder=self._me)

    async def hold(self) -> None:
        """Renews for ever. Raises `Lost` as soon as that has failed for too long, or another holds it."""
        while True:
            await self._pause(max(0.0, self._sent + RENEW_SECONDS - self._monotonic()))
            while not await self._renewed():
                await self._pause(min(_AGAIN_SECONDS, max(0.0, self._left())))

    async def release(self) -> None:
        """Gives it up if it is held, so that another may take it at once. Never raises: else it runs out."""
        held, is_held = self._held, self.is_held
        self._held = None
        if held is None or not is_held:
            return
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._give_up(held)
        except (ClusterError, TimeoutError) as error:
            log_lines.warning("the lease could not be released", error=str(error) or "no answer in time")

    async def _give_up(self, held: StoredLease) -> None:
        try:
            await self._cluster.replace_lease(*self._place, self._spec("", held), held.resource_version)
        except Conflict:
            # It was being renewed when the work ended.
            found = await self._cluster.read_lease(*self._place)
            if found is not None and found.holder == self._me:
                await self._cluster.replace_lease(*self._place, self._spec("", found), found.resource_version)

    async def _try(self) -> None:
        """One attempt to get it. Raises `ClusterError` or `TimeoutError`."""
        async with asyncio.timeout(_REQUEST_SECONDS):
            found = await self._cluster.read_lease(*self._place)
        if self._is_free(found):
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._write(found)

    def _is_free(self, found: StoredLease | None) -> bool:
        now = self._monotonic()
        if found is not None and found.holder in ("", self._me):
            return True
        if found is None and self._seen is None:
            return True
        # A Lease that was deleted may be held by one that does not know it yet.
        version = "" if found is None else found.resource_version
        if self._seen is None or self._seen[0] != version:
            self._seen = version, now
        duration = max(DURATION_SECONDS, 0 if found is None else found.duration_seconds)
        return now >= self._seen[1] + duration

    async def _renewed(self) -> bool:
        """False if it is to be tried again soon. Raises `Lost`."""
        if not self.is_held:
            raise self._lost(f"the lease could not be renewed for {HOLD_SECONDS:g} s")
        try:
            # So that one that hangs leaves time for another.
            async with asyncio.timeout(min(self._left(), max(self._left() / 2, 1.0))):
                await self._renew()
        except (ClusterError, TimeoutError) as error:
            self._failed(error)
            return False
        self._failing = False
        return True

    async def _renew(self) -> None:
        try:
            await self._write(self._held)
        except NotFound:
            raise self._lost("the lease was deleted") from None
        except Conflict:
            # An earlier write of ours may have come through after all.
            found = await self._cluster.read_lease(*self._place)
            if found is None or found.holder != self._me:
                raise self._lost(f"the lease is held by {(found and found.holder) or 'nobody'}") from None
            self._held = found
            # When that was done is not known, so it does not count: another write does.
            await self._write(found)

    def _lost(self, because: str) -> Lost:
        self._held = None
        return Lost(because)

    def _left(self) -> float:
        return self._sent + HOLD_SECONDS - self._monotonic()

    async def _write(self, before: StoredLease | None) -> None:
        """Makes it ours, or keeps it so; from when this was sent it counts."""
        sent = self._monotonic()
        spec = self._spec(self._me, before)
        if before is None:
            self._held = await self._cluster.create_lease(*self._place, spec)
        else:
            self._held = await self._cluster.replace_lease(*self._place, spec, before.resource_version)
        self._sent = sent

    def _spec(self, holder: str, before: StoredLease | None) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        changes = 0 if before is None or holder in ("", before.holder) else 1
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": DURATION_SECONDS,
            "renewTime": now,
            "leaseTransitions": (0 if before is None else before.transitions) + changes,
        }

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            log_lines.warning("the lease cannot be read or written", error=str(error) or "no answer in time")
        self._failing = True
