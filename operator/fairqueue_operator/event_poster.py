"""Writes Events in the background, each when it is its turn, and never in an admission's way.

`tell` is synchronous; `run` is the one task that writes. While the API server does not answer, what was told waits.
What it refuses is logged and forgotten.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Protocol

from . import log_lines
from .cluster_model import ClusterError, Unreachable
from .event_notes import Note, Reporter, event
from .event_queue import EventQueue, Waiting

PAUSE_SECONDS: Final = 5.0
"""After no answer."""
STALE_SECONDS: Final = 3600.0
"""API servers keep Events no longer than that; older ones are not written any more."""
_REMEMBERED: Final = 4096


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
        self._queue = EventQueue(monotonic())
        self._news = asyncio.Event()
        # Note → when it was written, the oldest first, if the reporter repeats itself.
        self._told: dict[Note, float] = {}
        self._is_dropping = False
        self._is_failing = False

    def tell(self, notes: Iterable[Note]) -> None:
        """Has them written, but for what the reporter has said lately if it is one that repeats itself."""
        now = self._monotonic()
        self._forget(now - self._reporter.quiet_seconds)
        for note in notes:
            if note in self._told:
                continue
            if self._queue.put(note, self._clock(), now) is not None and not self._is_dropping:
                self._is_dropping = True
                log_lines.warning("Events wait that are too many: the oldest are dropped", waiting=len(self._queue))
            self._news.set()

    async def run(self) -> None:
        """Writes what is told, for ever."""
        while True:
            self._news.clear()
            now = self._monotonic()
            waiting = self._queue.take(now)
            if waiting is not None:
                await self._write(waiting)
                continue
            wait = self._queue.wait_seconds(now)
            self._is_dropping = self._is_dropping and wait is not None
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _write(self, waiting: Waiting) -> None:
        note = waiting.note
        if self._reporter.quiet_seconds:
            # From now on, as it may be told again before the API server has answered.
            self._told[note] = self._monotonic()
        try:
            content = event(note, self._reporter, self._instance, waiting.happened)
            await self._cluster.create_event(note.namespace, content)
        except Unreachable as error:
            await self._keep(waiting, error)
            return
        except ClusterError as error:
            log_lines.warning("an Event could not be written", reason=note.reason, error=str(error))
        except Exception:
            log_lines.log.exception("an Event could not be written")
        self._is_failing = False

    async def _keep(self, waiting: Waiting, error: Unreachable) -> None:
        self._told.pop(waiting.note, None)
        now = self._monotonic()
        if not self._is_failing:
            log_lines.warning("Events cannot be written: they wait", error=str(error))
        self._is_failing = True
        if now - waiting.since < STALE_SECONDS:
            self._queue.give_back(waiting, now)
        await asyncio.sleep(PAUSE_SECONDS)

    def _forget(self, before: float) -> None:
        while self._told:
            note, told_at = next(iter(self._told.items()))
            if told_at > before and len(self._told) <= _REMEMBERED:
                return
            del self._told[note]
