"""Watches the engine from outside the request path: can it be reached, is it healthy, what does it report.

Runs one task. What it learns degrades to "unknown" when the engine does not answer; only two things stop dispatch:
the engine refuses connections, or it has just refused a request for want of room.
"""

import asyncio
import logging
from collections.abc import Callable

from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.engine_inquiry import STALE_SECONDS, Inquiry
from fairqueue_proxy.look_rate import LookRate
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.upstream import EngineUnreachable, Upstream, UpstreamError

UNAVAILABLE_SECONDS = 5.0
PROBE_SECONDS = 0.25
UNHEALTHY_SECONDS = 1.0
NOTICE_SECONDS = 0.25
HANGS_SECONDS = 2.0
OVERLOAD_PAUSE_SECONDS = 0.25

log = logging.getLogger(__name__)


class EngineWatch:
    """The engine's state as far as it is known."""

    def __init__(self, kind: str, upstream: Upstream, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._dispatcher = dispatcher
        self._clock = clock
        self._inquiry = Inquiry(kind, upstream, dispatcher, clock)
        self._rate = LookRate()
        self._down_since: float | None = None
        # It has refused connections, and none has been made since.
        self._gone = False
        self._probe: asyncio.Task[None] | None = None
        self._overloaded = 0
        self.healthy = False

    def engine_is(self, kind: str, api_key: str | None, interval_seconds: float = 0.0) -> None:
        """What the policy says of the engine, and the shortest time between two looks at it."""
        self._rate.shortest_seconds = interval_seconds
        self._inquiry.engine_is(kind, [("Authorization", f"Bearer {api_key}")] if api_key is not None else [])

    @property
    def interval_seconds(self) -> float:
        """Between two looks at the engine, as things are now. Of one that is not healthy only the health is asked."""
        if not self.healthy:
            return max(UNHEALTHY_SECONDS, self._rate.shortest_seconds)
        return self._rate.pause_seconds(busy=self._busy)

    @property
    def waiting(self) -> float | None:
        """Requests that wait in the engine, as it said not long ago."""
        return self._inquiry.reading(self._stale_seconds).waiting

    @property
    def running(self) -> float | None:
        """Requests that run in the engine, as it said not long ago."""
        return self._inquiry.reading(self._stale_seconds).running

    @property
    def scraped_at(self) -> float | None:
        """When it said so."""
        return self._inquiry.scraped_at

    @property
    def unavailable(self) -> bool:
        """The engine has refused connections for longer than requests are kept waiting for it."""
        return self._down_since is not None and self._clock() - self._down_since > UNAVAILABLE_SECONDS

    def unreachable(self) -> None:
        """A connection to the engine could not be made: nothing is let in until one can."""
        if self._down_since is None:
            self._down_since = self._clock()
            self.healthy = False
            self._gone = True
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
                await self._until_next_look()
        finally:
            if self._probe is not None:
                self._probe.cancel()

    async def answers(self) -> bool:
        """Asks the engine for its health, apart from all looks, and does not wait for long."""
        try:
            async with asyncio.timeout(HANGS_SECONDS):
                return await self._inquiry.healthy()
        except (UpstreamError, OSError):
            # TimeoutError is one of these.
            return False

    async def look(self) -> None:
        """Asks the engine once for its health, its limits when they are due, and its gauges."""
        asked_before = self._inquiry.asked_seconds
        try:
            was_healthy, self.healthy = self.healthy, await self._inquiry.healthy()
        except (UpstreamError, OSError) as error:
            # It may be busy rather than dead: requests will tell.
            self.healthy = False
            self._gone = self._gone or _refused(error)
            return
        self._found()
        if self.healthy:
            await self._inquiry.ask(anew=not was_healthy)
            self._rate.answered(self._inquiry.asked_seconds - asked_before)

    async def _until_next_look(self) -> None:
        looked_at = self._clock()
        while True:
            await asyncio.sleep(min(self.interval_seconds, NOTICE_SECONDS))
            # The interval is another one as soon as there is work.
            if self._clock() - looked_at >= self.interval_seconds:
                return

    @property
    def _busy(self) -> bool:
        dispatcher = self._dispatcher
        return bool(dispatcher.in_flight or dispatcher.backlog.waits or dispatcher.observed)

    @property
    def _stale_seconds(self) -> float:
        return max(STALE_SECONDS, 2 * self.interval_seconds)

    def _found(self) -> None:
        """The engine has been reached."""
        if self._gone:
            self._gone = False
            self._inquiry.restarted()

    async def _wait_until_reachable(self) -> None:
        while not await self._reachable():
            if self.unavailable:
                self._dispatcher.refuse_queued(
                    Outcome.ENGINE_UNAVAILABLE, "the engine refuses connections: try again later"
                )
            await asyncio.sleep(PROBE_SECONDS)
        log.warning("engine accepts connections again")
        self._found()
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


def _refused(error: Exception) -> bool:
    """Not just too slow."""
    return isinstance(error, EngineUnreachable) and not isinstance(error.__cause__, TimeoutError)
