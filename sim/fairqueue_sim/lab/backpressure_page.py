"""Writes the figures of `docs/backpressure.md` anew from the code: `make backpressure`.

All but those that are measured on sockets: `make bench-backpressure` writes these.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

from fairqueue_sim.lab.bursts import burst_table
from fairqueue_sim.lab.cells import CELLS, Judgement, judge
from fairqueue_sim.lab.changes import changes_table
from fairqueue_sim.lab.marks import line, replaced, table
from fairqueue_sim.lab.tricks import tricks_table

__all__ = ["cell_line", "matrix", "write_page"]

PROCESSES = 2
HEAD = (
    "engine's rules, KV tokens, slots, lengths",
    "tokens/s, direct",
    "of that",
    "waiting, p95",
    "idle",
    "difference",
    "best fixed limit",
    "its difference",
    "misses",
)


def cell_line(it: Judgement) -> str:
    """A cell's line in the page."""
    return line(_row(it))


def _row(it: Judgement) -> tuple[str, ...]:
    return (
        it.cell.name,
        f"{it.direct.tokens_per_second:.0f}",
        f"{100 * it.tokens_ratio:.1f} %",
        f"{it.product.waiting_p95:.0f}",
        f"{100 * it.product.idle_part:.1f} %",
        f"{it.difference:.1f}",
        "none" if it.best is None else str(it.best),
        "" if it.best is None else f"{it.best_difference:.1f}",
        ", ".join(it.misses),
    )


def matrix(judgements: Iterable[Judgement]) -> str:
    """How many cells are as they should be, and all of them."""
    judged = list(judgements)
    misses = Counter(miss for it in judged for miss in it.misses)
    met = sum(not it.misses for it in judged)
    lines = [f"{met} of {len(judged)} cells are as they should be in all four. Missed:"]
    lines.append(", ".join(f"{name} in {misses[name]}" for name in ("tokens", "waiting", "idle", "difference")) + ".")
    least = min(judged, key=lambda it: it.tokens_ratio)
    lines.append(f"The fewest tokens/s, {100 * least.tokens_ratio:.1f} % of direct, are those of {least.cell.name}.")
    return " ".join(lines) + "\n\n" + table(HEAD, [_row(it) for it in judged])


def _cells(pool: Executor) -> str:
    judged = []
    for number, it in enumerate(pool.map(judge, CELLS), 1):
        judged.append(it)
        print(f"\r{number} of {len(CELLS)} cells", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return matrix(judged)


def write_page(page: Path, names: Iterable[str] = ()) -> None:
    """Replaces what is generated in the page, or only the parts of these names; raises ValueError if a mark is
    missing."""
    makers = {"tricks": tricks_table, "changes": changes_table, "bursts": burst_table, "cells": _cells}
    with ProcessPoolExecutor(PROCESSES) as pool:
        for name in names or makers:
            print(f"{name} ...", file=sys.stderr)
            content = makers[name](pool)
            page.write_text(replaced(page.read_text(encoding="utf-8"), name, content), encoding="utf-8")


if __name__ == "__main__":
    write_page(Path(sys.argv[1]), sys.argv[2:])
