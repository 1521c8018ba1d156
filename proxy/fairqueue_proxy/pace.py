"""How fast things end, and from that how long to wait before trying again. Pure; clock and randomness injected."""

import math
import random
from collections.abc import Callable

HALF_LIFE_SECONDS = 20.0
JITTER = 0.2
LONGEST_SECONDS = 120


class BusyTime:
    """A clock that stands still while there is nothing to do."""

    __slots__ = ("_clock", "_seconds", "_since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Busy time so far."""
        return self._seconds + (self._clock() - self._since if self._since is not None else 0.0)

    def begin(self) -> None:
        """There is something to do from now on."""
        if self._since is None:
            self._since = self._clock()

    def end(self) -> None:
        """There is nothing to do any more."""
        self._seconds, self._since = self.seconds, None


class Pace:
    """Events per second of busy time, averaged with exponentially fading weights.

    How fast things end is a question for the time in which there is something to end: `begin` and `end` tell of it.
    """

    __slots__ = ("_at", "_busy", "_seconds", "_weight")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._busy = BusyTime(clock)
        self._at = 0.0
        self._weight = 0.0
        self._seconds = 0.0

    def begin(self) -> None:
        """There is something to do from now on."""
        self._busy.begin()

    def end(self) -> None:
        """There is nothing to do any more."""
        self._busy.end()

    def tick(self) -> None:
        """Something ended."""
        self._fade()
        self._weight += 1.0

    def rate(self) -> float:
        """Events per second of late; 0 when nothing was seen yet."""
        self._fade()
        return self._weight / self._seconds if self._seconds > 0 else 0.0

    def _fade(self) -> None:
        now = self._busy.seconds
        elapsed = now - self._at
        if elapsed > 0:
            kept = 0.5 ** (elapsed / HALF_LIFE_SECONDS)
            self._weight *= kept
            # The integral of the weights themselves, so that a young average is not too low.
            self._seconds = self._seconds * kept + (1 - kept) * HALF_LIFE_SECONDS / math.log(2)
            self._at = now


def retry_after_seconds(ahead: int, rate: float, random_source: random.Random) -> int:
    """Whole seconds until `ahead` requests will have gone at this rate, with jitter so that those who were refused
    together do not come back together. Within 1 and 120."""
    wait = ahead / rate if rate > 0 else float(ahead)
    wait *= 1 + random_source.uniform(-JITTER, JITTER)
    return max(1, min(math.ceil(wait), LONGEST_SECONDS))
