"""Results on disk, one file for each cell, so that a run goes on where the last one ended."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from socket_bench.bursts import BurstSummary, Round, summary_of_bursts
from socket_bench.cells import Cell
from socket_bench.light import LightRun, LightSummary, summary_of_light
from socket_bench.pairs import Pair, PairsPlan, PairsSummary, summary_of_pairs

__all__ = ["Result", "Results", "Summary"]

Summary = PairsSummary | BurstSummary | LightSummary


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was measured of a cell: one of the three lists has something in it, by what the cell measures."""

    cell: Cell
    plan: PairsPlan
    pairs: list[Pair] = []
    rounds: list[Round] = []
    light: list[LightRun] = []

    @property
    def summary(self) -> Summary:
        if self.pairs:
            return summary_of_pairs(self.pairs)
        if self.rounds:
            return summary_of_bursts(self.rounds)
        return summary_of_light([seconds for run in self.light for seconds in run.queue_seconds])


@dataclass(frozen=True, slots=True)
class Results:
    """The folder they are in."""

    folder: Path

    def find(self, cell: Cell, plan: PairsPlan | None = None) -> Result | None:
        """What is there of this cell as it is now; with `plan`, only if no more was asked for."""
        try:
            result = msgspec.json.decode(self._path(cell).read_bytes(), type=Result)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        if result.cell != cell or (plan is not None and _is_less(result.plan, plan)):
            return None
        return result

    def keep(self, result: Result) -> Path:
        """Writes it in place of what was there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(result.cell)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        return path

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"


def _is_less(had: PairsPlan, wanted: PairsPlan) -> bool:
    return (
        had.pairs < wanted.pairs
        or had.timing.seconds < wanted.timing.seconds
        or had.timing.warm_up_seconds < wanted.timing.warm_up_seconds
    )
