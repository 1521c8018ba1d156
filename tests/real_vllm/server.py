"""A real vLLM server on loopback, from an environment of its own, with a model that was made for it."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from fairqueue_api.address import Address

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 400.0
PROGRESS_SECONDS = 5.0
MODEL = "tiny"

# Long enough a context that a stream does not end by itself while its client is to leave, on a busy machine.
CONTEXT_TOKENS = 8192
_COMMON = f"--dtype float32 --enforce-eager --max-num-seqs 4 --max-model-len {CONTEXT_TOKENS}"
OPTIONS = {
    "generate": f"{_COMMON} --enable-auto-tool-choice --tool-call-parser hermes --max-num-queued-reqs 6",
    "embed": f"{_COMMON} --runner pooling",
    "classify": f"{_COMMON} --runner pooling",
}
LABELS = {"generate": 0, "embed": 0, "classify": 2}

# One thread to compute with: two would starve the client where there are two cores. Next to nothing to cache in.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True)
class Server:
    address: Address
    process: asyncio.subprocess.Process


def interpreter() -> Path:
    """The Python that has vLLM."""
    found = ROOT / ".venv-vllm" / "bin" / "python"
    assert found.exists(), "vLLM is not installed: run `make test-vllm`"
    return found


@asynccontextmanager
async def serving_vllm(kind: str, folder: Path) -> AsyncIterator[Server]:
    """vLLM serving a model of that kind, ready for requests. What it writes goes to `vllm.log` in the folder."""
    model = folder / "model"
    with telling(f"making a model to {kind}"):
        await _make_model(model, LABELS[kind])
    port = _free_port()
    command = [interpreter(), "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", port, *OPTIONS[kind].split()]
    log = folder / "vllm.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stdout=output, stderr=output, env=os.environ | _ENVIRONMENT, start_new_session=True
        )
    try:
        await _until_healthy(kind, process, port, log)
        yield Server(Address("127.0.0.1", port), process)
    finally:
        # Its engine and its worker are processes of their own.
        with _no_such_process():
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Says what takes a while, and how long it took."""
    began = time.monotonic()
    say(what)
    yield
    say(f"{what}: done in {time.monotonic() - began:.0f} s")


def say(words: str) -> None:
    """A line for whoever waits."""
    print(f"vllm: {words}", file=sys.stderr, flush=True)


@contextmanager
def _no_such_process() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        return


async def _make_model(folder: Path, labels: int) -> None:
    program = Path(__file__).with_name("tiny_model.py")
    command = [interpreter(), program, folder, ROOT / "LICENSE", labels]
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=os.environ
    )
    _, words = await process.communicate()
    assert process.returncode == 0, words.decode()


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def _until_healthy(kind: str, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    began = told = time.monotonic()
    say(f"starting vLLM to {kind} (most of a minute)")
    async with aiohttp.ClientSession() as session:
        while process.returncode is None and (now := time.monotonic()) - began < START_SECONDS:
            try:
                async with session.get(f"http://127.0.0.1:{port}/health") as reply:
                    if reply.status == 200:
                        say(f"vLLM to {kind} is ready after {now - began:.0f} s")
                        return
            except aiohttp.ClientError:
                pass
            if now - told >= PROGRESS_SECONDS:
                told = now
                say(f"vLLM to {kind} has been starting for {now - began:.0f} s")
            await asyncio.sleep(0.2)
    raise AssertionError(f"vLLM did not start:\n{_end_of(log)}")
