"""What was measured, as tables of a page."""

from collections.abc import Sequence
from platform import python_version

from fairqueue_sim.lab.marks import table
from scale_bench.decisions import CoreCosts
from scale_bench.scrapes import ScrapeCosts
from scale_bench.spread import Spread

__all__ = ["GOALS", "markdown"]

FEW, MANY = 1_000, 100_000
# Microseconds, up to so many tenants.
GOALS = {"decision": {FEW: 5.0, MANY: 20.0}, "token": {FEW: 1.0, MANY: 1.0}}
MOST_BYTES = 1_000_000
LONGEST_STALL_SECONDS = 0.002
CORE_HEAD = (
    "in µs: best [median, worst]",
    "decision, all have requests waiting",
    "decision, they come and go",
    "token",
)
SCRAPE_HEAD = ("behind", "size", "a scrape", "longest stall", "of that own CPU", "without a scrape")


def markdown(core: Sequence[CoreCosts], scrapes: Sequence[ScrapeCosts]) -> str:
    """One table of the scheduler and one of scrapes; what has not been measured is left out."""
    tables = []
    if core:
        tables += [table(CORE_HEAD, [_core_row(it) for it in core]), f"With Python {python_version()}."]
    if scrapes:
        tables.append(table(SCRAPE_HEAD, [_scrape_row(it) for it in scrapes]))
    return "\n\n".join(tables)


def _core_row(it: CoreCosts) -> tuple[str, ...]:
    return (
        f"{it.tenants:,} tenants",
        _micros(it.backlogged, "decision", it.tenants),
        _micros(it.passing, "decision", it.tenants),
        _micros(it.token, "token", it.tenants),
    )


def _micros(spread: Spread, what: str, tenants: int) -> str:
    goal = next((most for upto, most in GOALS[what].items() if tenants <= upto), None)
    text = f"{spread.best:.2f} [{spread.median:.2f}, {spread.worst:.2f}]"
    return text + (f" (goal: {goal:g})" if goal is not None and spread.best > goal else "")


def _scrape_row(it: ScrapeCosts) -> tuple[str, ...]:
    who = it.population
    size = f"{it.size_bytes / 1000:,.0f} kB" + (" (goal: 1 MB)" if it.size_bytes > MOST_BYTES else "")
    late = " (goal: 2 ms)" if it.own_stall.median > LONGEST_STALL_SECONDS else ""
    return (
        f"{who.labelled} tenants, {who.identities:,} identities, {who.gone:,} tenants that went",
        size,
        _millis(it.scrape),
        _millis(it.stall),
        _millis(it.own_stall) + late,
        _millis(it.quiet),
    )


def _millis(spread: Spread) -> str:
    return f"{spread.median * 1000:.2f} ms [{spread.best * 1000:.2f}, {spread.worst * 1000:.2f}]"
