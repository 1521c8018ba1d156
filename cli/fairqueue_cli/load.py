"""`fairqueue load`: puts load on a model server and reports, per tenant, what its clients saw.

A workload or a trace goes out open loop, tenants from the command line run closed loops. Runs on one event loop
(uvloop if it is installed). Ctrl-C ends the run early and reports what there is.
"""

import argparse
import asyncio
import random
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fairqueue_cli.event_loop import run_on_fast_loop
from fairqueue_cli.load_open import OpenResult, run_open
from fairqueue_cli.load_options import ClosedLoad, OpenLoad, read_options
from fairqueue_cli.load_progress import ProgressLine
from fairqueue_cli.load_report import format_report, summarise, to_result
from fairqueue_cli.load_run import LoadResult, run_load
from fairqueue_cli.load_sender import TargetUnreachable, require_client
from fairqueue_cli.load_spec import SpecError
from fairqueue_sim.lab.result import Result

HELP = """Put load on a model server and report what each tenant got.

examples:
  fairqueue load --target http://127.0.0.1:8080 --workload overload --speed 10 --keys secrets/keys
  fairqueue load --target http://127.0.0.1:8080 --trace monday.csv --json
  fairqueue load --target http://127.0.0.1:8080 --tenant name=batch,workers=24 --tenant name=chat,workers=4

A workload or a trace is open loop: each request goes out at its time, whatever else is running, and the report is that
of `fairqueue simulate`, in the workload's own seconds. A tenant is a closed loop: its workers each send one request
after another. Ctrl-C ends a run early and reports what there is."""

CLOSED_LOOP = "closed-loop"
_EXIT_UNREACHABLE = 1
_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue load`."""
    parser.add_argument("--target", required=True, metavar="URL", help="the server, like http://127.0.0.1:8080")
    parser.add_argument("--workload", metavar="NAME", help="one of those of `fairqueue simulate`, like overload")
    parser.add_argument("--trace", metavar="FILE", help="a CSV file, like one from `fairqueue serve --record`")
    parser.add_argument(
        "--tenant",
        action="append",
        metavar="SPEC",
        help="name=chat,workers=4,max_tokens=16-48,prompt_words=40,think_seconds=0,weight=1,key_file=PATH; only name "
        "is needed; each worker sends one streamed request after another; max_tokens is a number, or a range to draw "
        "from; weight only normalises the report",
    )
    parser.add_argument("--api", choices=("tgi", "openai"), default="openai", help="what it speaks (default: openai)")
    parser.add_argument(
        "--client",
        choices=("library", "http"),
        default="library",
        help="library: send with what users have, the package openai or (tgi) huggingface_hub; http: plain HTTP, for a "
        "fifth to an eighth of the CPU, for more than about 1,500 tokens a second (default: library)",
    )
    parser.add_argument("--speed", type=float, metavar="X", help="send a workload or trace X times as fast")
    parser.add_argument("--keys", metavar="DIR", help="of a workload's or trace's tenants: DIR/TENANT holds the key")
    parser.add_argument(
        "--key", action="append", metavar="TENANT=FILE", help="the key of one tenant; may be given several times"
    )
    parser.add_argument(
        "--ignore-eos", action="store_true", help="ask vLLM or SGLang for outputs of exactly the wanted length"
    )
    parser.add_argument(
        "--duration", type=float, metavar="S", help="of closed loops: end after S seconds (default: 30)"
    )
    parser.add_argument("--requests", type=int, metavar="N", help="only the first N; closed loops: N of all together")
    parser.add_argument("--until", metavar="NAME=N", help="of closed loops: end when tenant NAME has N whole replies")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of a workload (default: 42), or of closed loops' prompts (default: 0)"
    )
    parser.add_argument("--model", metavar="NAME", help="sent as the model's name, where the server wants one")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Sends and prints. Exit code 2: bad input, 1: nobody listens at the target, 130: interrupted."""
    try:
        load = read_options(args)
        require_client(load.plan if isinstance(load, ClosedLoad) else load.plan.plan)
    except SpecError as error:
        return _say(str(error), _EXIT_BAD_INPUT)
    _allow_many_connections()
    try:
        if isinstance(load, ClosedLoad):
            return _finish_closed(args.json, run_on_fast_loop(_run_closed(load)))
        return _finish_open(args.json, load, run_on_fast_loop(_run_open(load)))
    except TargetUnreachable as error:
        return _say(str(error), _EXIT_UNREACHABLE)


async def _run_closed(load: ClosedLoad) -> LoadResult:
    with _interrupt() as interrupt, _progress() as progress:
        return await run_load(load.plan, load.stop, interrupt=interrupt, on_second=progress)


async def _run_open(load: OpenLoad) -> OpenResult:
    # Texts are new in each run, whatever the seed: the engine may still know those of the one before.
    rng = random.Random()
    with _interrupt() as interrupt, _progress() as progress:
        return await run_open(load.plan, rng=rng, interrupt=interrupt, on_second=progress.show_open)


def _finish_closed(as_json: bool, result: LoadResult) -> int:
    report = summarise(result)
    if as_json:
        print(to_result(CLOSED_LOOP, None, [(None, report)]).to_json().decode())
    else:
        print(format_report(report))
    return _EXIT_INTERRUPTED if result.interrupted else 0


def _finish_open(as_json: bool, load: OpenLoad, result: OpenResult) -> int:
    from fairqueue_cli.load_open_report import format_open, lateness, summarise_open

    report = summarise_open(result, load.workload)
    if as_json:
        print(Result(load.workload.name, None, (report,)).to_json().decode())
    else:
        print(format_open(result, load.workload, report))
    if warning := lateness(result).warning:
        print(f"fairqueue load: warning: {warning}", file=sys.stderr)
    return _EXIT_INTERRUPTED if result.interrupted else 0


def _say(message: str, code: int) -> int:
    print(f"fairqueue load: {message}", file=sys.stderr)
    return code


def _allow_many_connections() -> None:
    """As many as the system lets this process have: each request that waits holds one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _interrupt() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C sets."""
    interrupt = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupt.set)
    try:
        yield interrupt
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@contextmanager
def _progress() -> Iterator[ProgressLine]:
    progress = ProgressLine(sys.stderr)
    try:
        yield progress
    finally:
        progress.close()
