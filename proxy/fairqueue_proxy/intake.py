"""What is learned of an engine from its first tokens: how many requests it starts at once, and how much it holds.

What waits inside an engine is served first come, first served, so little should; but whenever the engine looks at its
queue, there should be enough for all the room that has become free. First tokens tell both, without metrics and with
nothing to set. Engines start requests in the order in which they came, and those that start in one step answer
together; each step brings a token to a stream that runs. What a whole step has left behind *stands* in the engine's
queue. From that three things are learned:

- the **level**: the most that the engine was seen to run at once of late, in requests and in tokens. It counts once
  something stood in step after step while the engine ran no more than before: then it was full.
- the **probe**: so much more than the level is sent. One stands, so that no place is empty until the next request has
  come; it is doubled as long as nothing stands.
- the **limit** on what may be unstarted at a time. When a step has started as many, the next may start more; one that
  left something, though the level was not reached, starts no more than any of late did.

Replies that are not streamed show no first token. They count as unstarted until something tells that they have
started: a later request has answered, or the engine's own count of what waits is smaller than what was sent since.
For these there is a limit of its own, which only the engine's count moves.

Pure: told what was sent, what has answered and what the engine reports. `docs/backpressure.md` has the measurements
behind the numbers, `docs/decisions/0006` the reasons.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from fairqueue_proxy.scheduler import Request
from fairqueue_proxy.standing import Standing

FIRST_LIMIT = 16
FIRST_PLAIN_LIMIT = 32
STANDING = 1
"""So many are to stand in the engine's queue."""
GROWTH = 2
"""A limit that was too small grows by one such part of it."""
PLAIN_GROWTH = 8
FADE = 16
ANSWERS_REMEMBERED = STEPS_TIMED = 32
LEVELS_REMEMBERED = 48
STEPS_REMEMBERED = 4
STEPS_UNTIL_FULL = 3
PROBE_EVERY_STEPS = 16
LIKE_SLOTS = 20
"""Within such a part of it the number that runs when the engine is full is taken to be the same."""
SHORTEST_STEP_SECONDS = 0.002
PACE_IS_LOST_SECONDS = 1.0
MOST_PLAIN = 256
STEPS_TO_STAND = 3
SHORT_OUTPUT_TOKENS = 150
COUNT_IS_OLD_SECONDS = 2.0
COUNT_LAG_SECONDS = 0.5
"""Engines bring their counts up to date once in a while, and read a request before they count it."""


class Amount(NamedTuple):
    """Requests, each sequence of which counts, and their tokens in the engine's KV cache."""

    requests: int
    tokens: int

    def together(self, other: "Amount") -> "Amount":
        """The larger of each."""
        return Amount(max(self.requests, other.requests), max(self.tokens, other.tokens))


NOTHING = Amount(0, 0)


@dataclass(slots=True)
class _Step:
    """Answers that came together: when the first and the last came, how many, the most that ran then, and what was left
    standing.

    `had_room`: by what it has held before, the engine could have started the first that it left.
    """

    began_at: float = 0.0
    at: float = float("-inf")
    answers: int = 0
    running: Amount = NOTHING
    left: int = 0
    had_room: bool = False
    somebody_waits: bool = False
    stood: bool = False
    grew: bool = False


