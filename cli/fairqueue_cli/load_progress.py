"""The line on standard error that says how a run goes: each second on a terminal, every five seconds elsewhere."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from fairqueue_cli.load_reply import Outcome
from fairqueue_cli.load_run import LoadResult

if TYPE_CHECKING:
    from fairqueue_cli.load_open import OpenResult

_INTERVAL_WITHOUT_TERMINAL_SECONDS = 5
_CLEAR_LINE = "\r\x1b[K"


@dataclass(slots=True)
class ProgressLine:
    """Called once a second while a run lasts. `label` opens each line."""

    stream: TextIO
    label: str = ""
    _calls: int = 0

    def __call__(self, result: LoadResult) -> None:
        self._show(_closed_text(result))

    def show_open(self, result: "OpenResult") -> None:
        """The same for an open loop."""
        self._show(_open_text(result))

    def close(self) -> None:
        """Leaves the cursor at the start of an empty line."""
        if self.stream.isatty() and self._calls:
            self.stream.write(_CLEAR_LINE)
            self.stream.flush()

    def _show(self, text: str) -> None:
        self._calls += 1
        if self.stream.isatty():
            self.stream.write(f"{_CLEAR_LINE}{self.label}{text}")
        elif self._calls % _INTERVAL_WITHOUT_TERMINAL_SECONDS == 0:
            self.stream.write(f"{self.label}{text}\n")
        self.stream.flush()


def _closed_text(result: LoadResult) -> str:
    seconds = result.ended_at - result.started_at
    parts = []
    for name, samples in result.tenants.items():
        part = f"{name}: {len(samples.running)} running, {_ended(samples.outcomes)}"
        parts.append(f"{part}, {samples.output_tokens / max(seconds, 1.0):.0f} tokens/s")
    warming = " (warming up)" if result.measured_from is None else ""
    return f"{seconds:4.0f} s{warming}  {' | '.join(parts)}"


def _open_text(result: "OpenResult") -> str:
    arrivals = result.plan.arrivals
    sent = f"{len(result.sent)} of {len(arrivals)} sent, {result.running} running"
    return f"{result.workload_seconds:4.0f} s of {arrivals[-1].seconds:.0f} s  {sent}, {_ended(result.outcomes)}"


def _ended(outcomes: Counter[Outcome]) -> str:
    troubled = outcomes[Outcome.REFUSED] + outcomes[Outcome.FAILED]
    replies = f"{outcomes[Outcome.COMPLETED]} replies"
    return f"{replies}, {troubled} refused or failed" if troubled else replies
