"""From rounds to figures: medians with their spread, against another proxy within the same round."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from data_plane_bench.noise import least_noisy
from data_plane_bench.plan import MeasureName
from data_plane_bench.results import Round
from data_plane_bench.runs import Run

__all__ = ["Spread", "Summary"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Of at least one round."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        return cls(median(values), min(values), max(values)) if values else None


@dataclass(frozen=True, slots=True)
class Summary:
    """Of all rounds that there are; figures that are invalid are left out."""

    rounds: Sequence[Round]

    def spread(self, measure: MeasureName, proxy: str, figure: str) -> Spread | None:
        """The figure as it was measured."""
        values = [_figure(each, proxy, figure) for each in self._of(measure)]
        return Spread.of([value for value in values if value is not None])

    def ratio(self, measure: MeasureName, proxy: str, other: str, figure: str) -> Spread | None:
        """How many times the other's."""
        return self._against(measure, proxy, other, figure, lambda value, base: value / base if base else None)

    def added(self, measure: MeasureName, proxy: str, other: str, figure: str) -> Spread | None:
        """What there is on top of the other's."""
        return self._against(measure, proxy, other, figure, lambda value, base: value - base)

    def grown(self, measure: MeasureName, proxy: str, before: str, after: str) -> Spread | None:
        """A later figure as so many times an earlier one of the same run."""
        pairs = [(_figure(each, proxy, before), _figure(each, proxy, after)) for each in self._of(measure)]
        return Spread.of([second / first for first, second in pairs if first and second is not None])

    def believed(self) -> list[tuple[Round, str, Run]]:
        """The run of each proxy in each round that counts."""
        return [(each, name, least_noisy(tries)) for each in self.rounds for name, tries in each.runs.items()]

    def has(self, proxy: str) -> bool:
        """Whether anything was measured of it."""
        return any(proxy in each.runs for each in self.rounds)

    def _of(self, measure: MeasureName) -> list[Round]:
        return [each for each in self.rounds if each.measure == measure]

    def _against(
        self,
        measure: MeasureName,
        proxy: str,
        other: str,
        figure: str,
        compare: Callable[[float, float], float | None],
    ) -> Spread | None:
        found = []
        for each in self._of(measure):
            value, base = _figure(each, proxy, figure), _figure(each, other, figure)
            if value is not None and base is not None:
                found.append(compare(value, base))
        return Spread.of([it for it in found if it is not None])


def _figure(each: Round, proxy: str, figure: str) -> float | None:
    tries = each.runs.get(proxy)
    if not tries:
        return None
    run = least_noisy(tries)
    return None if run.invalid else run.figures.get(figure)
