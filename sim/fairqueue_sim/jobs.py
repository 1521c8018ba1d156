"""A request that vLLM or SGLang has taken. Whoever knows its id can end it."""

from collections.abc import Sequence
from dataclasses import dataclass

from fairqueue_sim.engine import Choice
from fairqueue_sim.engine_front import EngineFront, Place, begin_plain, begin_stream
from fairqueue_sim.live_session import LiveSession
from fairqueue_sim.sessions import Event, PlainSession, PlainShape, StreamShape
from fairqueue_sim.truth import RequestTruth
from fairqueue_sim.wire import Exchange

__all__ = ["Job"]


@dataclass(frozen=True, slots=True)
class Job:
    """`places` None: it turned out too late for a status line that there are none; the stream ends with an error."""

    engine: EngineFront
    exchange: Exchange
    record: RequestTruth
    request_id: str
    choices: Sequence[Choice]
    places: Sequence[Place] | None

    def answer(self, shape: PlainShape) -> None:
        """Replies when all of it is there."""
        session = PlainSession(self.engine, self.exchange, self.record, shape)
        self.engine.let_abort(self.request_id, session)
        begin_plain(session, self.choices, self.places or ())

    def stream(self, shape: StreamShape, *, opening: Sequence[Event] = (), cut_by_failure: bool = False) -> None:
        """Replies as it comes; for the options see LiveSession."""
        session = LiveSession(
            self.engine, self.exchange, self.record, shape, opening=opening, cut_by_failure=cut_by_failure
        )
        if self.places is None:
            session.begin([self.engine.full])
            return
        self.engine.let_abort(self.request_id, session)
        begin_stream(session, self.choices, self.places)
