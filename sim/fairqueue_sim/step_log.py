"""The step log: what the engine found each time it looked at its queue, for those who measure how it was fed.

One JSON line for each step of the engine and one for each request that was put into its queue, not one for each token:
cheap enough to be written while a benchmark runs. Written at the end of each step. Times are those of the injected
monotonic clock, which on Linux all processes share.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from fairqueue_sim.batching import ContinuousBatch
from fairqueue_sim.generation import Generation, Step

__all__ = ["StepLog"]

_NO_LIMIT = b"null"


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at the queue left for the next one to come. `running` are the tokens that each sequence has and will
    still make, where these are not reserved."""

    at: float
    free_tokens: int
    capacity_tokens: int
    running: list[tuple[int, int]] | None

    def would_have_taken(self, generation: Generation) -> bool:
        """As `ContinuousBatch.would_join` would have said then."""
        return generation.piece_need_tokens <= self.free_tokens and self._could_stay(generation)

    def _could_stay(self, generation: Generation) -> bool:
        if self.running is None:
            return True
        new = generation.prompt_tokens + max(generation.generated_tokens, 1), generation.left_tokens
        held = 0
        for number, (tokens, left) in enumerate(sorted([*self.running, new], key=lambda it: -it[1]), 1):
            held += tokens
            if held + (left - 1) * number > self.capacity_tokens:
                return False
        return True


class StepLog:
    """Told by the engine's loop what happens, in order."""

    def __init__(self, file: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._lines: list[bytes] = []
        self._looks: list[_Look] = []
        self._began_at = 0.0
        self._found = b""

    def queued(self, generation: Generation) -> None:
        """A new generation is in the engine's queue."""
        missed = b",".join(b"%.6f" % look.at for look in self._looks if look.would_have_taken(generation))
        self._looks.clear()
        line = b'{"event":"queued","at":%.6f,"need_tokens":%d,"would_have_joined":[%b]}\n'
        self._lines.append(line % (self._clock(), generation.piece_need_tokens, missed))

    def began(self, step: Step, batch: ContinuousBatch) -> None:
        """A step is in flight: notes what is in the batch with it, and what room is left for others."""
        self._began_at = self._clock()
        slots = batch.limits.slots
        if step.looked and not batch.waiting and batch.prefill_room_tokens > 0 and batch.running != slots:
            self._looks.append(self._look(batch))
        self._found = (
            b'"looked":%b,"joined":%d,"running":%d,"waiting":%d,"waiting_that_fit":%d,'
            b'"room_tokens":%d,"room_requests":%b,"room_prefill_tokens":%d'
        ) % (
            b"true" if step.looked else b"false",
            len(step.joined),
            batch.running,
            batch.waiting,
            batch.waiting_that_fit() if step.joined else 0,
            batch.capacity_tokens - batch.kv_used_tokens,
            _NO_LIMIT if slots is None else b"%d" % (slots - batch.running),
            batch.prefill_room_tokens,
        )

    def _look(self, batch: ContinuousBatch) -> _Look:
        free = batch.capacity_tokens - batch.kv_used_tokens
        return _Look(self._began_at, free, batch.capacity_tokens, batch.unreserved())

    def over(self, step: Step) -> None:
        """The step in flight is over, its tokens are there."""
        prompts = sum(generation.prompt_tokens for generation in step.prefilled)
        line = b'{"event":"step","began":%.6f,"ended":%.6f,"seconds":%.6f,"prompt_tokens":%d,"output_tokens":%d,%b}\n'
        self._lines.append(
            line % (self._began_at, self._clock(), step.duration_seconds, prompts, len(step.tokens), self._found)
        )
        self._write()

    def emptied(self) -> None:
        """Nothing is left to do."""
        self._lines.append(b'{"event":"emptied","at":%.6f}\n' % self._clock())
        self._write()

    def _write(self) -> None:
        self._file.write(b"".join(self._lines))
        self._file.flush()
        self._lines.clear()
