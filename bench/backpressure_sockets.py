"""Throughput through the proxy against the engine alone, and queues, on real sockets: the cells of bench/cells.yaml."""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fairqueue_cli.event_loop import run_on_fast_loop
from fairqueue_sim.lab.marks import replaced
from socket_bench.bursts import run_bursts
from socket_bench.cells import Burst, Cell, CellsError, Throughput, read_cells
from socket_bench.children import ChildError
from socket_bench.command_line import at_least, say
from socket_bench.halves import Timing
from socket_bench.light import run_light
from socket_bench.pairs import PairsPlan, run_pairs
from socket_bench.results import Result, Results
from socket_bench.tables import markdown, pair_line, result_line, round_line

ROOT = Path(__file__).resolve().parents[1]
HELP = """Measure what the proxy costs in tokens/s, and how short it keeps the engine's queue, on real sockets.

examples, after .venv/bin/python bench/backpressure_sockets.py:
                                            all cells that have no result yet (about 50 minutes)
  --again tgi-small --pairs 2 --seconds 3   this one, quickly
  --table                                   only the tables of the results that there are

A pair is the engine alone and the engine behind the proxy, one after the other, with the same requests. Nothing else
should run on the machine: a pair during which the CPU was short is called doubtful. Ctrl-C ends at once; what is
finished is kept, cell by cell, in build/backpressure."""


def main() -> int:
    args = _arguments()
    try:
        cells = _chosen(args.cells_file, [*args.cell, *args.again])
    except CellsError as error:
        return _bad(str(error))
    timing = Timing(args.warm_up, args.seconds)
    plan = PairsPlan(args.pairs, max(args.most_pairs, args.pairs), timing)
    results = Results(args.results)
    try:
        if not args.table:
            run_on_fast_loop(_measure(cells, set(args.again), plan, results))
    except (ChildError, OSError, TimeoutError) as error:
        print(f"backpressure_sockets: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted: run it again to go on with the cells that are left", file=sys.stderr)
        return 130
    found = [result for cell in cells if (result := results.find(cell)) is not None]
    print(json.dumps({it.cell.name: asdict(it.summary) for it in found}, indent=1) if args.json else markdown(found))
    if args.page is not None:
        text = args.page.read_text(encoding="utf-8")
        args.page.write_text(replaced(text, "sockets", markdown(found)), encoding="utf-8")
    return 0


async def _measure(cells: Sequence[Cell], again: set[str], plan: PairsPlan, results: Results) -> None:
    for cell in cells:
        if cell.name not in again and results.find(cell, plan) is not None:
            say(f"{cell.name}: there already")
            continue
        say(f"{cell.name}: {cell.engine.words}")
        with tempfile.TemporaryDirectory() as folder:
            result = await _measured(cell, plan, Path(folder))
        results.keep(result)
        say(result_line(result))


async def _measured(cell: Cell, plan: PairsPlan, folder: Path) -> Result:
    if isinstance(cell, Throughput):
        pairs = await run_pairs(cell, plan, folder, lambda number, pair: say(pair_line(number, pair)))
        return Result(cell, plan, pairs=pairs)
    if isinstance(cell, Burst):
        rounds = await run_bursts(cell, plan.pairs, folder, lambda number, it: say(round_line(number, it)))
        return Result(cell, plan, rounds=rounds)
    run = await run_light(cell, folder)
    return Result(cell, plan, light=[run])


def _chosen(path: Path, names: Sequence[str]) -> list[Cell]:
    cells = read_cells(path)
    known = {cell.name: cell for cell in cells}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CellsError(f"{path} has no cell {unknown[0]}: there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] or cells


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", nargs="*", metavar="CELL", help="only these cells (all)")
    parser.add_argument(
        "--again", action="append", default=[], metavar="CELL", help="this one, and anew if there is a result"
    )
    parser.add_argument("--pairs", type=at_least(1), default=10, metavar="N", help="pairs, and bursts (%(default)s)")
    parser.add_argument(
        "--most-pairs",
        type=at_least(1),
        default=20,
        metavar="N",
        help="as long as the goal is missed and the figure not sharp",
    )
    parser.add_argument(
        "--seconds", type=at_least(1), default=8, metavar="S", help="that each half is measured (%(default)s)"
    )
    parser.add_argument(
        "--warm-up", type=at_least(0), default=4, metavar="S", help="of each half before that (%(default)s)"
    )
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--json", action="store_true", help="print figures as JSON instead of tables")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables into this page, too")
    parser.add_argument("--cells-file", type=Path, default=ROOT / "bench" / "cells.yaml", metavar="FILE")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "backpressure", metavar="FOLDER")
    return parser.parse_args()


def _bad(message: str) -> int:
    print(f"backpressure_sockets: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
