"""Starts and ends what is measured: engines and proxies, each a process of its own on loopback.

They have sessions of their own, so that Ctrl-C reaches the benchmark alone, which then ends them by pid; they end by
themselves when it dies. What they print goes into a file.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from fairqueue_cli.demo_stack import free_port
from socket_bench.cells import Engine
from socket_bench.policy import Policy

__all__ = [
    "Child",
    "ChildError",
    "RunningEngine",
    "RunningProxy",
    "end",
    "running_engine",
    "running_proxy",
    "until_ready",
]

READY_LIMIT_SECONDS = 60.0
END_LIMIT_SECONDS = 5.0
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 8


class ChildError(Exception):
    """A process did not start, or ended before its time; the message has the end of what it printed."""


@dataclass(slots=True)
class Child:
    """A process that runs."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        """Raises ChildError if it does not run any more."""
        if self.process.returncode is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise ChildError(f"{self.name} ended with status {self.process.returncode}:\n{tail}")


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """`steps` is its step log; llama.cpp has none."""

    child: Child
    port: int
    steps: Path


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """`child.log` has its lines on requests."""

    child: Child
    port: int


@asynccontextmanager
async def running_engine(engine: Engine, folder: Path) -> AsyncIterator[RunningEngine]:
    """Of this cell, ready."""
    port, steps = free_port(), folder / "steps.jsonl"
    if engine.is_simulated:
        arguments = ["fairqueue_cli.main", "engine-sim", engine.kind, "--listen", f"127.0.0.1:{port}"]
        # Outputs end where the bench says.
        arguments += ["--mean-output-tokens", "0", "--steps", str(steps)]
        for option, value in engine.options.items():
            arguments += [f"--{option}", str(value)]
    else:
        arguments = ["fairqueue_cli.demo_engine", "--port", str(port), "--slots", str(engine.slots)]
    async with _running("the engine", arguments, folder / "engine.log", f"http://127.0.0.1:{port}/health") as child:
        yield RunningEngine(child, port, steps)


@asynccontextmanager
async def running_proxy(policy: Policy, engine_port: int, folder: Path) -> AsyncIterator[RunningProxy]:
    """In front of an engine, ready."""
    port, admin, local = (free_port() for _ in range(3))
    arguments = ["fairqueue_cli.main", "serve", "--policy", str(policy.path), "--secrets", str(policy.secrets)]
    arguments += ["--engine", f"http://127.0.0.1:{engine_port}", "--listen", f"127.0.0.1:{port}"]
    arguments += ["--admin", f"127.0.0.1:{admin}", "--local", f"127.0.0.1:{local}"]
    async with _running("the proxy", arguments, folder / "proxy.log", f"http://127.0.0.1:{admin}/-/ready") as child:
        yield RunningProxy(child, port)


@asynccontextmanager
async def _running(name: str, module: Sequence[str], log: Path, ready_url: str) -> AsyncIterator[Child]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "fairqueue_cli.demo_child", str(os.getpid()), sys.executable, "-P", "-m"),
            *module,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    child = Child(name, process, log)
    try:
        await until_ready(child, ready_url)
        yield child
    finally:
        await end(process)


async def until_ready(child: Child, url: str) -> None:
    """Waits for a 200 from there; raises ChildError if the process ends, or if it takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_LIMIT_SECONDS
    async with aiohttp.ClientSession() as session:
        while loop.time() < deadline:
            child.check()
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with session.get(url) as reply:
                    if reply.status == 200:
                        return
            await asyncio.sleep(POLL_SECONDS)
    raise ChildError(f"{child.name} was not ready after {READY_LIMIT_SECONDS:.0f} s: see {child.log}")


async def end(process: asyncio.subprocess.Process) -> None:
    """Not gently: nothing that it still does matters."""
    for signal_it in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal_it()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), END_LIMIT_SECONDS)
