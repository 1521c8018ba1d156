"""`fairqueue load`: a closed-loop load generator that reports, per tenant, what its clients saw.

Parses the arguments, runs the load on one event loop (uvloop if it is installed) and prints the report. Ctrl-C ends
the run early and reports what there is.
"""

import argparse
import asyncio
import json
import signal
import sys

from fairqueue_cli.event_loop import run_on_fast_loop
from fairqueue_cli.load_progress import ProgressLine
from fairqueue_cli.load_report import format_report, summarise, to_json
from fairqueue_cli.load_run import LoadResult, TargetUnreachable, run_load
from fairqueue_cli.load_spec import LoadPlan, SpecError, Stop, parse_target, parse_tenants, parse_until

HELP = "send closed-loop load to a model server and report what each tenant got"
WORKLOAD = "closed-loop"

_DEFAULT_DURATION_SECONDS = 30.0
_EXIT_UNREACHABLE = 1
_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", required=True, metavar="URL", help="the server, like http://127.0.0.1:8080")
    parser.add_argument("--api", choices=("tgi", "openai"), default="openai", help="what it speaks (default: openai)")
    parser.add_argument(
        "--tenant",
        action="append",
        required=True,
        metavar="SPEC",
        help="name=chat,workers=4,max_tokens=16-48,prompt_words=40,think_seconds=0,weight=1,key_file=PATH; only name "
        "is needed; each worker sends one streamed request after another; max_tokens is a number, or a range to draw "
        "from; weight only normalises the report",
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--duration", type=float, metavar="S", help="end after S seconds (default: 30)")
    end.add_argument("--requests", type=int, metavar="N", help="end when N requests of all tenants are done")
    end.add_argument("--until", metavar="NAME=N", help="end when tenant NAME has N whole replies")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the prompts (default: 0)")
    parser.add_argument("--model", metavar="NAME", help="sent as the model's name, where the server wants one")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    try:
        tenants = parse_tenants(args.tenant)
        plan = LoadPlan(parse_target(args.target), args.api, tenants, args.seed, args.model)
        stop = _parse_stop(args, plan)
    except SpecError as error:
        print(f"fairqueue load: {error}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    try:
        result = run_on_fast_loop(_run_until_interrupt(plan, stop))
    except TargetUnreachable as error:
        print(f"fairqueue load: {error}", file=sys.stderr)
        return _EXIT_UNREACHABLE
    report = summarise(result)
    print(json.dumps(to_json(WORKLOAD, None, [(None, report)])) if args.json else format_report(report))
    return _EXIT_INTERRUPTED if result.interrupted else 0


def _parse_stop(args: argparse.Namespace, plan: LoadPlan) -> Stop:
    if args.until is not None:
        return parse_until(args.until, plan.tenants)
    if args.requests is not None:
        if args.requests < 1:
            raise SpecError(f"--requests {args.requests}: must be 1 or more")
        return Stop(requests=args.requests)
    duration = _DEFAULT_DURATION_SECONDS if args.duration is None else args.duration
    if not 0 < duration < float("inf"):
        raise SpecError(f"--duration {duration:g}: must be a number of seconds above 0")
    return Stop(duration_seconds=duration)


async def _run_until_interrupt(plan: LoadPlan, stop: Stop) -> LoadResult:
    interrupt = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupt.set)
    progress = ProgressLine(sys.stderr)
    try:
        return await run_load(plan, stop, interrupt=interrupt, on_second=progress)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        progress.close()
