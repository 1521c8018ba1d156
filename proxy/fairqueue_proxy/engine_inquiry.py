"""Asks the engine what it can take and how it is doing, and tells the dispatcher.

Whatever it does not say is unknown, said once in the log, and nothing stops for it: first tokens tell enough.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable

from fairqueue_proxy.capacity import EngineReport
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.engine_reports import METRICS, REPORTS, Reading, ReportPaths, read_limits, read_running
from fairqueue_proxy.upstream import Upstream, UpstreamError

ANSWER_SECONDS = 5.0
LIMITS_SECONDS = 30.0
NOT_SERVED_SECONDS = 30.0
STALE_SECONDS = 60.0

log = logging.getLogger(__name__)


class Inquiry:
    """What is known of one engine. `asked_seconds` is the time that it took to answer, summed up."""

    def __init__(self, kind: str, upstream: Upstream, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self._kind = kind
        self._headers: list[tuple[str, str]] = []
        self._upstream = upstream
        self._dispatcher = dispatcher
        self._clock = clock
        self.asked_seconds = 0.0
        self.scraped_at: float | None = None
        self._reading: Reading | None = None
        self._limits_at: float | None = None
        self._limits = self._said = EngineReport()
        self._kv_tokens: int | None = None
        # When it was found that the engine doesn't serve a path.
        self._not_served_at: dict[str, float] = {}
        # What was complained of.
        self._absent: set[str] = set()

    def engine_is(self, kind: str, headers: list[tuple[str, str]]) -> None:
        """What the policy says of the engine."""
        if kind != self._kind:
            self._limits, self._kv_tokens = EngineReport(), None
            self._absent.clear()
        if (kind, headers) != (self._kind, self._headers):
            self._kind, self._headers = kind, headers
            self._forget()

    def restarted(self) -> None:
        """The engine is a new one."""
        self._forget()
        self._dispatcher.engine_restarted()

    def _forget(self) -> None:
        # What the old one said of its limits is believed until the new one has been asked.
        self._reading = self.scraped_at = self._limits_at = None
        self._not_served_at.clear()

    @property
    def paths(self) -> ReportPaths:
        """What is asked where."""
        return REPORTS[self._kind]

    def reading(self, at_most_seconds: float = STALE_SECONDS) -> Reading:
        """What the metrics said, unless that is too long ago."""
        if self._reading is None or self.scraped_at is None or self._clock() - self.scraped_at > at_most_seconds:
            return Reading()
        return self._reading

    async def healthy(self) -> bool:
        """Raises UpstreamError or OSError when the engine doesn't answer."""
        status, _ = await self._ask(self.paths.health)
        return status == 200

    async def ask(self, *, anew: bool) -> None:
        """Asks for limits when they are due, and for the gauges; `anew` when much may have changed."""
        if anew:
            self._not_served_at.clear()
            self._limits_at = None
        # An engine without a report, or with a broken one, is none the worse for it.
        with contextlib.suppress(UpstreamError, OSError):
            await self._ask_limits()
        with contextlib.suppress(UpstreamError, OSError):
            await self._ask_gauges()
        self._say()

    async def _ask_limits(self) -> None:
        now, path = self._clock(), self.paths.limits
        if path is None or (self._limits_at is not None and now - self._limits_at < LIMITS_SECONDS):
            return
        body = await self._body(path, "how much it takes at once", "policy or first tokens set the limits")
        self._limits_at = now
        if body is not None:
            self._limits = read_limits(self._kind, body)

    async def _ask_gauges(self) -> None:
        metrics = self.paths.metrics
        if metrics is None:
            return
        text = await self._body(METRICS, "what waits in it", f"fairqueue goes on with first tokens alone{metrics.off}")
        if text is None:
            self._reading = await self._ask_running()
            return
        reading = metrics.read(text)
        for name in (metrics.waiting, metrics.running, metrics.counter, metrics.kv_name):
            if name is not None:
                self._note(
                    name,
                    absent=name in reading.missing,
                    complaint=f"the engine's metrics do not tell {name}, {metrics.told_by(name)}: "
                    f"fairqueue goes on with first tokens alone{metrics.bare}",
                )
        self._take(reading)

    async def _ask_running(self) -> Reading | None:
        path = self.paths.running
        body = None
        if path is not None:
            body = await self._body(path, "how many requests run in it", "fairqueue goes on with first tokens alone")
        if body is None:
            return None
        self.scraped_at = self._clock()
        return Reading(running=read_running(self._kind, body))

    def _take(self, reading: Reading) -> None:
        if self._reading is not None and not reading.is_of_the_same_life(self._reading):
            log.warning("the engine has restarted, its metrics say")
            self.restarted()
        self._reading, self.scraped_at = reading, self._clock()
        self._kv_tokens = reading.kv_tokens if reading.kv_tokens is not None else self._kv_tokens
        if reading.waiting is not None:
            self._dispatcher.engine_counts(reading.waiting)

    def _say(self) -> None:
        """Tells the dispatcher what is new in what the limits' path and the metrics say."""
        report = self._limits
        if report.kv_tokens is None:
            report = dataclasses.replace(report, kv_tokens=self._kv_tokens)
        if report != self._said:
            self._said = report
            self._dispatcher.engine_says(report)

    async def _body(self, path: str, told: str, instead: str) -> bytes | None:
        """What a path says; None if the engine doesn't serve it, which is then not tried again for a while."""
        now = self._clock()
        if now - self._not_served_at.get(path, float("-inf")) < NOT_SERVED_SECONDS:
            return None
        status, body = await self._ask(path)
        absent = status != 200
        complaint = f"the engine answers {status} to GET {path}, which tells {told}: {instead}"
        self._note(path, absent=absent, complaint=complaint)
        if absent:
            self._not_served_at[path] = now
        return None if absent else body

    def _note(self, name: str, *, absent: bool, complaint: str) -> None:
        if absent and name not in self._absent:
            self._absent.add(name)
            log.warning(complaint)
        elif not absent and name in self._absent:
            self._absent.discard(name)
            log.warning("the engine tells %s again", name)

    async def _ask(self, path: str) -> tuple[int, bytes]:
        asked_at = self._clock()
        try:
            return await self._upstream.get(path, timeout_seconds=ANSWER_SECONDS, headers=self._headers)
        finally:
            self.asked_seconds += self._clock() - asked_at
