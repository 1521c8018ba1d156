"""An injector that runs in this process, on real sockets, beside an API server in memory; and clients of both ports."""

import asyncio
import io
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp

from fairqueue_api.told import Told
from fairqueue_operator.injection import InjectionSettings
from fairqueue_operator.injector import Injector
from fairqueue_operator.injector_options import Address, Options
from injector.conftest import until
from injector.fake_cluster import FakeCluster

NAME = "fairqueue-injector.fairqueue-system.svc"
WEBHOOK = "inject.fairqueue.dev"


def options(directory: Path, **changed: Any) -> Options:
    given: dict[str, Any] = {
        "namespace": "fairqueue-system",
        "service": "fairqueue-injector",
        "webhooks": "fairqueue-injector",
        "authority_secret": "fairqueue-injector-ca",
        "leaf_secret": "fairqueue-injector-tls",
        "certificate_files": None,
        "key_directory": directory,
        "listen": Address("127.0.0.1", 0),
        "health": Address("127.0.0.1", 0),
        "shutdown_delay_seconds": 0.0,
        "instance": "injector-0",
        "settings": InjectionSettings("example.org/proxy:1", "1"),
    }
    return Options(**given | changed)


class Running:
    """One replica. To be stopped."""

    def __init__(self, directory: Path, cluster: FakeCluster | None = None, **changed: Any) -> None:
        self.cluster = cluster or FakeCluster()
        self.told = Told()
        self.injector = Injector(options(directory, **changed), self.cluster, self.told)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.injector.serve())

    async def listening(self) -> "Running":
        await until(lambda: self.task.done() or self.injector.admissions._server is not None)
        return self

    async def ready(self) -> "Running":
        await until(lambda: self.task.done() or not self.injector.unready())
        if self.task.done():
            self.task.result()
        return self

    async def stop(self) -> None:
        self.told.tell()
        await asyncio.gather(self.task, return_exceptions=True)

    def trusting(self) -> ssl.SSLContext:
        """What an API server trusts that has read the webhook configuration now, and nothing else."""
        assert self.cluster.bundles is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=self.cluster.bundles[WEBHOOK].decode())
        return context

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.injector.admissions.port}/inject?timeout=5s"

    async def post(self, body: Any, **more: Any) -> tuple[int, Any]:
        """Status and answer, on a connection of its own."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            return await self.post_in(session, body, **more)

    async def post_in(self, session: aiohttp.ClientSession, body: Any, **more: Any) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        tls = {"ssl": self.trusting(), "server_hostname": NAME}
        async with session.post(self.url, data=io.BytesIO(content), **tls | more) as response:
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text())

    async def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.injector.status.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()

    async def decisions(self) -> dict[str, float]:
        """The metric's values that are not 0."""
        _, text = await self.get("/metrics")
        prefix = 'fairqueue_injector_decisions_total{decision="'
        lines = [line.removeprefix(prefix).split('"} ') for line in text.splitlines() if line.startswith(prefix)]
        return {name: float(value) for name, value in lines if float(value)}
