"""A proxy in front of an engine, for tests: policy file, keys, ports, all real.

`running_proxy` runs it in the test's own process, so that a test can look inside; `serving_proxy` runs the command
`fairqueue serve` as a child.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from fairqueue_api import Document, SecretDirectory, load_policy, render
from fairqueue_api.address import Address
from fairqueue_proxy.proxy import Proxy
from fairqueue_proxy.recording import Recording
from fairqueue_proxy.usage_log import UsageLog

LOOPBACK = Address("127.0.0.1", 0)


def key_of(tenant: str) -> str:
    """The API key of a test tenant."""
    return f"key-of-{tenant}"


def bearer(tenant: str) -> dict[str, str]:
    """The header that makes a request this tenant's."""
    return {"Authorization": f"Bearer {key_of(tenant)}"}


def write_policy(
    folder: Path, *, kind: str = "TGI", tenants: list[dict[str, Any]], engine_key: str | None = None, **spec: Any
) -> tuple[Path, Path]:
    """Writes a policy file and the keys, the tenants' and the engine's; returns both paths. Tenants get their key refs
    by themselves."""
    secrets = folder / "secrets" / "keys"
    secrets.mkdir(parents=True)
    full = []
    for tenant in tenants:
        (secrets / tenant["name"]).write_text(key_of(tenant["name"]))
        full.append({"apiKeySecretRefs": [{"name": "keys", "key": tenant["name"]}], **tenant})
    engine: dict[str, Any] = {"kind": kind, **({"port": 8000} if kind == "OpenAI" else {})}
    if engine_key is not None:
        (secrets / "engine").write_text(engine_key)
        engine["apiKeySecretRef"] = {"name": "keys", "key": "engine"}
    policy = {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": "test"},
        "spec": {"selector": {"matchLabels": {"app": "llm"}}, "engine": engine, "tenants": full, **spec},
    }
    path = folder / "policy.yaml"
    path.write_text(json.dumps(policy))
    return path, folder / "secrets"


def document_of(folder: Path, **policy: Any) -> Document:
    """The rendered document of `write_policy(folder, **policy)`."""
    path, secrets = write_policy(folder, **policy)
    return render(load_policy(path), SecretDirectory(secrets))


@dataclass(slots=True)
class Stack:
    """Where a proxy listens. `proxy` is there only in process, `process` only for a child."""

    data: Address
    admin: Address
    local: Address
    proxy: Proxy | None = None
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The clients' base URL."""
        return f"http://{self.data.host}:{self.data.port}"

    async def get(self, address: Address, path: str) -> tuple[int, str]:
        """Status and text of a GET on one of the addresses."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{address.host}:{address.port}{path}") as reply,
        ):
            return reply.status, await reply.text()

    async def metrics(self) -> str:
        """The proxy's own metrics."""
        return (await self.get(self.admin, "/metrics"))[1]

    async def queue(self) -> dict[str, Any]:
        """What /-/queue says."""
        return dict(json.loads((await self.get(self.local, "/-/queue"))[1]))


@asynccontextmanager
async def running_proxy(
    folder: Path,
    engine_port: int,
    *,
    recording: Recording | None = None,
    usage_log: UsageLog | None = None,
    **policy: Any,
) -> AsyncIterator[Stack]:
    """A proxy in this process, in front of an engine on loopback."""
    engine = Address("127.0.0.1", engine_port)
    proxy = Proxy(document_of(folder, **policy), engine, seed=1, recording=recording, usage_log=usage_log)
    try:
        data, admin, local = await proxy.start(LOOPBACK, LOOPBACK, LOOPBACK)
        yield Stack(data, admin, local, proxy=proxy)
    finally:
        await proxy.stop()


@asynccontextmanager
async def serving_proxy(folder: Path, engine_port: int, log: Path, **policy: Any) -> AsyncIterator[Stack]:
    """`fairqueue serve --policy` as a child process; its standard error goes to `log`."""
    path, secrets = write_policy(folder, **policy)
    async with serving(engine_port, log, "--policy", path, "--secrets", secrets) as stack:
        yield stack


@asynccontextmanager
async def serving(
    engine_port: int, log: Path, *options: object, program: tuple[str, str] = ("-m", "fairqueue_cli.main")
) -> AsyncIterator[Stack]:
    """`fairqueue serve` as a child process, in front of an engine on loopback; its standard error goes to `log`."""
    command = [sys.executable, *program, "serve", *options]
    command += ["--engine", f"http://127.0.0.1:{engine_port}"]
    for option in ("--listen", "--admin", "--local"):
        command += [option, "127.0.0.1:0"]
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert process.stderr is not None
    warnings = b""
    while not (line := await asyncio.wait_for(process.stderr.readline(), 20)).startswith(b"fairqueue: clients on"):
        assert line.startswith(b"{"), line
        warnings += line
    words = line.decode().replace(",", " ").split()
    data, admin, local = (_address(words[index]) for index in (3, 8, 13))
    copying = asyncio.create_task(_copy(process.stderr, log, warnings))
    try:
        yield Stack(data, admin, local, process=process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        await copying


async def _copy(reader: asyncio.StreamReader, log: Path, beginning: bytes) -> None:
    with log.open("wb", buffering=0) as file:
        file.write(beginning)
        while data := await reader.read(65536):
            file.write(data)


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host, int(port))
