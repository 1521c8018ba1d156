"""`fairqueue simulate`: what a scheduler, or a policy, does with a workload, in virtual time."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairqueue_cli.simulate_input import Plan
    from fairqueue_sim.lab.experiment import Run

HELP = """Simulate a workload, or a recorded trace, under several schedulers or policies: who gets how much, and when.

examples:
  fairqueue simulate --workload overload
  fairqueue simulate --workload arena --scheduler fcfs --scheduler vtc --scheduler fairqueue --report arena.html
  fairqueue simulate --trace monday.csv --policy policy.yaml --policy other.yaml

The engine is a model of one with continuous batching; the scheduler `fairqueue` is the proxy's own, with a queue that
refuses nobody, and a policy is used as it is. Runs on one core, 1,500 requests in a few seconds."""

DEFAULT_SCHEDULERS = ("fcfs", "vtc", "fairqueue")
_LAB_MISSING = "needs numpy, matplotlib and rich: pip install 'fairqueue[lab]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue simulate`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workload", metavar="NAME", help="one of those in docs/fairness.md, e.g. overload or arena")
    what.add_argument("--trace", type=Path, metavar="FILE", help="a CSV file, e.g. from `fairqueue serve --record`")
    parser.add_argument(
        "--scheduler",
        action="append",
        metavar="NAME",
        help="fairqueue, fcfs, rpm:N, lcf, round-robin, drr, vtc, vtc-predict, vtc-oracle or vtc-oracle:N; may be "
        f"given several times (default: {', '.join(DEFAULT_SCHEDULERS)}; with --policy none)",
    )
    parser.add_argument(
        "--policy", action="append", type=Path, metavar="FILE", help="a FairnessPolicy; may be given several times"
    )
    parser.add_argument(
        "--model-profile", metavar="NAME", help="the machine, or a .toml file (default: the workload's)"
    )
    parser.add_argument(
        "--engine", metavar="RULES", help="how it batches: lightllm, tgi, vllm or sglang (default: the profile's)"
    )
    parser.add_argument("--kv-tokens", type=int, metavar="M", help="size of the KV cache (default: the profile's)")
    parser.add_argument("--slots", type=int, metavar="N", help="most requests in a batch (default: the engine's)")
    parser.add_argument("--requests", type=int, metavar="N", help="only the first N")
    parser.add_argument("--seed", type=int, metavar="N", help="of the workload (default: 42, the paper's)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture of it, a .png")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page that explains it, an .html")


def run(args: argparse.Namespace) -> int:
    """Simulates, prints, draws. Exit code 2: bad input, in one line on standard error."""
    try:
        from fairqueue_cli.simulate_input import prepare
        from fairqueue_cli.simulate_report import format_result, result_of

        plan = prepare(args)
        for warning in plan.warnings:
            print(f"fairqueue simulate: {warning}", file=sys.stderr)
        runs = _simulate(plan)
    except ModuleNotFoundError as error:
        return _bad_input(f"{_LAB_MISSING} ({error.name} is missing)")
    except ValueError as error:
        return _bad_input(str(error))
    result = result_of(plan.experiment, runs)
    print(result.to_json().decode() if args.json else format_result(plan.experiment, result))
    return _draw(args, plan, runs)


def _simulate(plan: "Plan") -> "list[tuple[str, Run]]":
    from fairqueue_sim.lab.experiment import run_scheduler

    with _progress(len(plan.experiment.workload.arrivals)) as begin:
        return [
            (name, run_scheduler(plan.experiment, name, document=document, on_progress=begin(name)))
            for name, document in plan.candidates.items()
        ]


def _draw(args: argparse.Namespace, plan: "Plan", runs: "list[tuple[str, Run]]") -> int:
    try:
        if args.plot is not None:
            from fairqueue_sim.lab.pictures import draw

            draw(plan.experiment.workload, runs, args.plot)
        if args.report is not None:
            from fairqueue_sim.lab.page import write_page

            write_page(args.report, plan.experiment.workload, plan.experiment.engine.profile.name, runs, seed=plan.seed)
    except OSError as error:
        return _bad_input(f"{error.filename}: can't be written: {error.strerror}: choose another file")
    return 0


@contextmanager
def _progress(requests: int) -> Iterator[Callable[[str], Callable[[int], None]]]:
    """A bar for each run, on standard error if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:

        def begin(name: str) -> Callable[[int], None]:
            task = progress.add_task(name, total=requests)
            return lambda ended: progress.update(task, completed=ended)

        yield begin


def _bad_input(message: str) -> int:
    print(f"fairqueue simulate: {message}", file=sys.stderr)
    return 2
