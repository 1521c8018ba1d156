"""Debian's Prometheus, Alertmanager and promtool as tests use them: real ones, on loopback, with their data in a folder
of the test's."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import pytest
import yaml

PATIENCE_SECONDS = 30.0
Json = dict[str, Any]


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips where they are missing, with the line that mends it. Under CI a skip is a failure: they are run there."""
    missing = [it for it in programs if shutil.which(it) is None]
    reason = f"{', '.join(missing)} not found: apt-get install prometheus prometheus-alertmanager"
    return pytest.mark.skipif(bool(missing) and not os.environ.get("CI"), reason=reason)


@dataclass(frozen=True, slots=True)
class Server:
    """One of them, and what it says."""

    url: str

    async def get(self, path: str, **parameters: str) -> Any:
        """What it answers, as JSON."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}", params=parameters) as reply:
            assert reply.status == 200, await reply.text()
            return await reply.json()

    async def query(self, expression: str) -> list[Json]:
        """An instant query: series with `metric` and `value`."""
        return list((await self.get("/api/v1/query", query=expression))["data"]["result"])

    async def query_range(self, expression: str, start: float, end: float, step: float) -> list[Json]:
        """Series with `metric` and `values`; times are seconds since 1970."""
        parameters = {"query": expression, "start": str(start), "end": str(end), "step": str(step)}
        return list((await self.get("/api/v1/query_range", **parameters))["data"]["result"])

    async def firing(self) -> list[dict[str, str]]:
        """Of Prometheus: the labels of each alert that fires."""
        alerts = (await self.get("/api/v1/alerts"))["data"]["alerts"]
        return [it["labels"] for it in alerts if it["state"] == "firing"]

    async def notified(self) -> list[dict[str, str]]:
        """Of Alertmanager: the labels of each alert that it knows as active."""
        return [it["labels"] for it in await self.get("/api/v2/alerts", active="true")]


@asynccontextmanager
async def prometheus(
    folder: Path,
    targets: Mapping[str, Sequence[str]],
    rule_files: Sequence[Path] = (),
    *,
    interval: str = "500ms",
    alertmanager: Server | None = None,
) -> AsyncIterator[Server]:
    """One that scrapes `targets`, host:port by job, and evaluates rules as often."""
    scraped = [
        {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
    ]
    config: Json = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(it) for it in rule_files],
        "scrape_configs": scraped,
    }
    if alertmanager is not None:
        address = alertmanager.url.removeprefix("http://")
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
    _write(folder, config)
    port = _free_port()
    command = ["prometheus", f"--config.file={folder}/config.yaml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", "--rules.alert.resend-delay=1s"]
    async with _running(command, folder / "log", port) as server:
        yield server


@asynccontextmanager
async def alertmanager(folder: Path) -> AsyncIterator[Server]:
    """One that keeps what it is told."""
    _write(folder, {"route": {"receiver": "nobody", "group_wait": "0s"}, "receivers": [{"name": "nobody"}]})
    port = _free_port()
    command = ["prometheus-alertmanager", f"--config.file={folder}/config.yaml", f"--storage.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=warn"]
    async with _running(command, folder / "log", port) as server:
        yield server


@asynccontextmanager
async def _running(command: Sequence[str], log: Path, port: int) -> AsyncIterator[Server]:
    server = Server(f"http://127.0.0.1:{port}")
    with _opened(log) as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await _is_ready(server):
                assert process.returncode is None, _read(log)
                await asyncio.sleep(0.05)
        yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _is_ready(server: Server) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/-/ready") as reply:
            return reply.status == 200
    except aiohttp.ClientConnectionError:
        return False


def _write(folder: Path, config: Json) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def _opened(log: Path) -> BinaryIO:
    return log.open("wb")


def _read(log: Path) -> str:
    return log.read_text()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
