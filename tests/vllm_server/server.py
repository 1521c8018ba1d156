"""A real vLLM server on loopback, with a tiny model, in an environment of its own."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
START_SECONDS = 300.0
PROGRESS_SECONDS = 5.0
# As in the recordings that the adapter was made by.
OPTIONS = [
    *("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "4"),
    *("--max-model-len", "2048", "--served-model-name", "tiny"),
]
# One thread: two would starve the client on two cores.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@asynccontextmanager
async def running_vllm(folder: Path) -> AsyncIterator[int]:
    """The server's port, once it is healthy; says how far it is meanwhile."""
    assert PYTHON.exists(), "vLLM is not installed: run `make test-vllm`"
    model = folder / "model"
    await _run(str(PYTHON), str(Path(__file__).with_name("tiny_model.py")), str(model))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    log = folder / "vllm.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
            *(*OPTIONS, "--host", "127.0.0.1", "--port", str(port)),
            stdout=output,
            stderr=output,
            env=os.environ | ENVIRONMENT,
            start_new_session=True,
        )
    try:
        await _until_healthy(process, port, log)
        yield port
    finally:
        # Its engine is a process of its own.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, words = await process.communicate()
    assert process.returncode == 0, words.decode()


async def _until_healthy(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    begun = told = time.monotonic()
    async with aiohttp.ClientSession() as session:
        while time.monotonic() - begun < START_SECONDS:
            if process.returncode is not None:
                break
            try:
                async with session.get(f"http://127.0.0.1:{port}/health") as reply:
                    if reply.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                print(f"vLLM has been starting for {told - begun:.0f} s", file=sys.stderr, flush=True)
            await asyncio.sleep(0.2)
    raise AssertionError(f"vLLM did not start:\n{log.read_text()[-3000:]}")  # noqa: ASYNC240
