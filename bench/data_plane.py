"""What the proxy costs beside nginx and others: CPU per event, largest rates, latency, memory, on real sockets."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from data_plane_bench.children import Cores
from data_plane_bench.compiled import compiled
from data_plane_bench.goals import goals_of
from data_plane_bench.measures import MEASURES
from data_plane_bench.picture import draw
from data_plane_bench.plan import FULL, QUICK, MeasureName, Plan
from data_plane_bench.proxies import PROXIES, REFERENCE
from data_plane_bench.results import Results
from data_plane_bench.rounds import Bench, run_rounds
from data_plane_bench.summary import Summary
from data_plane_bench.tables import markdown
from fairqueue_cli.event_loop import run_on_fast_loop
from fairqueue_sim.lab.marks import replaced
from socket_bench.children import ChildError
from socket_bench.command_line import at_least, say

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "data_plane"
HELP = """Measure what the proxy costs beside nginx and others, on real sockets.

examples, after .venv/bin/python bench/data_plane.py:
                                                        everything that has no result yet (an hour and more)
  --only direct,nginx,fairqueue-tgi --measure cpu,max   these, in results of their own
  --quick                                               whether it works: figures of no worth, in a few minutes
  --table                                               only the tables of the results that there are

The proxy has one core, the engine's stand-in and the clients another. Nothing else should run on the machine: what was
measured while something did is tried again, and said. Ctrl-C ends at once; what is finished is kept, round by round,
in build/data_plane."""


def main() -> int:
    args = _arguments()
    there = [name for name in args.only or PROXIES if not PROXIES[name].missing()]
    missing = [f"{name}: {why}" for name in args.only or PROXIES if (why := PROXIES[name].missing())]
    plan = _plan(args)
    results = Results(_folder(args))
    for why in missing:
        say(f"left out: {why}")
    if REFERENCE not in there:
        say(f"without {REFERENCE} there is nothing that figures relate to: ratios are left empty")
    try:
        if args.again:
            results.forget(args.measure)
        if not args.table:
            run_on_fast_loop(_measure(there, args.measure, args.rounds, plan, results))
    except (ChildError, OSError, TimeoutError) as error:
        print(f"data_plane: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted: run it again to go on with the rounds that are left", file=sys.stderr)
        return 130
    summary = Summary(results.rounds(tuple(MEASURES), args.rounds))
    print(_json(summary) if args.json else markdown(summary, missing))
    if args.page is not None:
        draw(summary, args.page.with_suffix(".png"))
        text = args.page.read_text(encoding="utf-8")
        args.page.write_text(replaced(text, "performance", markdown(summary, missing)), encoding="utf-8")
    return 0


async def _measure(
    names: Sequence[str], measures: Sequence[MeasureName], rounds: int, plan: Plan, results: Results
) -> None:
    cores = Cores.allowed()
    tools = compiled(KEPT / "tools")
    # The benchmark itself must not be where the proxy is.
    os.sched_setaffinity(0, {cores.tools})
    await run_rounds(Bench(plan, tools, cores, results, say), names, measures, rounds)


def _plan(args: argparse.Namespace) -> Plan:
    plan = QUICK if args.quick else FULL
    return plan if args.seconds is None else msgspec.structs.replace(plan, seconds=float(args.seconds))


def _folder(args: argparse.Namespace) -> Path:
    """Results of other proxies, or of a trial, are never mixed with those of the whole."""
    if args.results is not None:
        return Path(args.results)
    parts = (["quick"] if args.quick else []) + ([",".join(sorted(args.only))] if args.only else [])
    return KEPT.joinpath(*parts)


def _json(summary: Summary) -> str:
    goals = [
        {"what": goal.what, "bound": goal.bound, "figure": goal.figure, "met": goal.met} for goal in goals_of(summary)
    ]
    content = {"goals": goals, "rounds": summary.rounds}
    return msgspec.json.format(msgspec.json.encode(content), indent=1).decode()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    names, measures = _some_of(tuple(PROXIES)), _some_of(tuple(MEASURES))
    parser.add_argument("--only", type=names, metavar="PROXY,…", help=f"of {', '.join(PROXIES)} (all)")
    parser.add_argument(
        "--measure", type=measures, metavar="NAME,…", help=f"of {', '.join(MEASURES)} (all, flat only with --long)"
    )
    parser.add_argument("--rounds", type=at_least(1), metavar="N", help="of everything (5; with --quick 1)")
    parser.add_argument("--seconds", type=at_least(1), metavar="S", help="that each figure is measured (4)")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see whether it works")
    parser.add_argument("--long", action="store_true", help="memory after a million requests, too")
    parser.add_argument("--again", action="store_true", help="measure anew what there are results of")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--json", action="store_true", help="print all runs as JSON instead of tables")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write tables and picture into this page, too")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="(build/data_plane)")
    args = parser.parse_args()
    args.measure = args.measure or [name for name in MEASURES if args.long or name != "flat"]
    args.rounds = args.rounds or (1 if args.quick else 5)
    return args


def _some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {name}: there are {', '.join(known)}")
        return [name for name in known if name in chosen]

    return names


if __name__ == "__main__":
    sys.exit(main())
