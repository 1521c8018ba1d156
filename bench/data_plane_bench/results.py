"""Results on disk: a file for each round of a measure, so that the benchmark goes on where it was broken off."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from data_plane_bench.plan import MeasureName, Plan
from data_plane_bench.runs import Run

__all__ = ["Results", "Round"]


class Round(msgspec.Struct, frozen=True, omit_defaults=True):
    """All proxies, one after the other: for each, all tries of its run."""

    measure: MeasureName
    number: int
    plan: Plan
    began: str
    runs: dict[str, list[Run]]


@dataclass(frozen=True, slots=True)
class Results:
    """The folder they are in."""

    folder: Path

    def find(
        self, measure: MeasureName, number: int, plan: Plan | None = None, proxies: Collection[str] = ()
    ) -> Round | None:
        """A round that is there, if it was measured by this plan and has all of these proxies."""
        try:
            found = msgspec.json.decode(self._path(measure, number).read_bytes(), type=Round)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        if (plan is not None and found.plan != plan) or not set(proxies) <= found.runs.keys():
            return None
        return found

    def rounds(self, measures: Sequence[MeasureName], most: int) -> list[Round]:
        """All that are there, of the first so many."""
        found = [self.find(measure, number) for measure in measures for number in range(1, most + 1)]
        return [each for each in found if each is not None]

    def keep(self, round_: Round) -> Path:
        """Writes it in place of what was there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(round_.measure, round_.number)
        # Never half a file: Ctrl-C may come now.
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(round_), indent=1) + b"\n")
        fresh.replace(path)
        return path

    def forget(self, measures: Sequence[MeasureName]) -> None:
        """All rounds of these measures."""
        for measure in measures:
            for path in self.folder.glob(f"{measure}-*.json"):
                path.unlink()

    def _path(self, measure: MeasureName, number: int) -> Path:
        return self.folder / f"{measure}-{number}.json"