class Intake:
    """`limit` is on streams whose first token has not come, `plain_limit` on all that is not known to have started;
    `level` is None until the engine was seen full. Of the `pacemaker` each further token is to be told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Since when each of those that are not known to have started was sent, in that order, and what it needs.
        self._unstarted: dict[Request, tuple[float, Amount]] = {}
        self.streams = self.plain = self._tokens = 0
        self.forget()

    def __repr__(self) -> str:
        return f"<Intake {self.streams} of {self.limit} streams, {self.plain} plain, level {self.level}>"

    def forget(self) -> None:
        """The engine is another one."""
        self.limit, self.plain_limit, self.probe = FIRST_LIMIT, FIRST_PLAIN_LIMIT, 1
        self.level: Amount | None = None
        self.tokens_bind = False
        # The limit is doubled until the first time that it was too much.
        self._quick = True
        self._answer_seconds: deque[float] = deque(maxlen=ANSWERS_REMEMBERED)
        self._step = _Step()
        self._steps: deque[_Step] = deque(maxlen=LEVELS_REMEMBERED)
        self._most = NOTHING
        self._to_stand = Standing()
        self._steps_full = self._steps_since_probe = 0
        self._output_tokens = 0.0
        self._counted_at, self._plain_since_count = float("-inf"), 0
        # A stream whose tokens tell when steps end, and the ends of the last three.
        self.pacemaker: Request | None = None
        self._paced_at = 0.0
        self._step_seconds: deque[float] = deque(maxlen=STEPS_TIMED)
        self._ends: deque[float] = deque([float("-inf")] * STEPS_TO_STAND, maxlen=STEPS_TO_STAND)

    @property
    def unstarted(self) -> int:
        """All that is not known to have started."""
        return self.streams + self.plain

    @property
    def present_limit(self) -> int:
        """On all that is not known to have started, as things are now."""
        return self.limit + self.plain_limit if self.plain else self.limit

    @property
    def free(self) -> bool:
        """One more of either kind may be unstarted."""
        return self.streams < self.limit and self.plain < self.plain_limit

    def takes(self, request: Request) -> bool:
        """It may be unstarted."""
        return self.streams < self.limit if request.streamed else self.plain < self.plain_limit

    def sent(self, request: Request, tokens: int) -> None:
        """The engine is sent a request."""
        self._unstarted[request] = self._clock(), Amount(request.sequences, tokens)
        self._count(request, request.sequences, tokens)
        if not request.streamed:
            self._plain_since_count += request.sequences

    def gone(self, request: Request) -> None:
        """The request has started, or is not in the engine any more."""
        if request is self.pacemaker:
            self.pacemaker = None
        if (found := self._unstarted.pop(request, None)) is not None:
            self._count(request, -request.sequences, -found[1].tokens)

    def answered(self, request: Request, in_flight: Amount, *, somebody_waits: bool, whole: bool = False) -> None:
        """The request's first token has come, or its reply as a `whole`. `in_flight` is all that the engine has."""
        found = self._unstarted.get(request)
        if found is None:
            return
        self._overtake(request, found[0])
        self.gone(request)
        if not request.streamed or whole:
            # When it started is not known.
            return
        now = self._clock()
        self._answer_seconds.append(now - found[0])
        self._step_ended(now)
        if now - self._step.at > self._apart_seconds:
            self._begin_step(now)
        step = self._step
        step.at, step.somebody_waits = now, somebody_waits
        step.stood = step.stood or found[0] < self._ends[0]
        if found[0] >= self._ends[0]:
            self._to_stand.answered(in_time=found[0] >= self._ends[-2])
        step.answers += request.sequences
        running = Amount(in_flight.requests - self.unstarted, in_flight.tokens - self._tokens)
        step.running = step.running.together(running)
        self._most = self._most.together(running)
        if self.level is not None:
            self.level = self._most
        step.left = self._standing()
        step.had_room = self._has_room(running)
        self._more(step)
        if self.pacemaker is None or now - self._paced_at > PACE_IS_LOST_SECONDS:
            if self.pacemaker is not None:
                self._step_seconds.clear()
            self.pacemaker, self._paced_at = request, now

    def _overtake(self, request: Request, sent_at: float) -> None:
        """Engines start in order: what was sent before has started, too. A stream may only be about to show it."""
        for it in list(self._unstarted):
            if it is request:
                return
            at = self._unstarted[it][0]
            if not it.streamed or (at < self._ends[0] and sent_at - at > 2 * self._apart_seconds):
                self.gone(it)

    def paced(self) -> None:
        """The pacemaker has got one more token."""
        now = self._clock()
        seconds = now - self._paced_at
        if seconds < SHORTEST_STEP_SECONDS:
            # One more event of the same step.
            return
        self._step_seconds.append(seconds)
        self._paced_at = now
        self._step_ended(now)

    def _step_ended(self, now: float) -> None:
        if now - self._ends[-1] > self._apart_seconds:
            self._ends.append(now)
            self._presume_started(now)

    @property
    def _apart_seconds(self) -> float:
        """What comes closer together is of one step."""
        return median(self._step_seconds) / 2 if self._step_seconds else min(self._answer_seconds, default=0.0) / 2

    def ended(self, request: Request) -> None:
        """The request has left the engine."""
        self.gone(request)
        if request.streamed and request.output_tokens:
            self._output_tokens += (request.output_tokens / request.sequences - self._output_tokens) / FADE

    def refused(self) -> None:
        """The engine had no room for a request."""
        self.probe = min(self.probe, 1)

    def engine_counts(self, waiting: float, *, somebody_waits: bool) -> None:
        """The engine's own count of requests that wait in it."""
        binds = self.plain >= self.plain_limit
        self._counted_at = now = self._clock()
        before = now - COUNT_LAG_SECONDS
        sent_since = 0
        for request, (at, need) in reversed(list(self._unstarted.items())):
            if at > before:
                continue
            sent_since += need.requests
            if sent_since > waiting and not request.streamed:
                self.gone(request)
        if waiting > 2 * STANDING:
            # What waited at the last look already has been taken off already.
            self.plain_limit = max(self.plain_limit - min(int(waiting) - STANDING, self._plain_since_count), 1)
        elif not waiting and somebody_waits:
            self._none_waits(plain_binds=binds)
        self._plain_since_count = 0

    def _none_waits(self, *, plain_binds: bool) -> None:
        """By its own count the engine has room, whatever first tokens told."""
        if plain_binds:
            self.plain_limit = min(self.plain_limit + max(self.plain_limit // PLAIN_GROWTH, 1), MOST_PLAIN)
        elif not self.free:
            self.limit += 1
        elif self.level is not None:
            self.probe = min(max(2 * self.probe, 1), self.limit)

    def begin_anew(self) -> None:
        """The engine has nothing: what it is given next may be of another kind, and more of it may fit."""
        self.level, self.probe, self._quick, self._steps_full = None, 1, True, 0
        self.limit = FIRST_LIMIT
        self._step = _Step()
        self._steps.clear()

    def _presume_started(self, now: float) -> None:
        """Without a count nothing tells of plain replies but time, where only they stand before what has answered."""
        if now - self._counted_at < COUNT_IS_OLD_SECONDS or not self._answer_seconds:
            return
        before = now - max(2 * median(self._answer_seconds), COUNT_LAG_SECONDS)
        for request, (at, _) in list(self._unstarted.items()):
            if request.streamed or at > before:
                return
            if self.plain >= self.plain_limit:
                # What the last count left of the limit may be next to nothing, and no count raises it now.
                self.plain_limit = min(self.plain_limit + 1, max(FIRST_PLAIN_LIMIT, self.plain_limit))
            self.gone(request)

    def _count(self, request: Request, requests: int, tokens: int) -> None:
        self._tokens += tokens
        if request.streamed:
            self.streams += requests
        else:
            self.plain += requests

    def _standing(self) -> int:
        standing = 0
        for request, (at, need) in self._unstarted.items():
            if at >= self._ends[-2]:
                break
            # Of others it is not known.
            if request.streamed:
                standing += need.requests
        return standing

    def _has_room(self, running: Amount) -> bool:
        _, first = self._oldest_stream
        return (
            running.requests + first.requests <= self._most.requests
            and running.tokens + first.tokens <= self._most.tokens
        )

    def _begin_step(self, now: float) -> None:
        if self._steps:
            self._step_is_over(self._step)
        self._step = _Step(began_at=now)
        self._steps.append(self._step)
        self._most = NOTHING
        for step in self._steps:
            self._most = self._most.together(step.running)
        full = [step.running.requests for step in self._steps if step.left or step.stood]
        self.tokens_bind = bool(full) and max(full) - min(full) > max(1, max(full) // LIKE_SLOTS)

    def _step_is_over(self, step: _Step) -> None:
        before = NOTHING
        for it in self._steps:
            if it is not step:
                before = before.together(it.running)
        self._steps_full = self._steps_full + 1 if step.left and step.running.requests <= before.requests else 0
        if self._steps_full >= STEPS_UNTIL_FULL and self.level is None:
            self.level = self._most
        self._steps_since_probe = 0 if self.probe else self._steps_since_probe + 1
        if step.somebody_waits:
            level = self.level.requests if self.level is not None else None
            self._to_stand.step_is_over(left=step.left, level=level)
        least = self._standing_wanted
        if step.left or step.stood:
            self.probe = max(self.probe // 2, least) if step.left > max(least, STANDING) or not least else self.probe
        elif step.somebody_waits and step.answers < self.limit and step.running.together(before) != before:
            self.probe = min(max(2 * self.probe, 1), self.limit)
        if self._steps_since_probe >= PROBE_EVERY_STEPS:
            self.probe = max(self.probe, 1)
        self.probe = max(self.probe, self._to_stand.wanted)
        to_stand = max(STANDING, self._to_stand.wanted)
        if step.left > to_stand and (step.had_room or self.level is None):
            of_late = max(it.answers for it in list(self._steps)[-STEPS_REMEMBERED:])
            self.limit = max(min(of_late + to_stand, self.limit), 1)
            self._quick = False

    @property
    def _standing_wanted(self) -> int:
        least = STANDING if self._output_tokens < SHORT_OUTPUT_TOKENS or self.tokens_bind else 0
        return max(least, self._to_stand.wanted)

    def _more(self, step: _Step) -> None:
        if not step.somebody_waits:
            # Nothing was learned of late: back to where it began.
            self.limit = max(self.limit, min(self.limit + 1, FIRST_LIMIT))
        elif step.grew or step.answers < self.limit or self._oldest_stream[0] < step.began_at:
            # Fewer have started than were there when the step's first answer came.
            return
        else:
            step.grew = True
            more = self.limit if self._quick else max(self.limit // GROWTH, 1) if step.had_room else 1
            self.limit += min(more, step.answers)

    @property
    def _oldest_stream(self) -> tuple[float, Amount]:
        """Of those that have not started: when it was sent, and what it needs."""
        streams = (found for request, found in self._unstarted.items() if request.streamed)
        return next(streams, (float("inf"), Amount(1, 1)))
