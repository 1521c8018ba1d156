"""Reads a simulated engine's step log: how much it made in a span of time, who waited in it, and what stood idle."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec

from socket_bench.seen import Seen

__all__ = ["Look", "StepView"]


class _Queued(msgspec.Struct, tag_field="event", tag="queued"):
    at: float
    need_tokens: int
    would_have_joined: list[float] = []


class _Emptied(msgspec.Struct, tag_field="event", tag="emptied"):
    at: float


class Look(msgspec.Struct, tag_field="event", tag="step"):
    """A step; see docs/engine-sim.md for its fields."""

    began: float
    ended: float
    seconds: float
    prompt_tokens: int
    output_tokens: int
    looked: bool
    joined: int
    running: int
    waiting: int
    waiting_that_fit: int
    room_tokens: int
    room_requests: int | None
    room_prefill_tokens: int

    def is_full(self, need_tokens: int) -> bool:
        """Whether not even an empty queue would have let one more in."""
        return self.looked and (self.room_requests == 0 or self.room_tokens < need_tokens)


@dataclass(slots=True)
class StepView:
    """Follows one log."""

    path: Path
    speed: float
    steps: list[Look] = field(default_factory=list)
    is_empty: bool = True
    _queued: list[_Queued] = field(default_factory=list)
    _emptied: list[float] = field(default_factory=list)
    _read_bytes: int = 0

    def read(self) -> None:
        """Takes in what is new; half a line at the end is left for the next time."""
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1]
        self._read_bytes += len(lines)
        for line in lines.splitlines():
            record = _decoder.decode(line)
            if isinstance(record, Look):
                self.steps.append(record)
            elif isinstance(record, _Queued):
                self._queued.append(record)
            else:
                self._emptied.append(record.at)
            self.is_empty = isinstance(record, _Emptied)

    def forget(self) -> None:
        """Drops what was read so far."""
        self.steps.clear()
        self._queued.clear()
        self._emptied.clear()

    def seen(self, start: float, end: float) -> Seen:
        """Of a span in which somebody waits for the engine all the time."""
        ended = [step for step in self.steps if start < step.ended <= end]
        joined = [step for step in self.steps if start <= step.began < end and step.joined]
        empty = sum(_overlap(gap, start, end) for gap in self._gaps())
        busy = sum(step.seconds for step in ended) / self.speed
        return Seen(
            seconds=end - start,
            running_mean=sum(step.running for step in ended) / max(len(ended), 1),
            prompt_tokens=sum(step.prompt_tokens for step in ended),
            output_tokens=sum(step.output_tokens for step in ended),
            waiting=[step.waiting for step in joined],
            fitting=[step.waiting_that_fit for step in joined],
            idle_share=sum(_overlap(span, start, end) for span in self._idle_spans()) / (end - start),
            behind=max(1 - (busy + empty) / (end - start), 0.0),
        )

    def first_full(self, since: float) -> float | None:
        """When the engine first had no room for one more of the largest that were queued since."""
        need = max((queued.need_tokens for queued in self._queued if queued.at >= since), default=0)
        return next((step.began for step in self.steps if step.began >= since and step.is_full(need)), None)

    def waiting_between(self, start: float, end: float) -> list[Look]:
        """Steps with newcomers that began in a span."""
        return [step for step in self.steps if step.joined and start <= step.began < end]

    def last_queued(self, since: float) -> float | None:
        """When the last request came into the engine's queue."""
        return max((queued.at for queued in self._queued if queued.at >= since), default=None)

    def _idle_spans(self) -> Iterator[tuple[float, float]]:
        """From each look at which the one who came next would have joined, who waited elsewhere, to the next look."""
        missed = {began for queued in self._queued for began in queued.would_have_joined}
        looks = [step.began for step in self.steps if step.looked]
        for began, following in pairwise(looks):
            if began in missed:
                yield began, following
        # A batch that was full until it was empty leaves room that no look has seen.
        for empty, until in self._gaps():
            index = bisect_left(looks, empty) - 1
            if index < 0 or looks[index] not in missed:
                yield empty, until

    def _gaps(self) -> Iterator[tuple[float, float]]:
        """When there was no batch at all."""
        began = [step.began for step in self.steps]
        for at in self._emptied:
            following = bisect_left(began, at)
            yield at, began[following] if following < len(began) else float("inf")


def _overlap(span: tuple[float, float], start: float, end: float) -> float:
    return max(min(span[1], end) - max(span[0], start), 0.0)


_decoder = msgspec.json.Decoder(Look | _Queued | _Emptied)
