"""What OpenAI-like engines have in front of the model: a limit on requests, ids to abort them by, token totals."""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from fairqueue_sim.engine import Choice, EngineSettings, SimulatedEngine
from fairqueue_sim.generation import BatchLimits, Step
from fairqueue_sim.lax_bodies import LaxModel, read_json, validated
from fairqueue_sim.prompts import Prompt
from fairqueue_sim.refusal import OVERLOADED, Refusal
from fairqueue_sim.sessions import PlainSession, Session, StreamSession
from fairqueue_sim.truth import Outcome, RequestTruth, TruthLog
from fairqueue_sim.wire import Exchange

__all__ = ["EngineFront", "Place", "begin_plain", "begin_stream"]

Place = Callable[[], None]
B = TypeVar("B", bound=LaxModel)


class EngineFront(SimulatedEngine):
    """The state of such an engine. Every prompt and every copy of it takes a place until the engine is done with it."""

    full: Refusal = OVERLOADED
    """What is said to a request for which there is no place."""

    def __init__(self, settings: EngineSettings, truth: TruthLog, limits: BatchLimits) -> None:
        super().__init__(settings, truth, limits=limits)
        self.in_flight = 0
        self.prompt_tokens_total = 0
        self.generation_tokens_total = 0
        self._abortable: dict[str, Session] = {}

    def on_step(self, step: Step, over: bool) -> None:
        super().on_step(step, over)
        if over:
            self.prompt_tokens_total += sum(generation.prompt_tokens for generation in step.prefilled)
            self.generation_tokens_total += len(step.tokens)

    def has_places(self, count: int) -> bool:
        """Whether so many more would be taken."""
        limit = self.settings.max_concurrent_requests
        return limit is None or self.in_flight + count <= limit

    def take_places(self, count: int) -> list[Place]:
        """Takes so many places; each is given back by calling it once. Raises Refusal when there are not enough."""
        if not self.has_places(count):
            raise self.full
        self.in_flight += count
        return [self._give_place_back] * count

    def _give_place_back(self) -> None:
        self.in_flight -= 1

    def body(self, exchange: Exchange, kind: type[B]) -> B | None:
        """The request's body, read leniently; None when it was answered with what is wrong with it."""
        try:
            return validated(read_json(exchange.request), kind)
        except Refusal as refusal:
            self.reply_error(exchange, refusal)
            return None

    def reply_error(self, exchange: Exchange, refusal: Refusal) -> None:
        """Answers with an error in the engine's own shape."""
        raise NotImplementedError

    def refused(self, record: RequestTruth) -> None:
        """Notes that a request gets no tokens."""
        self.truth.ended(record, Outcome.REFUSED)
        self.truth.flush()

    def refuse(self, exchange: Exchange, record: RequestTruth, refusal: Refusal) -> None:
        """Answers with an error, and notes it."""
        self.refused(record)
        self.reply_error(exchange, refusal)

    def request_id(self, record: RequestTruth, given: str | None = None) -> str:
        """The id that the client gave, in its body or header; else one drawn from the seed."""
        number = Random(f"{self.settings.seed}/id/{record.number}").getrandbits(64)
        return given or record.request_id or f"{number:016x}"

    def let_abort(self, request_id: str, session: Session) -> None:
        """From now on whoever knows the id can abort the request."""
        self._abortable[request_id] = session
        session.hold(lambda: self._forget(request_id, session))

    def _forget(self, request_id: str, session: Session) -> None:
        if self._abortable.get(request_id) is session:
            del self._abortable[request_id]

    def abort(self, request_id: str) -> None:
        """Ends the request with that id, whoever's it is."""
        if (session := self._abortable.get(request_id)) is not None:
            session.abort()

    def abort_all(self) -> None:
        """Ends everybody's requests."""
        for session in list(self._abortable.values()):
            session.abort()

    def choices(
        self,
        prompts: Sequence[Prompt],
        copies: int,
        limit: int | None,
        stop: Sequence[str],
        *,
        ignore_end: bool = False,
    ) -> list[Choice]:
        """The outputs of a request; a limit that is more than the model's length leaves is cut to that."""
        longest = self.limits.max_total_tokens
        return [
            self.choice(
                index * copies + copy,
                prompt.text,
                prompt.tokens,
                None if limit is None else min(limit, longest - prompt.tokens),
                stop,
                ignore_end=ignore_end,
            )
            for index, prompt in enumerate(prompts)
            for copy in range(copies)
        ]


def begin_plain(session: PlainSession, choices: Sequence[Choice], places: Sequence[Place]) -> None:
    """Starts a whole reply; the places are given back when it is there."""
    for place in places:
        session.hold(place)
    session.begin([*choices])


def begin_stream(session: StreamSession, choices: Sequence[Choice], places: Sequence[Place]) -> None:
    """Starts a stream; each place is given back when the engine is done with its choice."""
    for choice, place in zip(choices, places, strict=True):
        session.hold_for(choice, place)
    session.begin([*choices])
