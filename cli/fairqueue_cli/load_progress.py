"""The line on standard error that says how a run goes: each second on a terminal, every five seconds elsewhere."""

from dataclasses import dataclass
from typing import TextIO

from fairqueue_cli.load_run import LoadResult
from fairqueue_cli.load_stream import Outcome

_INTERVAL_WITHOUT_TERMINAL_SECONDS = 5
_CLEAR_LINE = "\r\x1b[K"


@dataclass(slots=True)
class ProgressLine:
    """Called once a second while a run lasts. `label` opens each line."""

    stream: TextIO
    label: str = ""
    _calls: int = 0

    def __call__(self, result: LoadResult) -> None:
        self._calls += 1
        if self.stream.isatty():
            self.stream.write(_CLEAR_LINE + self._text(result))
        elif self._calls % _INTERVAL_WITHOUT_TERMINAL_SECONDS == 0:
            self.stream.write(self._text(result) + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Leaves the cursor at the start of an empty line."""
        if self.stream.isatty() and self._calls:
            self.stream.write(_CLEAR_LINE)
            self.stream.flush()

    def _text(self, result: LoadResult) -> str:
        seconds = result.ended_at - result.started_at
        parts = []
        for name, samples in result.tenants.items():
            part = f"{name}: {len(samples.running)} running, {samples.outcomes[Outcome.COMPLETED]} replies"
            if troubled := samples.outcomes[Outcome.REFUSED] + samples.outcomes[Outcome.FAILED]:
                part += f", {troubled} refused or failed"
            parts.append(f"{part}, {samples.output_tokens / max(seconds, 1.0):.0f} tokens/s")
        warming = " (warming up)" if result.measured_from is None else ""
        return f"{self.label}{seconds:4.0f} s{warming}  {' | '.join(parts)}"
