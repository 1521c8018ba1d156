"""Watches the engine from outside the request path: can it be reached, is it healthy, what does it report.

Runs one task. What it learns degrades to "unknown" when the engine does not answer; only two things stop dispatch:
the engine refuses connections, or it has just refused a request for want of room.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.engine_reports import REPORTS, ReportPaths, read_limits
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.upstream import Upstream, UpstreamError

UNAVAILABLE_SECONDS = 5.0
PROBE_SECONDS = 0.25
WATCH_SECONDS = 1.0
LIMITS_SECONDS = 30.0
ANSWER_SECONDS = 5.0
OVERLOAD_PAUSE_SECONDS = 0.25

log = logging.getLogger(__name__)


class EngineWatch:
    """The engine's state as far as it is known."""

    def __init__(self, kind: str, upstream: Upstream, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self._kind = kind
        self._headers: list[tuple[str, str]] = []
        self._interval_seconds = 0.0
        self._upstream = upstream
        self._dispatcher = dispatcher
        self._clock = clock
        self._down_since: float | None = None
        self._probe: asyncio.Task[None] | None = None
        self._overloaded = 0
        self._limits_at: float | None = None
        self.healthy = False
        self.waiting: float | None = None
        self.running: float | None = None
        self.scraped_at: float | None = None

    @property
    def _paths(self) -> ReportPaths:
        return REPORTS[self._kind]

    def engine_is(self, kind: str, api_key: str | None, interval_seconds: float = 0.0) -> None:
        """What the policy says of the engine, and the shortest time between two looks at it."""
        self._kind = kind
        self._interval_seconds = interval_seconds
        self._headers = [("Authorization", f"Bearer {api_key}")] if api_key is not None else []

    @property
    def interval_seconds(self) -> float:
        """Between two looks at the engine."""
        return max(WATCH_SECONDS, self._interval_seconds)

    @property
    def unavailable(self) -> bool:
        """The engine has refused connections for longer than requests are kept waiting for it."""
        return self._down_since is not None and self._clock() - self._down_since > UNAVAILABLE_SECONDS

    def unreachable(self) -> None:
        """A connection to the engine could not be made: nothing is let in until one can."""
        if self._down_since is None:
            self._down_since = self._clock()
            self.healthy = False
            log.warning("engine refuses connections")
            self._set_paused()
            self._probe = asyncio.get_running_loop().create_task(self._wait_until_reachable())

    def overloaded(self) -> None:
        """The engine refused a request for want of room: a moment's pause."""
        self._overloaded += 1
        self._set_paused()
        asyncio.get_running_loop().call_later(OVERLOAD_PAUSE_SECONDS, self._overload_over)

    async def run(self) -> None:
        """Watches until cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except Exception:
                    # Whatever an engine says must not end the watch.
                    log.exception("looking at the engine failed")
                await asyncio.sleep(self.interval_seconds)
        finally:
            if self._probe is not None:
                self._probe.cancel()

    async def look(self) -> None:
        """Asks the engine once for its health, its limits when they are due, and its gauges."""
        try:
            status, _ = await self._ask(self._paths.health)
        except (UpstreamError, OSError):
            # It may be busy rather than dead: requests will tell.
            self.healthy = False
            return
        was_healthy, self.healthy = self.healthy, status == 200
        if self.healthy:
            # An engine without a report, or with a broken one, is none the worse for it.
            with contextlib.suppress(UpstreamError, OSError):
                await self._read_limits(again=not was_healthy)
            with contextlib.suppress(UpstreamError, OSError):
                await self._read_gauges()

    async def _ask(self, path: str) -> tuple[int, bytes]:
        return await self._upstream.get(path, timeout_seconds=ANSWER_SECONDS, headers=self._headers)

    async def _read_limits(self, *, again: bool) -> None:
        now = self._clock()
        due = self._limits_at is None or now - self._limits_at >= LIMITS_SECONDS
        if self._paths.limits is None or not (again or due):
            return
        status, body = await self._ask(self._paths.limits)
        self._limits_at = now
        if status == 200:
            self._dispatcher.capacity.report(read_limits(self._kind, body))
            self._dispatcher.pump()

    async def _read_gauges(self) -> None:
        if self._paths.waiting_gauge is None:
            return
        status, body = await self._ask("/metrics")
        if status == 200:
            self.waiting = self._paths.gauge(self._paths.waiting_gauge, body)
            self.running = self._paths.gauge(self._paths.running_gauge, body)
            self.scraped_at = self._clock()

    async def _wait_until_reachable(self) -> None:
        while not await self._reachable():
            if self.unavailable:
                self._dispatcher.refuse_queued(
                    Outcome.ENGINE_UNAVAILABLE, "the engine refuses connections: try again later"
                )
            await asyncio.sleep(PROBE_SECONDS)
        log.warning("engine accepts connections again")
        self._down_since = None
        self._set_paused()

    async def _reachable(self) -> bool:
        try:
            return await self._upstream.reachable()
        except Exception:
            # As in `run`: else nothing would ever be let in again.
            log.exception("looking for the engine failed")
            return False

    def _overload_over(self) -> None:
        self._overloaded -= 1
        self._set_paused()

    def _set_paused(self) -> None:
        self._dispatcher.capacity.paused = self._down_since is not None or self._overloaded > 0
        self._dispatcher.pump()
