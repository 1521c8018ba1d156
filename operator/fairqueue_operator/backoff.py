"""How long to wait before trying again: longer each time, and never the same as others wait."""

import random


class Backoff:
    """Doubles from `first_seconds` to `longest_seconds`; each wait is drawn from the upper half."""

    def __init__(self, jitter: random.Random, *, first_seconds: float = 0.5, longest_seconds: float = 30.0) -> None:
        self._jitter = jitter
        self._first = first_seconds
        self._longest = longest_seconds
        self._next = first_seconds

    def reset(self) -> None:
        """Called when something went well."""
        self._next = self._first

    def next_seconds(self) -> float:
        """The wait after one more failure."""
        longest, self._next = self._next, min(self._next * 2, self._longest)
        return self._jitter.uniform(longest / 2, longest)
