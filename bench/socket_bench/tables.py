"""The results as tables of a page, and as lines of progress."""

from collections.abc import Sequence

from socket_bench.bursts import BurstSummary, Round
from socket_bench.light import LightSummary
from socket_bench.pairs import Pair, PairsSummary
from socket_bench.results import Result

__all__ = ["markdown", "pair_line", "result_line", "round_line"]

PAIRS_HEAD = (
    "cell",
    "engine",
    "output tokens/s, direct",
    "through",
    "ratio",
    "waiting, p95",
    "in all, p95",
    "idle",
    "met",
)
BURST_HEAD = ("cell", "engine", "full after, direct", "through", "times", "waiting then, p95", "in all, p95", "met")
LIGHT_HEAD = ("cell", "engine", "requests", "in our queue, p50", "p99", "most", "met")


def markdown(results: Sequence[Result]) -> str:
    """A table for each thing that is measured, of the cells that there are results of."""
    rows = [(result, result.summary) for result in results]
    tables = (
        (PAIRS_HEAD, [_pairs_row(result, it) for result, it in rows if isinstance(it, PairsSummary)]),
        (BURST_HEAD, [_burst_row(result, it) for result, it in rows if isinstance(it, BurstSummary)]),
        (LIGHT_HEAD, [_light_row(result, it) for result, it in rows if isinstance(it, LightSummary)]),
    )
    return "\n\n".join(_table(head, lines) for head, lines in tables if lines)


def pair_line(number: int, pair: Pair) -> str:
    """How a pair went."""
    proxied = pair.proxied
    line = (
        f"  pair {number} ({pair.first} first): direct {pair.direct.tokens_per_second:.0f} tokens/s, "
        f"through {proxied.tokens_per_second:.0f}, ratio {pair.ratio:.4f}, idle {proxied.idle_share:.2%}"
    )
    return line + "".join(f"\n    doubtful: {trouble}" for trouble in pair.troubles)


def round_line(number: int, it: Round) -> str:
    """How a burst went."""
    times = "" if it.times is None else f", {it.times:.2f} times"
    direct, proxied = _ms(it.direct.full_after_seconds), _ms(it.proxied.full_after_seconds)
    line = f"  burst {number}: full after {direct}, through {proxied}"
    troubles = {**it.direct.troubles, **it.proxied.troubles}
    return line + times + "".join(f"\n    doubtful: {count} times {what}" for what, count in troubles.items())


def result_line(result: Result) -> str:
    """What a cell came to."""
    it = result.summary
    if isinstance(it, PairsSummary):
        figures = (
            f"ratio {_ratio(it)}, waiting p95 {it.fitting_p95:.0f} ({it.waiting_p95:.0f} in all), "
            f"idle {it.idle_share:.2%}, {it.doubtful_pairs} of {len(result.pairs)} pairs doubtful"
        )
    elif isinstance(it, BurstSummary):
        times = "never" if it.times is None else f"{it.times:.2f} times"
        figures = f"full {times} as late, then waiting p95 {it.fitting_p95:.0f} ({it.waiting_p95:.0f} in all)"
    else:
        figures = f"{it.requests} requests, in our queue p50 {_ms(it.p50_seconds)}, p99 {_ms(it.p99_seconds)}"
    return f"{result.cell.name}: {figures}: {_met(it.met)}"


def _pairs_row(result: Result, it: PairsSummary) -> tuple[str, ...]:
    return (
        *_named(result),
        f"{it.direct:.0f}",
        f"{it.proxied:.0f}",
        _ratio(it),
        f"{it.fitting_p95:.0f}",
        f"{it.waiting_p95:.0f}",
        f"{it.idle_share:.2%}",
        _met(it.met),
    )


def _burst_row(result: Result, it: BurstSummary) -> tuple[str, ...]:
    return (
        *_named(result),
        _ms(it.direct_seconds),
        _ms(it.proxied_seconds),
        "" if it.times is None else f"{it.times:.2f}",
        f"{it.fitting_p95:.0f}",
        f"{it.waiting_p95:.0f}",
        _met(it.met),
    )


def _light_row(result: Result, it: LightSummary) -> tuple[str, ...]:
    times = (it.p50_seconds, it.p99_seconds, it.most_seconds)
    return (*_named(result), str(it.requests), *(_ms(seconds) for seconds in times), _met(it.met))


def _named(result: Result) -> tuple[str, str]:
    return f"`{result.cell.name}`", result.cell.engine.words


def _ratio(it: PairsSummary) -> str:
    return f"{it.ratio.median:.3f} [{it.ratio.low:.3f}, {it.ratio.high:.3f}]"


def _ms(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds * 1000:.1f} ms"


def _met(met: bool) -> str:
    return "yes" if met else "not yet"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # The first two columns and the last are words.
    align = ["---", "---", *("---:" for _ in head[3:]), "---"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, align, *rows))
