"""Writes Events in the background: few, none twice within ten minutes, and never in an admission's way.

`tell` is synchronous and drops what is too much; `run` is the one task that writes. What cannot be written is logged
and forgotten.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Protocol

from . import log_lines
from .cluster_model import ClusterError
from .event_notes import Note, Reporter, event

QUIET_SECONDS: Final = 600.0
_WAITING: Final = 256
_REMEMBERED: Final = 4096
# Events in a burst, and then one in so many seconds.
BURST: Final = 20.0
_SECONDS_PER_EVENT: Final = 2.0


class EventCluster(Protocol):
    """What is needed of the API server."""

    async def create_event(self, namespace: str, event: dict[str, Any]) -> None: ...


class EventPoster:
    """See the module's text."""

    def __init__(
        self,
        cluster: EventCluster,
        reporter: Reporter,
        instance: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._reporter = reporter
        self._instance = instance
        self._clock = clock
        self._monotonic = monotonic
        self._waiting: asyncio.Queue[Note] = asyncio.Queue(_WAITING)
        # Note → when it was told, the oldest first.
        self._told: dict[Note, float] = {}
        self._allowance = BURST
        self._counted_at = monotonic()

    def tell(self, notes: Iterable[Note]) -> None:
        """Takes up what was not told lately, if there is room for it."""
        for note in notes:
            now = self._monotonic()
            self._forget(now - QUIET_SECONDS)
            if note in self._told or not self._may_spend(now):
                continue
            try:
                self._waiting.put_nowait(note)
            except asyncio.QueueFull:
                continue
            self._told[note] = now
            self._allowance -= 1

    async def run(self) -> None:
        """Writes what was taken up, for ever."""
        while True:
            await self._write(await self._waiting.get())

    async def _write(self, note: Note) -> None:
        try:
            await self._cluster.create_event(note.namespace, event(note, self._reporter, self._instance, self._clock()))
        except ClusterError as error:
            log_lines.warning("an Event could not be written", reason=note.reason, error=str(error))
        except Exception:
            log_lines.log.exception("an Event could not be written")

    def _forget(self, before: float) -> None:
        while self._told:
            note, told_at = next(iter(self._told.items()))
            if told_at > before and len(self._told) <= _REMEMBERED:
                return
            del self._told[note]

    def _may_spend(self, now: float) -> bool:
        self._allowance = min(BURST, self._allowance + (now - self._counted_at) / _SECONDS_PER_EVENT)
        self._counted_at = now
        return self._allowance >= 1
