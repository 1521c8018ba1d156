"""The keys that are to be worked on: each once, however often it is asked for, and later if it failed.

A key waits, is worked on, or both: one that is added while somebody works on it waits until that is `done`, and is
then given out again, so nobody ever works on a key twice at once and no change is missed. One that is to come later
is in a heap with its time. Workers `get` a key, and call `done` for it whatever happened; those that failed are
`failed` as well, which adds them again after a wait that doubles each time until they are `forget`ten.

In one event loop; only `get` waits, and a `get` that is cancelled has taken nothing.
"""

import asyncio
import heapq
import random
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from .backoff import Backoff

FIRST_SECONDS: Final = 0.25
LONGEST_SECONDS: Final = 30.0

Key = TypeVar("Key", bound=Hashable)


class WorkQueue(Generic[Key]):
    """See the module's text. Its length is how many keys wait, without those that are to come later."""

    def __init__(self, clock: Callable[[], float], jitter: random.Random) -> None:
        self._clock = clock
        self._jitter = jitter
        # In the order in which they are given out.
        self._waiting: dict[Key, None] = {}
        self._in_work: set[Key] = set()
        # Those in work that were added since.
        self._again: set[Key] = set()
        # When, a number that orders what is due at the same time, which. Only what `_due` says as well counts.
        self._later: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._numbered = 0
        self._failures: dict[Key, Backoff] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._again)

    def add(self, key: Key) -> None:
        """The key is to be worked on, now or, if somebody does, once more after that."""
        if key in self._in_work:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = None
            self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """The same in so many seconds, or sooner if that was said before."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock() + seconds
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._numbered += 1
        heapq.heappush(self._later, (due, self._numbered, key))
        self._changed.set()

    async def get(self) -> Key:
        """The key that has waited longest, once there is one. To be followed by `done`."""
        while (key := self._take()) is None:
            self._changed.clear()
            wait = None if not self._later else max(0.0, self._later[0][0] - self._clock())
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return key

    def done(self, key: Key) -> None:
        """Nobody works on the key any more."""
        self._in_work.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def failed(self, key: Key) -> None:
        """Adds the key again after a wait."""
        if key not in self._failures:
            self._failures[key] = Backoff(self._jitter, first_seconds=FIRST_SECONDS, longest_seconds=LONGEST_SECONDS)
        self.add_after(key, self._failures[key].next_seconds())

    def forget(self, key: Key) -> None:
        """The key's failures do not count any more: it went well, or is not there."""
        self._failures.pop(key, None)

    def _take(self) -> Key | None:
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            due, _, key = heapq.heappop(self._later)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        if not self._waiting:
            return None
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._in_work.add(key)
        return key
