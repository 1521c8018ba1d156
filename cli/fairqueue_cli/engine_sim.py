"""`fairqueue engine-sim`: parse, start, wait for a signal, drain."""

import argparse
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from fairqueue_api.address import read_address
from fairqueue_api.told import Told
from fairqueue_cli.event_loop import run_on_fast_loop, until_told
from fairqueue_sim import (
    ENGINE_KINDS,
    EngineKind,
    EngineSettings,
    StepLog,
    TruthLog,
    UnknownProfileError,
    load_profile,
    profile_names,
)
from fairqueue_sim.running import start_engine

HELP = """Run a simulated model server over HTTP: real bytes and continuous batching, no model and no GPU.

example:
  fairqueue engine-sim tgi --listen 127.0.0.1:8080 --speed 10 &
  curl 127.0.0.1:8080/generate_stream -H 'content-type: application/json' \\
    -d '{"inputs": "What is deep learning?", "parameters": {"max_new_tokens": 5}}'

tgi is Text Generation Inference's router 3.3.6, byte for byte; vllm is vLLM's OpenAI server 0.32.0; sglang is SGLang
0.5.23 by its source; openai is a plain OpenAI-compatible server.
Marks in a prompt steer the model: [[eos=4]] ends at token 4, [[fail=3]] fails at token 3, [[slow=100]] takes 100 ms
a step. SIGTERM or Ctrl-C lets running replies finish; a second one ends at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue engine-sim`."""
    parser.add_argument("kind", choices=ENGINE_KINDS, help="which server to be")
    parser.add_argument(
        "--listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="where to listen (%(default)s); port 0: any"
    )
    profiles = ", ".join(profile_names())
    parser.add_argument(
        "--model-profile", default="a10g-llama2-7b", metavar="NAME", help=f"one of {profiles} (%(default)s)"
    )
    parser.add_argument("--kv-tokens", type=int, metavar="M", help="size of the KV cache (the profile's)")
    parser.add_argument(
        "--slots", type=int, metavar="N", help="most sequences in a batch (vllm: 256; sglang: 2048; else no limit)"
    )
    parser.add_argument(
        "--max-concurrent-requests",
        type=int,
        metavar="N",
        help="more, queued ones included, are refused (tgi: 128; else no limit)",
    )
    parser.add_argument(
        "--mean-output-tokens",
        type=float,
        metavar="X",
        help="mean length of outputs; 0: they never end by themselves (the profile's)",
    )
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="times faster than real (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what the model says (%(default)s)")
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="what really happened to each token, as JSON lines; appended"
    )
    parser.add_argument(
        "--steps", type=Path, metavar="FILE", help="what each step found in the queue, as JSON lines; appended"
    )


def run(args: argparse.Namespace) -> int:
    """Serves until told to go. Exit code 2: bad input, in one line on standard error."""
    try:
        host, port = read_address(args.listen, "--listen")
        settings = _settings(args)
    except UnknownProfileError as error:
        return _bad_input(f"--model-profile {args.model_profile}: {error}")
    except ValueError as error:
        return _bad_input(str(error))
    with ExitStack() as stack:
        try:
            truth = TruthLog(file=_opened(stack, "--log", args.log), keep=False)
            steps = _opened(stack, "--steps", args.steps)
        except ValueError as error:
            return _bad_input(str(error))
        log = None if steps is None else StepLog(steps)
        try:
            return run_on_fast_loop(_serve(args.kind, settings, truth, log, host, port))
        except OSError as error:
            return _bad_input(f"--listen {args.listen}: {error.strerror}: choose another address")


def _opened(stack: ExitStack, option: str, path: Path | None) -> BinaryIO | None:
    """To write on where it ends: an engine that was started again in its container keeps what it had written."""
    try:
        if path is None:
            return None
        file = stack.enter_context(path.open("ab"))
        if path.is_file() and _is_cut(path):
            file.write(b"\n")
        return file
    except OSError as error:
        raise ValueError(f"{option} {path}: {error.strerror}: choose another file") from None


def _is_cut(path: Path) -> bool:
    """Whoever wrote it was killed in the middle of a line. Not known of files that may only be written."""
    with suppress(PermissionError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
    return False


async def _serve(
    kind: EngineKind, settings: EngineSettings, truth: TruthLog, steps: StepLog | None, host: str, port: int
) -> int:
    told = Told()
    told.listen_to_signals()
    engine = await start_engine(kind, settings, truth, host=host, port=port, steps=steps)
    try:
        print(f"fairqueue engine-sim: {kind} listens on {engine.url}", flush=True)
        await until_told(told, engine.drain)
    finally:
        await engine.close()
    return 0


def _settings(args: argparse.Namespace) -> EngineSettings:
    for option, least in (("kv_tokens", 2), ("slots", 1), ("max_concurrent_requests", 1)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise ValueError(f"--{option.replace('_', '-')} {value}: must be {least} or more")
    if not args.speed > 0:
        raise ValueError(f"--speed {args.speed:g}: must be more than 0")
    if args.mean_output_tokens is not None and not args.mean_output_tokens >= 0:
        raise ValueError(f"--mean-output-tokens {args.mean_output_tokens:g}: must be 0 or more")
    return EngineSettings(
        load_profile(args.model_profile),
        speed=args.speed,
        seed=args.seed,
        kv_tokens=args.kv_tokens,
        slots=args.slots,
        max_concurrent_requests=args.max_concurrent_requests,
        mean_output_tokens=args.mean_output_tokens,
    )


def _bad_input(message: str) -> int:
    print(f"fairqueue engine-sim: {message}", file=sys.stderr)
    return 2
