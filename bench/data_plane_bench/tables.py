"""The results as tables of a page, and as lines of progress."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_plane_bench.goals import Goal, goals_of
from data_plane_bench.noise import MOST_FOREIGN
from data_plane_bench.plan import MeasureName
from data_plane_bench.proxies import BASE, PROXIES, REFERENCE
from data_plane_bench.runs import Run
from data_plane_bench.summary import Spread, Summary
from data_plane_bench.units import Unit, spelled, spelled_bound
from fairqueue_sim.lab.marks import table

__all__ = ["markdown", "run_line"]


@dataclass(frozen=True, slots=True)
class _Column:
    head: str
    unit: Unit
    of: Callable[[Summary, str], Spread | None]


def _plain(measure: MeasureName, figure: str) -> Callable[[Summary, str], Spread | None]:
    return lambda summary, proxy: summary.spread(measure, proxy, figure)


def _of_reference(measure: MeasureName, figure: str) -> Callable[[Summary, str], Spread | None]:
    return lambda summary, proxy: None if proxy == BASE else summary.ratio(measure, proxy, REFERENCE, figure)


def _added(measure: MeasureName, figure: str) -> Callable[[Summary, str], Spread | None]:
    return lambda summary, proxy: None if proxy == BASE else summary.added(measure, proxy, BASE, figure)


_TABLES: tuple[tuple[_Column, ...], ...] = (
    (
        _Column("CPU per event, of nginx's", "times", _of_reference("cpu", "cpu_us_per_event")),
        _Column(
            "µs", "µs/event", lambda it, proxy: None if proxy == BASE else it.spread("cpu", proxy, "cpu_us_per_event")
        ),
        _Column("p50 at that rate, µs", "µs", _plain("cpu", "p50_us")),
        _Column("p99, µs", "µs", _plain("cpu", "p99_us")),
        _Column("largest rate, events/s", "events/s", _plain("max", "events_per_second")),
        _Column("of nginx's", "times", _of_reference("max", "events_per_second")),
    ),
    (
        _Column("added p50, µs", "µs", _added("latency", "p50_us")),
        _Column("added p99, µs", "µs", _added("latency", "p99_us")),
        _Column("64 at once: p50, µs", "µs", _plain("burst", "p50_us")),
        _Column("p99, µs", "µs", _plain("burst", "p99_us")),
        _Column("short requests/s", "requests/s", _plain("short", "requests_per_second")),
        _Column("500/s: p50, µs", "µs", _plain("short", "paced_p50_us")),
        _Column("p99, µs", "µs", _plain("short", "paced_p99_us")),
    ),
    (
        _Column("idle, MB", "MB", _plain("memory", "base_bytes")),
        _Column("kB per idle stream", "kB", _plain("memory", "idle_stream_bytes")),
        _Column("streams held", "streams", _plain("held", "held")),
        _Column("open after, s", "s", _plain("held", "open_seconds")),
        _Column("p99 then, µs", "µs", _plain("held", "p99_us")),
        _Column("hang-up, ms", "ms", _plain("hangup", "seconds")),
    ),
)


def markdown(summary: Summary, missing: Sequence[str] = ()) -> str:
    """What was to be reached, then all proxies side by side, then what to know of the runs."""
    proxies = [name for name in PROXIES if summary.has(name)]
    parts = [_goals_table(goals_of(summary)), *(_side_by_side(summary, proxies, columns) for columns in _TABLES)]
    return "\n\n".join([*parts, _remarks(summary, missing)])


def run_line(name: str, measure: MeasureName, run: Run, tries: int) -> str:
    """How a run went, by its most telling figures."""
    told = ", ".join(f"{figure} {run.figures[figure]:,.4g}" for figure in _TELLING[measure] if figure in run.figures)
    again = f" ({tries} tries)" if tries > 1 else ""
    return f"  {name}: {told or 'nothing'}{again}" + "".join(f"\n    {remark}" for remark in run.remarks)


_TELLING: dict[MeasureName, tuple[str, ...]] = {
    "cpu": ("cpu_us_per_event", "cores", "p50_us", "p99_us", "events_per_read"),
    "max": ("events_per_second", "cpu_us_per_event", "p99_us"),
    "latency": ("p50_us", "p99_us"),
    "burst": ("p50_us", "p99_us"),
    "short": ("requests_per_second", "paced_p50_us", "paced_p99_us"),
    "memory": ("base_bytes", "idle_stream_bytes"),
    "held": ("held", "refused", "open_seconds", "p99_us"),
    "hangup": ("seconds",),
    "flat": ("after_few_bytes", "after_many_bytes"),
}


def _goals_table(goals: Sequence[Goal]) -> str:
    met = {True: "yes", False: "not yet", None: "not measured"}
    rows = [
        (
            goal.what,
            f"{goal.side} {spelled_bound(goal.bound, goal.unit)}",
            spelled(goal.figure, goal.unit),
            met[goal.met],
        )
        for goal in goals
    ]
    return table(("what", "goal", "measured", "met"), rows)


def _side_by_side(summary: Summary, proxies: Sequence[str], columns: Sequence[_Column]) -> str:
    rows = []
    for proxy in proxies:
        figures = [spelled(column.of(summary, proxy), column.unit) for column in columns]
        if any(figures):
            rows.append((PROXIES[proxy].words, *figures))
    return table(("", *(column.head for column in columns)), rows)


def _remarks(summary: Summary, missing: Sequence[str]) -> str:
    believed = summary.believed()
    rounds = max((each.number for each in summary.rounds), default=0)
    noisy = sum(run.noise.is_too_much for _, _, run in believed)
    said = [
        f"Medians [least to most] of {rounds} rounds. In {noisy} of {len(believed)} runs more than "
        f"{MOST_FOREIGN:.0%} of the CPU went to others in every try."
    ]
    invalid = [
        f"- left out: {each.measure}, {name}, round {each.number}: {run.invalid}"
        for each, name, run in believed
        if run.invalid
    ]
    said += [f"Not measured: {proxy}." for proxy in missing]
    return "\n".join([*said, *([""] if invalid else []), *invalid])
