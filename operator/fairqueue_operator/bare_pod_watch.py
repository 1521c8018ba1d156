"""Looks for bare pods once a minute, and tells of them by Event and metric.

A look is a list of metadata, on the API server's side limited to pods that ask for the proxy and have not ended. One
that fails is logged once and forgotten: nothing else depends on it.
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Protocol

from . import log_lines
from .bare_pods import is_bare, note_on
from .cluster_model import ClusterError, Resource
from .event_poster import EventPoster

LOOK_SECONDS: Final = 60.0
FIRST_LOOK_SECONDS: Final = 5.0


class PodSource(Protocol):
    """What is needed of the API server."""

    def asking_pods(self) -> AsyncGenerator[Resource, None]: ...


class BarePodWatch:
    """See the module's text."""

    def __init__(self, source: PodSource, poster: EventPoster, count: Callable[[int], None]) -> None:
        self._source = source
        self._poster = poster
        self._count = count
        self._failing = False

    async def run(self, pause: Callable[[float], Awaitable[None]], jitter: random.Random) -> None:
        """Looks, for ever. Replicas do so at different times."""
        await pause(jitter.uniform(0, FIRST_LOOK_SECONDS))
        while True:
            await self._look()
            await pause(jitter.uniform(0.9, 1.1) * LOOK_SECONDS)

    async def _look(self) -> None:
        try:
            notes = [note_on(pod) async for pod in self._source.asking_pods() if is_bare(pod)]
        except ClusterError as error:
            if not self._failing:
                log_lines.warning("pods without the proxy cannot be looked for", error=str(error))
            self._failing = True
            return
        self._failing = False
        self._count(len(notes))
        self._poster.tell(notes)
