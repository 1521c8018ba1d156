"""Which Events wait to be written, and whose turn it is. No I/O.

Each namespace has an allowance, so that whoever has much happen keeps only its own waiting, and all together have a
generous one; namespaces take turns. What waits is kept, of one object and reason the newest. Where there is no more
room, the namespace that has most waiting loses its oldest.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from .event_notes import Note

NAMESPACE_BURST: Final = 100.0
NAMESPACE_PER_SECOND: Final = 2.0
TOTAL_BURST: Final = 200.0
TOTAL_PER_SECOND: Final = 25.0
MOST_WAITING: Final = 10_000
# From here on namespaces of which nothing waits are forgotten, once that makes no difference.
_NAMESPACES_REMEMBERED: Final = 1024
# Sums of small amounts of time are not exact.
_ALMOST_ONE: Final = 1 - 1e-6

_Key = tuple[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A note that is to be written."""

    note: Note
    happened: datetime
    since: float
    """When it was put here, in seconds of the queue's clock."""


@dataclass(slots=True)
class _Allowance:
    """So many at once, and then so many a second."""

    burst: float
    per_second: float
    counted_at: float
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.burst

    def wait_seconds(self, now: float) -> float:
        """Until one may be spent; 0: now."""
        self.left = min(self.burst, self.left + (now - self.counted_at) * self.per_second)
        self.counted_at = now
        return 0.0 if self.left >= _ALMOST_ONE else (1 - self.left) / self.per_second


@dataclass(slots=True)
class _Namespace:
    allowance: _Allowance
    waiting: dict[_Key, Waiting] = field(default_factory=dict)

    def is_as_new(self, now: float) -> bool:
        self.allowance.wait_seconds(now)
        return not self.waiting and self.allowance.left >= self.allowance.burst


class EventQueue:
    """See the module's text. `now` is in seconds of one clock that never goes back."""

    def __init__(self, now: float) -> None:
        self._total = _Allowance(TOTAL_BURST, TOTAL_PER_SECOND, now)
        # In the order of their turns.
        self._namespaces: dict[str, _Namespace] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, note: Note, happened: datetime, now: float) -> Note | None:
        """Has it wait, in place of an older one on the same. Returns what had to go for it, if anything."""
        waiting = self._of(note.namespace, now).waiting
        key = note.owner, note.reason
        self._count += key not in waiting
        waiting[key] = Waiting(note, happened, now)
        return self._drop_one() if self._count > MOST_WAITING else None

    def take(self, now: float) -> Waiting | None:
        """What is to be written now, if anything; it is taken for written, and waits no more."""
        if self._total.wait_seconds(now) > 0:
            return None
        for name, namespace in self._namespaces.items():
            if namespace.waiting and namespace.allowance.wait_seconds(now) == 0:
                self._total.left -= 1
                namespace.allowance.left -= 1
                self._count -= 1
                # Its next turn is after all others'.
                self._namespaces[name] = self._namespaces.pop(name)
                return namespace.waiting.pop(next(iter(namespace.waiting)))
        return None

    def give_back(self, taken: Waiting, now: float) -> None:
        """It could not be written: it waits again, unless something newer does."""
        waiting = self._of(taken.note.namespace, now).waiting
        key = taken.note.owner, taken.note.reason
        self._count += key not in waiting
        waiting.setdefault(key, taken)

    def wait_seconds(self, now: float) -> float | None:
        """How long `take` has nothing to give; None: until something is put here."""
        waits = [each.allowance.wait_seconds(now) for each in self._namespaces.values() if each.waiting]
        return max(min(waits), self._total.wait_seconds(now)) if waits else None

    def _of(self, name: str, now: float) -> _Namespace:
        found = self._namespaces.get(name)
        if found is None:
            if len(self._namespaces) >= _NAMESPACES_REMEMBERED:
                known = self._namespaces.items()
                self._namespaces = {other: each for other, each in known if not each.is_as_new(now)}
            found = _Namespace(_Allowance(NAMESPACE_BURST, NAMESPACE_PER_SECOND, now))
            self._namespaces[name] = found
        return found

    def _drop_one(self) -> Note:
        self._count -= 1
        waiting = max(self._namespaces.values(), key=lambda each: len(each.waiting)).waiting
        return waiting.pop(next(iter(waiting))).note
