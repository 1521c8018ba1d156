"""A bucket of tokens per minute that may be overdrawn: who is in debt waits until it is paid.

Kept as one instant (the generic cell rate algorithm's theoretical arrival time), so that there is nothing to refill
and the moment at which it frees is known exactly.
"""

WINDOW_SECONDS = 60.0


class TokenBucket:
    """Holds one minute's worth of tokens at most; full at the start."""

    __slots__ = ("_paid_until", "_seconds_per_token")

    def __init__(self, tokens_per_minute: int, now: float) -> None:
        self._seconds_per_token = WINDOW_SECONDS / tokens_per_minute
        self._paid_until = now

    def take(self, tokens: int, now: float) -> None:
        """Takes tokens out; a negative number puts them back."""
        self._paid_until = max(self._paid_until, now) + tokens * self._seconds_per_token

    def change_rate(self, tokens_per_minute: int, now: float) -> None:
        """What was taken and not yet paid stays the same number of tokens."""
        owed = max(self._paid_until - now, 0.0) / self._seconds_per_token
        self._seconds_per_token = WINDOW_SECONDS / tokens_per_minute
        self._paid_until = now + owed * self._seconds_per_token

    @property
    def ready_at(self) -> float:
        """The instant from which on the bucket is not in debt."""
        return self._paid_until - WINDOW_SECONDS
