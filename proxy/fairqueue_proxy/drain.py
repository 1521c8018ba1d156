"""Going away without losing a request.

A drain begins with a flag (`/-/drain`, or SIGTERM). Requests are still taken until none has come for a while,
because those who balance load hear of it late; then new ones are refused. It is over when nothing is being received,
queued or in flight, or when the window has passed. What can't finish in the window at the pace of late is refused
first, from whoever has most queued.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.outcome import Outcome, Refused

QUIET_SECONDS = 5.0
TAKE_SECONDS = 15.0
WAIT_FOR_BEGIN_SECONDS = 15.0
LOOK_SECONDS = 0.1

log = logging.getLogger(__name__)


class Drain:
    """One drain, at most, in a proxy's life."""

    def __init__(self, dispatcher: Dispatcher, window_seconds: float, clock: Callable[[], float]) -> None:
        self._dispatcher = dispatcher
        self.window_seconds = window_seconds
        self._clock = clock
        self._begun_at = 0.0
        self._taken_at = 0.0
        self._refusing = False
        self._task: asyncio.Task[None] | None = None
        self._passing = 0
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    def begin(self, *, refuse: bool = False) -> None:
        """Begins the drain. `refuse`: nothing new is taken from now on (nobody is to send any more)."""
        if refuse:
            self._refusing = True
        if self.begun.is_set():
            return
        log.info("drain begins")
        self._begun_at = self._taken_at = self._clock()
        self.begun.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def take(self) -> None:
        """A metered request has come.

        Raises:
            Refused: it came too late.
        """
        if not self.begun.is_set():
            return
        if self._refuses():
            raise self._refused()
        self._taken_at = self._clock()

    def note(self) -> None:
        """A request has come that is taken whatever the drain says."""
        self._taken_at = self._clock()

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """A request goes past the queue meanwhile: the drain waits for it, too."""
        self._passing += 1
        try:
            yield
        finally:
            self._passing -= 1

    async def wait(self, engine_healthy: Callable[[], bool], engine_answers: Callable[[], Awaitable[bool]]) -> None:
        """Returns when the drain is over; at once if the engine is not healthy (nothing to wait for), and when no
        drain begins.

        Who ends an engine because it hangs waits here, too, and is not to wait until the next look at the engine: it is
        asked now. Once the drain has begun that counts for nothing: an engine with much to do may be slow to answer.
        """
        deadline = self._clock() + WAIT_FOR_BEGIN_SECONDS
        asked = asyncio.ensure_future(engine_answers())
        try:
            while not self.over.is_set():
                hangs = not self.begun.is_set() and (self._clock() >= deadline or (asked.done() and not asked.result()))
                if hangs or not engine_healthy():
                    return
                event = self.over if self.begun.is_set() else self.begun
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await event.wait()
        finally:
            asked.cancel()

    @property
    def left_seconds(self) -> float:
        """Of the window, once it has begun."""
        return self._begun_at + self.window_seconds - self._clock()

    async def close(self) -> None:
        """Ends the drain's own task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _refuses(self) -> bool:
        now = self._clock()
        quiet = now - self._taken_at >= QUIET_SECONDS
        self._refusing = self._refusing or quiet or now - self._begun_at >= TAKE_SECONDS
        return self._refusing

    async def _run(self) -> None:
        while True:
            left = self.left_seconds
            if left <= 0:
                # Who waits for the end may stop the engine now.
                self._refusing = True
                refused = self._refused()
                self._dispatcher.refuse_queued(refused.outcome, refused.message, receiving=True)
                break
            if self._refuses():
                if not (self._passing or self._dispatcher.jobs or self._dispatcher.backlog.waits):
                    break
                self._refuse_hopeless(left)
            await asyncio.sleep(LOOK_SECONDS)
        log.info("drain is over, %d still in flight", self._dispatcher.in_flight)
        self.over.set()

    def _refuse_hopeless(self, left_seconds: float) -> None:
        pace = self._dispatcher.requests_per_second()
        while pace > 0 and self._dispatcher.backlog.queued > pace * left_seconds:
            if not self._dispatcher.refuse_newest(self._refused()):
                return

    @staticmethod
    def _refused() -> Refused:
        return Refused(Outcome.DRAINING, "this replica is going away: try again")
