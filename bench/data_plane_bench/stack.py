"""One proxy between the load and the upstream, all of them fresh, and what is asked of it while it is measured."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from data_plane_bench.children import Cores, running_child
from data_plane_bench.compiled import Tools
from data_plane_bench.load import Load
from data_plane_bench.proxies import Launch, Proxy
from data_plane_bench.upstream import Upstream, running_upstream
from socket_bench.children import Child, until_ready
from socket_bench.policy import TENANTS, key_of

__all__ = ["Scrapes", "Stack", "running_stack"]

SCRAPE_SECONDS = 1.0


@dataclass(slots=True)
class Scrapes:
    """How often the proxy's `/metrics` was read, and how often in vain."""

    done: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Stack:
    """All runs and is ready; without a proxy the load goes to the upstream itself."""

    proxy: Proxy
    child: Child | None
    upstream: Upstream
    load: Load
    cores: Cores
    scrapes: Scrapes = field(default_factory=Scrapes)

    def check(self) -> None:
        """Raises ChildError if something has ended."""
        self.upstream.child.check()
        if self.child is not None:
            self.child.check()


@asynccontextmanager
async def running_stack(proxy: Proxy, tools: Tools, cores: Cores, folder: Path) -> AsyncIterator[Stack]:
    """The folder is for logs and configuration."""
    identities = folder / "identities"
    identities.write_text("".join(f"Authorization: Bearer {key_of(client)}\n" for client in range(len(TENANTS))))
    async with running_upstream(tools.upstream, cores.tools, folder) as upstream:
        if proxy.launch is None:
            load = Load(tools.load, cores.tools, upstream.port, folder, identities)
            yield Stack(proxy, None, upstream, load, cores)
            return
        launch = proxy.launch(upstream.port, folder)
        load = Load(tools.load, cores.tools, launch.port, folder, identities)
        log = folder / "proxy.log"
        async with running_child(proxy.name, launch.command, cores.proxy, log, environment=launch.environment) as child:
            await until_ready(child, launch.ready_url)
            stack = Stack(proxy, child, upstream, load, cores)
            async with _scraping(launch, stack.scrapes):
                yield stack


@asynccontextmanager
async def _scraping(launch: Launch, scrapes: Scrapes) -> AsyncIterator[None]:
    if launch.metrics_url is None:
        yield
        return
    task = asyncio.create_task(_scrape(launch.metrics_url, scrapes))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _scrape(url: str, scrapes: Scrapes) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as reply:
                    await reply.read()
                    reply.raise_for_status()
                scrapes.done += 1
            except (aiohttp.ClientError, OSError):
                scrapes.failed += 1
            await asyncio.sleep(SCRAPE_SECONDS)
