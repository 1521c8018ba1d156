"""One engine, and proxies in front of it that differ in how long they let wait: what a client may come to.

Everything runs in this process, on a loop of its own, so that a test can see what the proxy does and wait for it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from clients.attempts import MODEL
from clients.background import PATIENCE_SECONDS, Background
from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.scheduler import State
from proxy_stack import Stack, bearer, running_proxy

# What the body of a request may be, in every policy here.
BODY_LIMIT_BYTES = 65536

TENANTS: list[dict[str, Any]] = [
    {"name": "alice"},
    # One at a time: whoever comes second waits, and behind a full queue is refused.
    {"name": "bob", "limits": {"maxInFlight": 1}},
    {"name": "carol", "limits": {"maxInFlight": 1, "maxQueued": 0}},
]

QUEUES: dict[str, dict[str, Any]] = {
    "usual": {"maxRequests": 1},
    # 200 and comments after next to no time; then the engine's stream.
    "early": {"holdHeaders": "20ms"},
    # Nobody waits long: 504 with the first, an error in the stream with the second.
    "hasty": {"timeout": "50ms"},
    "early and hasty": {"holdHeaders": "20ms", "timeout": "250ms"},
}

_LOOK_SECONDS = 0.002
# Long enough for a few comments, which come every 20 ms here.
EARLY_WAIT_SECONDS = 0.1


class Lines(logging.Handler):
    """The proxy's log: one line for each metered request, as soon as it is over."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append({**record.fields, "ended_at": record.created})  # type: ignore[attr-defined]

    def of(self, tenant: str) -> list[dict[str, Any]]:
        """Those of a tenant's requests in the order in which they ended, without the occupants'."""
        return [line for line in self.lines if line["tenant"] == tenant and line["request_id"] != OCCUPANT]


OCCUPANT = "occupant"


class Door:
    """One proxy in front of the engine."""

    def __init__(self, background: Background, stack: Stack, log: Lines) -> None:
        assert stack.proxy is not None
        self._background = background
        self._proxy = stack.proxy
        self._watching: Future[None] | None = None
        self.url = stack.url
        self.log = log

    @contextmanager
    def occupied(self, tenant: str, *, waiting: int = 0) -> Iterator[asyncio.Event]:
        """The tenant's only place in the engine is taken, and so many more wait for it; all of them until the block's
        end, or until the event is set by `leaves_when`."""
        leave = asyncio.Event()
        tasks = []
        for count in range(waiting + 1):
            tasks.append(self._background.start(self._occupy(tenant, leave)))
            self._background.run(self._until(lambda count=count: self._known(tenant) == count + 1))  # type: ignore[misc]
        try:
            yield leave
        finally:
            self._background.run(_set(leave))
            for task in tasks:
                task.result(PATIENCE_SECONDS)
            watching, self._watching = self._watching, None
            if watching is not None:
                watching.result(PATIENCE_SECONDS)
            self._background.run(self._until(lambda: not self._proxy.dispatcher.jobs))

    def leaves_when_waited_for(
        self, leave: asyncio.Event, tenant: str, *, early: bool, many: int = 1, seconds: float = EARLY_WAIT_SECONDS
    ) -> None:
        """The occupant goes once so many requests of the tenant are queued; if `early`, once they have got 200 and
        then some time for comments."""

        async def wait() -> None:
            await self._until(lambda: sum(_waits(job, early) for job in self._jobs(tenant)) == many)
            if early:
                await asyncio.sleep(seconds)

        self._watching = self._background.start(_then_leave(leave, wait()))

    def leaves_when_refused(self, leave: asyncio.Event, tenant: str, outcome: Outcome) -> None:
        """The occupant goes once a request of the tenant has been refused."""
        before = len(self.log.of(tenant))

        async def wait() -> None:
            await self._until(lambda: any(line["outcome"] == outcome.value for line in self.log.of(tenant)[before:]))

        self._watching = self._background.start(_then_leave(leave, wait()))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Returns when it holds."""
        self._background.run(self._until(condition))

    def _jobs(self, tenant: str) -> list[Job]:
        return [job for job in self._proxy.dispatcher.jobs if job.tenant.name == tenant]

    def _known(self, tenant: str) -> int:
        jobs = self._jobs(tenant)
        return len(jobs) if any(job.first_token_at is not None for job in jobs) else 0

    async def _occupy(self, tenant: str, leave: asyncio.Event) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "[[slow=20]] x"}], "max_tokens": 2000}
        headers = {**bearer(tenant), "x-request-id": OCCUPANT}
        async with aiohttp.ClientSession(headers=headers) as session:
            posting = asyncio.ensure_future(
                session.post(f"{self.url}/v1/chat/completions", json={**body, "stream": True})
            )
            await leave.wait()
            posting.cancel()
            results = await asyncio.gather(posting, return_exceptions=True)
            for reply in results:
                if isinstance(reply, aiohttp.ClientResponse):
                    reply.close()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS / 2):
            # Nothing in the proxy tells when its state changes.
            while not condition():
                await asyncio.sleep(_LOOK_SECONDS)


async def _set(event: asyncio.Event) -> None:
    event.set()


async def _then_leave(leave: asyncio.Event, waiting: Coroutine[Any, Any, None]) -> None:
    """Lets the client go on also if what was waited for does not come."""
    try:
        await waiting
    finally:
        leave.set()


def _waits(job: Job, early: bool) -> bool:
    if job.request_id == OCCUPANT or job.request is None or job.request.state is not State.QUEUED:
        return False
    return not early or job.status == 200


class Doors:
    """The engine's own address and the proxies by the name of their queue, started when they are first asked for."""

    def __init__(self, background: Background, folder: Path, kind: str, engine_port: int, log: Lines) -> None:
        self._background = background
        self._folder = folder
        self._kind = kind
        self._engine_port = engine_port
        self._log = log
        self._doors: dict[str, Door] = {}
        self.direct = f"http://127.0.0.1:{engine_port}"

    def __getitem__(self, queue: str) -> Door:
        if queue not in self._doors:
            folder = self._folder / queue.replace(" ", "-")
            folder.mkdir()
            proxy = running_proxy(
                folder,
                self._engine_port,
                kind=self._kind,
                tenants=TENANTS,
                queue={"maxBodyBytes": BODY_LIMIT_BYTES, **QUEUES[queue]},
            )
            self._doors[queue] = Door(self._background, self._background.enter(proxy), self._log)
        return self._doors[queue]
