"""The proxy as one object: built from a document, started, drained, stopped."""

import asyncio
import contextlib
import os
import random
import resource
import time
from typing import TYPE_CHECKING

from aiohttp import web

from fairqueue_api import Document
from fairqueue_api.address import Address
from fairqueue_proxy.admin import Admin
from fairqueue_proxy.client_server import ClientServer
from fairqueue_proxy.data_port import DataPort
from fairqueue_proxy.document_watch import ReloadCounts
from fairqueue_proxy.drain import Drain
from fairqueue_proxy.engine_watch import EngineWatch
from fairqueue_proxy.engines import engine_for
from fairqueue_proxy.exposition import Exposition
from fairqueue_proxy.identity import Identity
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.outflow import SWEEP_SECONDS, Outflows
from fairqueue_proxy.policy_in_force import PolicyInForce
from fairqueue_proxy.runtime import InForce, Runtime
from fairqueue_proxy.shadow import Shadow
from fairqueue_proxy.upstream import Upstream

if TYPE_CHECKING:
    from fairqueue_proxy.recording import Recording
    from fairqueue_proxy.usage_log import UsageLog

KEEPALIVE_SECONDS = 75.0
LINGERING_SECONDS = 2.0
STOP_SECONDS = 0.1
FIRST_LOOK_SECONDS = 1.0
CONNECTION_BYTES = 25_000
BASE_BYTES = 256 * 1024 * 1024
DESCRIPTORS_KEPT_BACK = 64
BACKLOG = 4096
DRAIN_SECONDS = 120.0
KEPT_OF_GRACE_SECONDS = 15.0
"""Of the time until the pod is killed: for what comes before the drain's window and after it."""
LAST_WORDS_SECONDS = 2.0


class CannotListen(Exception):
    """An address that can't be listened on, and why."""

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(reason)
        self.address = address


