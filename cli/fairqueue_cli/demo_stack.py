"""Starts and stops what the demo measures: the engine, the proxy in front of it, and the files the proxy reads.

Children get a session of their own, so that Ctrl-C in the terminal reaches the demo alone, which then ends them by
pid; they also end by themselves when the demo dies (`demo_child`). What they print goes to a log file.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

_READY_LIMIT_SECONDS = 60.0
_IDLE_LIMIT_SECONDS = 60.0
_POLL_SECONDS = 0.05
_ANSWER_LIMIT_SECONDS = 5.0
_STOP_LIMIT_SECONDS = 5.0
_LOG_TAIL_LINES = 15
_KEY_BYTES = 24
_KEY_NAME = "key"


class DemoError(Exception):
    """The demo cannot go on. The message says what did not work, and what to do if there is something to do."""


@dataclass(frozen=True, slots=True)
class ProxyFiles:
    """What `fairqueue serve` is given: the policy and a directory with one folder per Secret."""

    policy: Path
    secrets: Path
    keys: dict[str, Path]  # by tenant


@dataclass(frozen=True, slots=True)
class ProxyAddresses:
    listen: str
    admin: str
    local: str


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_proxy_files(directory: Path, tenants: Sequence[str]) -> ProxyFiles:
    """A FairnessPolicy with these tenants, all of equal weight, and a random API key for each."""
    keys = {}
    for tenant in tenants:
        folder = directory / "secrets" / f"{tenant}-key"
        folder.mkdir(parents=True)
        keys[tenant] = folder / _KEY_NAME
        keys[tenant].touch(mode=0o600)
        keys[tenant].write_text(secrets.token_urlsafe(_KEY_BYTES) + "\n")
    refs = {tenant: [{"name": path.parent.name, "key": path.name}] for tenant, path in keys.items()}
    document = {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": "demo"},
        "spec": {
            "selector": {"matchLabels": {"app": "demo"}},
            "engine": {"kind": "LlamaCpp"},
            "tenants": [{"name": tenant, "weight": 1, "apiKeySecretRefs": refs[tenant]} for tenant in tenants],
        },
    }
    policy = directory / "policy.yaml"
    policy.write_text(yaml.safe_dump(document, sort_keys=False))
    return ProxyFiles(policy, directory / "secrets", keys)


@asynccontextmanager
async def running_engine(directory: Path) -> AsyncIterator[str]:
    """The engine's address, once it is healthy."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ["-P", "-m", "fairqueue_cli.demo_engine", "--port", str(port)]
    async with _running("the engine", arguments, directory / "engine.log", f"{url}/health"):
        yield url


@asynccontextmanager
async def running_proxy(directory: Path, files: ProxyFiles, engine_url: str) -> AsyncIterator[ProxyAddresses]:
    """The proxy's addresses, once it is ready."""
    listen, admin, local = (f"127.0.0.1:{free_port()}" for _ in range(3))
    arguments = [
        "-P",
        "-m",
        "fairqueue_cli.main",
        "serve",
        "--policy",
        str(files.policy),
        "--secrets",
        str(files.secrets),
    ]
    arguments += ["--engine", engine_url, "--listen", listen, "--admin", admin, "--local", local]
    async with _running("the proxy", arguments, directory / "proxy.log", f"http://{admin}/-/ready"):
        yield ProxyAddresses(f"http://{listen}", f"http://{admin}", f"http://{local}")


@asynccontextmanager
async def _running(name: str, arguments: Sequence[str], log: Path, ready_url: str) -> AsyncIterator[None]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "fairqueue_cli.demo_child", str(os.getpid()), sys.executable),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        await _wait_ready(name, process, log, ready_url)
        yield
    finally:
        await _stop(process)


async def _wait_ready(name: str, process: asyncio.subprocess.Process, log: Path, url: str) -> None:
    async def ready(session: aiohttp.ClientSession) -> bool:
        if process.returncode is not None:
            raise DemoError(f"{name} ended with status {process.returncode}:\n{_tail(log)}")
        async with session.get(url) as response:
            return response.status == 200

    if not await _until(ready, _READY_LIMIT_SECONDS):
        raise DemoError(f"{name} was not ready after {_READY_LIMIT_SECONDS:.0f} s ({url}):\n{_tail(log)}")


async def wait_idle(engine_url: str) -> None:
    """Returns once the engine neither runs nor holds a request, so that one phase leaves nothing to the next."""

    async def idle(session: aiohttp.ClientSession) -> bool:
        async with session.get(f"{engine_url}/metrics") as response:
            lines = (await response.text()).splitlines()
        gauges = dict(line.split(" ", 1) for line in lines if not line.startswith("#") and " " in line)
        return all(float(gauges.get(f"llamacpp:requests_{state}", "1")) == 0 for state in ("processing", "deferred"))

    if not await _until(idle, _IDLE_LIMIT_SECONDS):
        raise DemoError(f"the engine still had requests {_IDLE_LIMIT_SECONDS:.0f} s after its clients had gone")


async def _until(holds: Callable[[aiohttp.ClientSession], Awaitable[bool]], limit_seconds: float) -> bool:
    """Asks until `holds` says yes; a server that does not answer yet says no. False after `limit_seconds`."""
    deadline = asyncio.get_running_loop().time() + limit_seconds
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_LIMIT_SECONDS)) as session:
        while asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                if await holds(session):
                    return True
            await asyncio.sleep(_POLL_SECONDS)
    return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_LIMIT_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
