"""A heap of items whose keys mostly rise, looked at only when an item comes to the top.

An entry is a lower bound of its item's present key. A rising key costs nothing until the item is at the top, where
the entry is replaced; a falling key must be reported by `lowered`. So a charge costs O(1) and a decision O(log n)
amortised, whatever the number of items (compare VTC, OSDI '24, Algorithm 2: an argmin over all clients).
"""

import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class LazyHeap(Generic[T]):
    """Items ordered by `key`, which must give different tuples for different items, those that left included."""

    __slots__ = ("_heap", "_key", "_live")

    def __init__(self, key: Callable[[T], tuple[float | str, ...]]) -> None:
        self._key = key
        self._heap: list[tuple[tuple[float | str, ...], T]] = []
        self._live: dict[T, tuple[tuple[float | str, ...], T]] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, item: T) -> bool:
        return item in self._live

    def add(self, item: T) -> None:
        """Puts the item in, or gives it a fresh entry if it is there."""
        entry = (self._key(item), item)
        self._live[item] = entry
        heapq.heappush(self._heap, entry)
        # Entries of items that left or were lowered stay behind; without this, one that never rises to the top
        # would stay for ever.
        if len(self._heap) > 2 * len(self._live) + 16:
            self._heap = list(self._live.values())
            heapq.heapify(self._heap)

    def discard(self, item: T) -> None:
        """Takes the item out if it is there."""
        self._live.pop(item, None)

    def lowered(self, item: T) -> None:
        """To be called after the item's key may have fallen."""
        entry = self._live.get(item)
        if entry is not None and self._key(item) < entry[0]:
            self.add(item)

    def first(self) -> T | None:
        """The item with the smallest present key, None if empty."""
        while self._heap:
            entry = self._heap[0]
            item = entry[1]
            if self._live.get(item) is not entry:
                heapq.heappop(self._heap)
                continue
            key = self._key(item)
            if key == entry[0]:
                return item
            self._live[item] = fresh = (key, item)
            heapq.heapreplace(self._heap, fresh)
        return None
