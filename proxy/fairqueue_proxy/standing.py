"""How many requests are to stand in the engine's queue, where what is sent comes too late for the next step.

A place that becomes free as a step ends is taken in the next step by what stands there already. What is sent then comes
when that step has begun, unless the way is as good as none, and the place is empty for it: one place for one step, but
where dozens run some place nearly always. So one more stands after each step that left nothing, and a little less after
each that did: of a hundred steps about one leaves nothing. Each that stands is a decision taken a step too early, so
they are never more than a small part of what runs.

Pure: told when answers were sent, and what steps left.
"""

from collections import deque

ANSWERS_REMEMBERED = 16
IN_TIME_AT_LEAST = 2
"""With as many of the last answers sent within the step that started them, nothing need stand."""
LESS = 1 / 64
PART_OF_LEVEL = 4


class Standing:
    """`more` is how many are to stand; 0 where what is sent comes in time."""

    def __init__(self) -> None:
        self._in_time: deque[bool] = deque(maxlen=ANSWERS_REMEMBERED)
        self._wanted = 0.0

    @property
    def wanted(self) -> int:
        return int(self._wanted)

    def answered(self, *, in_time: bool) -> None:
        """A first token has come of what was sent within the last two steps; `in_time`: within the last."""
        self._in_time.append(in_time)

    def step_is_over(self, *, left: int, level: int | None) -> None:
        """A step for which somebody waited here has left so many in the engine's queue."""
        late = len(self._in_time) == ANSWERS_REMEMBERED and sum(self._in_time) < IN_TIME_AT_LEAST
        if not late or level is None:
            self._wanted = 0.0
        elif left:
            self._wanted = max(self._wanted - LESS, 0.0)
        else:
            self._wanted = min(self._wanted + 1, level / PART_OF_LEVEL)
