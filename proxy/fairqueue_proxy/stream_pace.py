"""How many tokens a second one sequence gets in this engine, learned from replies that came to their end. Pure.

Only used for what can't be counted: the output of a plain reply that the engine cut short.
"""

FADE = 0.9


class StreamPace:
    """A fading ratio of sums."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of one sequence, from dispatch to end; 0 until something was learned."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        """A sequence made `tokens` in `seconds`."""
        if tokens > 0 and seconds > 0:
            self._tokens = self._tokens * FADE + tokens
            self._seconds = self._seconds * FADE + seconds
