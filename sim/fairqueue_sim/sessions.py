"""One metered request between its arrival and its end: collects what the engine makes and renders the reply.

A session listens to the generations of its choices. What the bytes look like is not its business: that is the shape,
one per route. Whatever ends a session (reply complete, client gone, engine failed) ends in `_over`, exactly once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from fairqueue_sim.engine import Choice, SimulatedEngine
from fairqueue_sim.generation import FinishReason, Generation, GenerationState
from fairqueue_sim.refusal import ENGINE_FAILURE, Refusal
from fairqueue_sim.truth import Outcome, RequestTruth
from fairqueue_sim.wire import Exchange

__all__ = ["Event", "PlainSession", "PlainShape", "Session", "StreamSession", "StreamShape"]

KEEP_ALIVE_EVENT = b":\n\n"


class Event(NamedTuple):
    """One SSE event and how many tokens it stands for."""

    data: bytes
    tokens: int = 0


class StreamShape(Protocol):
    """The bytes of a streamed reply; `numbers` are those of new tokens, none if an abort comes between two."""

    def head(self) -> bytes: ...
    def tokens(self, choice: Choice, numbers: list[int], reason: FinishReason | None) -> list[Event]: ...
    def failure(self, refusal: Refusal) -> Event: ...
    def closing(self) -> list[Event]: ...


class PlainShape(Protocol):
    """The bytes of a whole reply; `reply` gets the choices in the order in which they were completed."""

    def reply(self, choices: list[tuple[Choice, FinishReason]]) -> tuple[bytes, bytes]: ...
    def failure(self, refusal: Refusal) -> tuple[int, bytes, bytes]: ...


class Session:
    """What plain and streamed requests have in common."""

    def __init__(self, engine: SimulatedEngine, exchange: Exchange, record: RequestTruth) -> None:
        self.engine = engine
        self.exchange = exchange
        self.record = record
        self._choices: dict[int, Choice] = {}
        self._in_engine = 0
        self._outcome = Outcome.CANCELLED
        self._releases: list[Callable[[], None]] = []
        self._is_over = False
        exchange.when_over(self._over)

    def submit(self, choice: Choice) -> None:
        """Hands a choice to the engine."""
        choice.submitted_at = self.engine.clock()
        self._choices[choice.generation.number] = choice
        self._in_engine += 1
        self.engine.loop.submit(choice.generation, self)

    def hold(self, release: Callable[[], None]) -> None:
        """Something that is to be given back when the session is over."""
        self._releases.append(release)

    def _release_all(self) -> None:
        for release in self._releases:
            release()
        self._releases.clear()

    def _counts(self) -> bool:
        return True

    def started(self, generation: Generation) -> None:
        choice = self._choices[generation.number]
        if choice.started_at is None:
            choice.started_at = self.engine.clock()

    def prefilled(self, generation: Generation) -> None:
        self.engine.truth.prefilled(self.record, generation.prompt_tokens)

    def token(self, generation: Generation, number: int) -> None:
        self.engine.truth.made(self.record)
        choice = self._choices[generation.number]
        if choice.output.steering.die == number:
            self._outcome = Outcome.ERROR
            self.exchange.abort()
        choice.pending.append(number)

    def finished(self, generation: Generation, reason: FinishReason) -> None:
        if self._counts():
            self.engine.on_ended("success")
        self._left_engine(generation)
        if not self._is_over:
            self._ended(self._choices[generation.number], reason)

    def failed(self, generation: Generation) -> None:
        self.engine.on_ended("generation")
        self._left_engine(generation)
        if not self._is_over:
            self._outcome = Outcome.ERROR
            self._failed(self._choices[generation.number])

    def cancelled(self, generation: Generation) -> None:
        self._left_engine(generation)
        if not self._is_over:
            self._outcome = Outcome.ABORTED
            self.flush()
            self._ended(self._choices[generation.number], FinishReason.ABORT)
            self.flush()

    def abort(self) -> None:
        """Somebody ends the request by its id: the client gets what there is, and no error."""
        for choice in self._choices.values():
            self._cancel(choice)

    def flush(self) -> None:
        """Sends what the step has brought."""

    def _ended(self, choice: Choice, reason: FinishReason) -> None:
        """A choice is complete."""

    def _failed(self, choice: Choice) -> None:
        """A choice will not be completed."""

    def _leave(self, choice: Choice) -> None:
        """The client has left; the engine may still have this choice."""
        self._cancel(choice)

    def _cancel(self, choice: Choice) -> None:
        if choice.generation.state in (GenerationState.WAITING, GenerationState.RUNNING):
            self.engine.loop.cancel(choice.generation)

    def _done(self) -> None:
        if self._outcome is Outcome.CANCELLED:
            self._outcome = Outcome.DONE

    def _over(self) -> None:
        self._is_over = True
        self._release_all()
        for choice in self._choices.values():
            self._leave(choice)
        self._tell_truth()

    def _left_engine(self, generation: Generation) -> None:
        self._in_engine -= 1
        self._tell_truth()

    def _tell_truth(self) -> None:
        # The engine may still be making a token for a client that has left: it belongs to the totals.
        if self._is_over and not self._in_engine:
            self.engine.truth.ended(self.record, self._outcome)
            self.engine.truth.flush()


class PlainSession(Session):
    """Answers when every choice is complete, or at the first failure.

    `permits` are given back as soon as the engine has nothing to do with the session any more, before the reply is
    sent. `counts_as_one` counts several copies of a request as one success, as TGI does.
    """

    def __init__(
        self,
        engine: SimulatedEngine,
        exchange: Exchange,
        record: RequestTruth,
        shape: PlainShape,
        *,
        permits: Sequence[Callable[[], None]] = (),
        counts_as_one: bool = False,
    ) -> None:
        super().__init__(engine, exchange, record)
        self._releases.extend(permits)
        self._shape = shape
        self._counts_as_one = counts_as_one
        self._complete: list[tuple[Choice, FinishReason]] = []
        self._answered = False

    def begin(self, choices: list[Choice]) -> None:
        """Queues the choices in the engine."""
        for choice in choices:
            self.submit(choice)

    def _ended(self, choice: Choice, reason: FinishReason) -> None:
        self._complete.append((choice, reason))
        if len(self._complete) < len(self._choices):
            return
        self._release_all()
        head, body = self._shape.reply(self._complete)
        self._done()
        self.engine.truth.sent(self.record, sum(c.generation.generated_tokens for c, _ in self._complete))
        self.exchange.reply(200, head, body)

    def _failed(self, choice: Choice) -> None:
        if self._answered:
            return
        self._answered = True
        self._release_all()
        self.exchange.reply(*self._shape.failure(ENGINE_FAILURE))

    def _counts(self) -> bool:
        return not self._counts_as_one or len(self._complete) + 1 == len(self._choices)


class StreamSession(Session):
    """Sends events as tokens come.

    With several choices their events take turns as in TGI: the stream waits for the next event of the choice whose turn
    it is, however many others are there. `in_turn=False` sends them as they come. `detached` is a stream whose reader
    is a task of its own, as TGI's for several prompts: it notices that the client has left at its next token.
    `comments` breaks silences with comments.
    """

    def __init__(
        self,
        engine: SimulatedEngine,
        exchange: Exchange,
        record: RequestTruth,
        shape: StreamShape,
        *,
        in_turn: bool = True,
        detached: bool = False,
        comments: bool = True,
    ) -> None:
        super().__init__(engine, exchange, record)
        self._shape = shape
        self._in_turn = in_turn
        self._detached = detached
        self._comments = comments
        self._turns: deque[_Turn] = deque()
        self._by_number: dict[int, _Turn] = {}
        self._held: dict[int, Callable[[], None]] = {}
        self._keep_alive: asyncio.TimerHandle | None = None

    def hold_for(self, choice: Choice, release: Callable[[], None]) -> None:
        """Something that is to be given back when the engine is done with that choice."""
        self._held[choice.generation.number] = release

    def begin(self, choices: list[Choice | Refusal]) -> None:
        """Starts the reply and queues the choices; in place of one that is refused stands its refusal."""
        self.exchange.start_events(self._shape.head())
        for choice in choices:
            turn = _Turn()
            self._turns.append(turn)
            if isinstance(choice, Refusal):
                turn.events.append(self._shape.failure(choice))
                turn.closed = True
                self._outcome = Outcome.REFUSED
            else:
                self._by_number[choice.generation.number] = turn
                self.submit(choice)
        if self._choices:
            self._outcome = Outcome.CANCELLED
            if self._comments:
                self._watch_silence()
        self.flush()

    def token(self, generation: Generation, number: int) -> None:
        super().token(generation, number)
        if self._is_over and self._detached:
            # Only once the next step has begun: that one is lost on the client, too.
            asyncio.get_running_loop().call_soon(self.engine.loop.cancel, generation)

    def flush(self) -> None:
        if self._is_over:
            return
        for number, turn in self._by_number.items():
            choice = self._choices[number]
            if choice.pending or turn.is_aborted:
                turn.is_aborted = False
                turn.events.extend(self._shape.tokens(choice, choice.pending, turn.reason))
                choice.pending = []
        self._send(self._next_events())

    def _ended(self, choice: Choice, reason: FinishReason) -> None:
        turn = self._by_number[choice.generation.number]
        turn.reason, turn.closed = reason, True
        # Whoever aborts it may do so between two tokens: the shape is to be told, though none is pending.
        turn.is_aborted = reason is FinishReason.ABORT

    def _failed(self, choice: Choice) -> None:
        turn = self._by_number[choice.generation.number]
        turn.events.append(self._shape.failure(ENGINE_FAILURE))
        self._close_turn(choice)

    def _close_turn(self, choice: Choice) -> None:
        self._by_number[choice.generation.number].closed = True

    def _leave(self, choice: Choice) -> None:
        if not self._detached:
            super()._leave(choice)

    def _left_engine(self, generation: Generation) -> None:
        if (release := self._held.pop(generation.number, None)) is not None:
            release()
        super()._left_engine(generation)

    def _next_events(self) -> list[Event]:
        ready: list[Event] = []
        if not self._in_turn:
            for turn in self._turns:
                ready.extend(turn.events)
                turn.events.clear()
            self._turns = deque(turn for turn in self._turns if not turn.closed)
            return ready
        while self._turns:
            turn = self._turns[0]
            if turn.events:
                ready.append(turn.events.popleft())
                self._turns.rotate(-1)
            elif turn.closed:
                self._turns.popleft()
            else:
                break
        return ready

    def _send(self, ready: list[Event]) -> None:
        last = not self._turns
        if last:
            self._stop_keep_alive()
            ready += self._shape.closing()
            self._done()
        if not ready and not last:
            return
        if tokens := sum(event.tokens for event in ready):
            self.engine.truth.sent(self.record, tokens)
        self.exchange.send_events([event.data for event in ready], last=last)

    def _watch_silence(self) -> None:
        loop = asyncio.get_running_loop()
        limit = self.engine.settings.keep_alive_seconds
        if loop.time() - self.exchange.last_write_at >= limit:
            self.exchange.send_events([KEEP_ALIVE_EVENT])
        self._keep_alive = loop.call_at(self.exchange.last_write_at + limit, self._watch_silence)

    def _stop_keep_alive(self) -> None:
        if self._keep_alive is not None:
            self._keep_alive.cancel()

    def _over(self) -> None:
        self._stop_keep_alive()
        super()._over()


class _Turn:
    """The events of one choice that are not sent yet."""

    __slots__ = ("closed", "events", "is_aborted", "reason")

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.closed = False
        self.is_aborted = False
        self.reason: FinishReason | None = None