def connection_cap(memory_limit_bytes: int | None) -> int:
    """How many client connections may be open: two descriptors each, and what memory allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    cap = (soft - DESCRIPTORS_KEPT_BACK) // 2 if soft != resource.RLIM_INFINITY else 1_000_000
    if memory_limit_bytes is not None:
        cap = min(cap, (memory_limit_bytes - BASE_BYTES) // CONNECTION_BYTES)
    return max(cap, 16)


class Proxy:
    """One proxy in front of one engine. `start`, then `run` until it is told to go, then `stop`.

    Without a document it relays free routes only, until `apply` brings one. A `recording` and a `usage_log` are written
    from its start to its stop, which closes them. `grace_seconds` after it is told to go it is killed; `batch_limit` is
    how many requests the engine was started to run at once.
    """

    def __init__(
        self,
        document: Document | None,
        engine: Address,
        *,
        engine_kind: str | None = None,
        memory_limit_bytes: int | None = None,
        grace_seconds: float | None = None,
        batch_limit: int | None = None,
        seed: int | None = None,
        recording: "Recording | None" = None,
        usage_log: "UsageLog | None" = None,
    ) -> None:
        kind = engine_kind or (document.engine.kind if document is not None else None)
        if kind is None:
            raise ValueError("without a document the engine's kind must be told")
        self._clock = clock = time.monotonic
        self._longest_drain_seconds = (
            max(grace_seconds - KEPT_OF_GRACE_SECONDS, 0.0) if grace_seconds is not None else float("inf")
        )
        random_source = random.Random(seed)
        self._policy = PolicyInForce(kind, clock, random_source)
        self.entitlement, self.dispatcher = self._policy.entitlement, self._policy.dispatcher
        self.dispatcher.capacity.engine_is_started_with(batch_limit)
        self.upstream = Upstream(engine.host, engine.port, clock=clock)
        self.watch = EngineWatch(kind, self.upstream, self.dispatcher, clock)
        self.drain = Drain(self.dispatcher, DRAIN_SECONDS, clock)
        self.outflows = Outflows(clock)
        self.reloads = ReloadCounts()
        self.runtime = Runtime(
            engine=engine_for(kind),
            in_force=None,
            tenants=self._policy.tenants,
            dispatcher=self.dispatcher,
            shadow=Shadow(self.dispatcher, clock),
            upstream=self.upstream,
            watch=self.watch,
            drain=self.drain,
            outflows=self.outflows,
            clock=clock,
            random=random_source,
            recording=recording,
            usage_log=usage_log,
        )
        self.data_port = DataPort(self.runtime)
        self._admin = Admin(
            self.runtime,
            Exposition(self.runtime, self.entitlement, self.reloads),
            self.reloads,
            listening=lambda: self._listening,
        )
        self._connection_cap = connection_cap(memory_limit_bytes)
        self._listening = False
        self._sites: list[web.TCPSite] = []
        self._runners: list[web.BaseRunner] = []
        self._tasks: list[asyncio.Task[None]] = []
        if document is not None:
            self.apply(document)

    def apply(self, document: Document) -> None:
        """Brings a document into force: at once and as a whole, with all counters kept.

        What is queued and in flight stays; requests that come from now on are seen by the new document.
        """
        runtime, dispatcher = self.runtime, self.dispatcher
        kind = document.engine.kind
        runtime.engine = engine_for(kind)
        runtime.in_force = InForce(document, runtime.engine, Identity(document))
        self._policy.apply(document)
        runtime.room.most_bytes = document.queue.max_bytes
        runtime.shadow.timeout_seconds = document.queue.timeout_seconds
        self.drain.window_seconds = min(document.drain.timeout_seconds, self._longest_drain_seconds)
        self.watch.engine_is(kind, document.engine.api_key, document.backpressure.scrape_interval_seconds)
        runtime.shadow.switch(on=runtime.in_force.observes)
        dispatcher.pump()

    async def start(self, listen: Address, admin: Address, local: Address) -> tuple[Address, Address, Address]:
        """Binds the three ports, the data port last, once the engine has been asked for its limits.

        Returns the addresses in fact bound. Raises CannotListen when one can't be.
        """
        pod = await self._listen(
            web.AppRunner(self._admin.pod_app(), access_log=None, shutdown_timeout=STOP_SECONDS), admin
        )
        loopback = await self._listen(
            web.AppRunner(self._admin.loopback_app(), access_log=None, shutdown_timeout=STOP_SECONDS), local
        )
        # With the engine's limits known, not too many are let in at first; but the ports do not wait for a slow one.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await self.watch.look()
        server = ClientServer(
            self.data_port.handle,
            connection_cap=self._connection_cap,
            refuse_malformed=self.data_port.refuse_malformed,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGERING_SECONDS,
        )
        data = await self._listen(web.ServerRunner(server, shutdown_timeout=STOP_SECONDS), listen)
        self._listening = True
        for each in (self.runtime.recording, self.runtime.usage_log):
            if each is not None:
                each.start()
        self._tasks = [asyncio.create_task(self.watch.run()), asyncio.create_task(self._sweep())]
        return data, pod, loopback

    async def finish(self) -> None:
        """The end of a life: the data port takes no connections any more, what was taken is finished as far as the
        drain's window allows, what is left then is ended in words, and all that is written goes out to who reads it.
        """
        self._listening = False
        if self._sites:
            await self._sites[-1].stop()
        self.drain.begin(refuse=True)
        await self.drain.over.wait()
        for job in self.dispatcher.jobs:
            if job.engine_side is not None:
                job.engine_side.cut_off(Refused(Outcome.DRAINING, "this replica is going away: try again"))
        deadline = self._clock() + max(self.drain.left_seconds, LAST_WORDS_SECONDS)
        while (self.data_port.handling or self.outflows.total_bytes) and self._clock() < deadline:  # noqa: ASYNC110
            # Nothing tells when a socket's buffer is empty.
            await asyncio.sleep(SWEEP_SECONDS)

    async def stop(self) -> None:
        """Closes everything, at once."""
        self._listening = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.drain.close()
        for runner in reversed(self._runners):
            await runner.cleanup()
        await self.upstream.close()
        for each in (self.runtime.recording, self.runtime.usage_log):
            if each is not None:
                await each.close()

    async def _listen(self, runner: web.BaseRunner, address: Address) -> Address:
        self._runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, address.host, address.port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            # The loop's own texts name the address once more; those of getaddrinfo have negative numbers.
            number = error.errno or 0
            raise CannotListen(address, os.strerror(number) if number > 0 else error.strerror or str(error)) from error
        except UnicodeError as error:
            raise CannotListen(address, "this can't be the name of a host") from error
        self._sites.append(site)
        host, port = runner.addresses[-1][:2]
        return Address(str(host), int(port))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.outflows.sweep()
            self._pump_when_due()

    def _pump_when_due(self) -> None:
        """A token bucket may have freed a tenant."""
        due = self.dispatcher.scheduler.next_change()
        if due is not None and due <= self._clock():
            self.dispatcher.pump()
