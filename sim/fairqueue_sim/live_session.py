"""Streams of engines whose output waits for its reader: vLLM and SGLang.

The engine itself never waits. While the reader stalls, what it makes is collected, and goes out as one chunk when the
socket buffers have room again or the output has ended.
"""

from collections.abc import Sequence

from fairqueue_sim.engine import Choice
from fairqueue_sim.engine_front import EngineFront
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.sessions import Event, StreamSession, StreamShape
from fairqueue_sim.truth import RequestTruth
from fairqueue_sim.wire import Exchange

__all__ = ["LiveSession"]


class LiveSession(StreamSession):
    """`opening` is sent before the first token is there. `cut_by_failure`: a failure of the engine closes the
    connection, without an event and without a last chunk."""

    def __init__(
        self,
        engine: EngineFront,
        exchange: Exchange,
        record: RequestTruth,
        shape: StreamShape,
        *,
        opening: Sequence[Event] = (),
        cut_by_failure: bool = False,
    ) -> None:
        super().__init__(engine, exchange, record, shape, in_turn=False, comments=False)
        self._cut_by_failure = cut_by_failure
        self._opening = opening
        self._has_failed = False

    def begin(self, choices: list[Choice | Refusal]) -> None:
        super().begin(choices)
        if self._opening:
            self.exchange.send_events([event.data for event in self._opening])

    def flush(self) -> None:
        if not self.exchange.is_stalled or any(turn.closed for turn in self._turns):
            super().flush()

    def _failed(self, choice: Choice) -> None:
        if self._cut_by_failure:
            self.exchange.abort()
        elif self._has_failed:
            self._close_turn(choice)
        else:
            self._has_failed = True
            super()._failed(choice)
