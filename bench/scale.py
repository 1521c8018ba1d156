"""What thousands of tenants cost inside one process: decisions and tokens of the scheduler, scrapes of /metrics."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from fairqueue_cli.event_loop import run_on_fast_loop
from fairqueue_sim.lab.marks import replaced
from scale_bench.decisions import CoreCosts, Effort, measure_core
from scale_bench.scrapes import FULL, Population, ScrapeCosts, measure_scrapes
from scale_bench.tables import markdown
from socket_bench.command_line import at_least, say

HELP = """Measure what thousands of tenants cost inside one process.

examples, after .venv/bin/python bench/scale.py:
                                  everything (a minute or two)
  --tenants 1000 --scrapes 0      the scheduler alone, among 1,000 tenants
  --tenants 0 --scrapes 50        /metrics alone

Other work on the machine adds to all figures but CPU time: the best of many short repetitions is what is compared with
goals. Garbage collection is on, and what is there when a measurement begins is frozen, as in `fairqueue serve`."""


def main() -> int:
    args = _arguments()
    effort = Effort(args.repetitions, args.steps)
    core = [_core(tenants, effort) for tenants in args.tenants if tenants]
    whole: Population = args.population
    only_in_force = Population(whole.labelled, whole.identities, 0)
    scrapes = [_scrapes(it, args.scrapes) for it in dict.fromkeys((only_in_force, whole)) if args.scrapes]
    found = markdown(core, scrapes)
    if args.json:
        print(json.dumps({"core": [asdict(it) for it in core], "scrapes": [asdict(it) for it in scrapes]}, indent=1))
    else:
        print(found)
    if args.page is not None:
        try:
            text = replaced(args.page.read_text(encoding="utf-8"), "scale", found)
        except ValueError:
            print(f"scale: {args.page} has no `<!-- scale: made by ... -->` to write between", file=sys.stderr)
            return 1
        args.page.write_text(text, encoding="utf-8")
    return 0


def _core(tenants: int, effort: Effort) -> CoreCosts:
    say(f"scheduler, {tenants:,} tenants")
    return measure_core(tenants, effort)


def _scrapes(population: Population, scrapes: int) -> ScrapeCosts:
    say(f"/metrics, {population}")
    return run_on_fast_loop(measure_scrapes(population, scrapes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tenants", type=_numbers, default=[10, 1_000, 100_000], metavar="N,N,...", help="10,1000,100000; 0: none"
    )
    parser.add_argument("--repetitions", type=at_least(1), default=200, metavar="N", help="(%(default)s)")
    parser.add_argument(
        "--steps", type=at_least(1), default=1_000, metavar="N", help="decisions or tokens in each (%(default)s)"
    )
    parser.add_argument("--scrapes", type=at_least(0), default=30, metavar="N", help="(%(default)s)")
    parser.add_argument(
        "--population",
        type=_population,
        default=FULL,
        metavar="N,N,N",
        help="tenants in force, identities of `anonymous`, tenants that went (256,10000,10000)",
    )
    parser.add_argument("--json", action="store_true", help="print figures as JSON instead of tables")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables into this page, too")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    numbers = list(map(at_least(0), text.split(",")))
    if any(number == 1 for number in numbers):
        raise argparse.ArgumentTypeError("1: there is nothing to decide; 2 or more, or 0")
    return numbers


def _population(text: str) -> Population:
    numbers = list(map(at_least(0), text.split(",")))
    if len(numbers) != 3 or not 1 <= numbers[0] <= FULL.labelled:
        raise argparse.ArgumentTypeError(f"{text}: must be three numbers, the first one 1 to {FULL.labelled}")
    return Population(*numbers)


if __name__ == "__main__":
    sys.exit(main())
