"""How often the engine is looked at: often while there is something to decide, but for no more than a hundredth of a
core of it. Pure: told how long it took to answer, and asked how long to wait."""

IDLE_SECONDS = 5.0
MOST_PAUSE_SECONDS = 30.0
PAUSE_PER_ANSWER = 100
NEWEST_PART = 0.5


class LookRate:
    """`shortest_seconds` is the policy's shortest time between two looks."""

    def __init__(self) -> None:
        self.shortest_seconds = 0.0
        self._answer_seconds: float | None = None

    def answered(self, seconds: float) -> None:
        """A look took the engine so long: it can't have worked on it for longer."""
        before = self._answer_seconds if self._answer_seconds is not None else seconds
        self._answer_seconds = before + NEWEST_PART * (seconds - before)

    def pause_seconds(self, *, busy: bool) -> float:
        """From the end of one look to the next."""
        cheap = min(PAUSE_PER_ANSWER * (self._answer_seconds or 0.0), MOST_PAUSE_SECONDS)
        return max(self.shortest_seconds, cheap, 0.0 if busy else IDLE_SECONDS)
