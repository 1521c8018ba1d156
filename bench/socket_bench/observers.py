"""Looks into an engine while it is measured: a simulated one's step log, or llama.cpp's metrics many times a second."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from socket_bench.cells import Engine
from socket_bench.children import ChildError, RunningEngine
from socket_bench.seen import Seen
from socket_bench.step_view import StepView

__all__ = ["LlamaLooks", "Observer", "observing"]

EMPTY_LIMIT_SECONDS = 30.0
POLL_SECONDS = 0.05
# For the line of the step in flight to be written.
SETTLE_SECONDS = 0.1


class Observer(Protocol):
    """Of one engine."""

    async def is_empty(self) -> bool:
        """Nothing runs and nothing waits."""

    async def seen(self, start: float, end: float, output_events: int) -> Seen:
        """Of a span that is over; `output_events` are the tokens that the clients saw in it."""


@dataclass(slots=True)
class StepLooks:
    """By the step log."""

    view: StepView

    async def is_empty(self) -> bool:
        self.view.read()
        return self.view.is_empty

    async def seen(self, start: float, end: float, output_events: int) -> Seen:
        await asyncio.sleep(SETTLE_SECONDS)
        self.view.read()
        seen = self.view.seen(start, end)
        self.view.forget()
        return seen


@dataclass(frozen=True, slots=True)
class _Poll:
    at: float
    processing: int
    deferred: int
    prompt_tokens: int


class LlamaLooks:
    """By `/metrics`, which llama.cpp answers between two steps, after it has filled free slots from its queue.

    What waits there waits for a slot: none would have fitted as long as all are taken. So all count, which is strict.
    """

    def __init__(self, session: aiohttp.ClientSession, port: int, slots: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._slots = slots
        self._polls: list[_Poll] = []

    async def run(self) -> None:
        """Polls until it is cancelled."""
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                self._polls.append(await self._poll())
            await asyncio.sleep(POLL_SECONDS)

    async def is_empty(self) -> bool:
        poll = await self._poll()
        return poll.processing == poll.deferred == 0

    async def seen(self, start: float, end: float, output_events: int) -> Seen:
        polls = [poll for poll in self._polls if start <= poll.at < end]
        self._polls.clear()
        if len(polls) < 2:
            raise ChildError("llama.cpp did not answer on /metrics while it was measured: try longer halves")
        deferred = [poll.deferred for poll in polls]
        return Seen(
            seconds=end - start,
            running_mean=sum(poll.processing for poll in polls) / len(polls),
            prompt_tokens=polls[-1].prompt_tokens - polls[0].prompt_tokens,
            output_tokens=output_events,
            waiting=deferred,
            fitting=deferred,
            idle_share=sum(poll.processing < self._slots for poll in polls) / len(polls),
        )

    async def _poll(self) -> _Poll:
        async with self._session.get(self._url) as reply:
            text = await reply.text()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("llamacpp:"))
        names = ("requests_processing", "requests_deferred", "prompt_tokens_total")
        return _Poll(time.monotonic(), *(int(float(values[f"llamacpp:{name}"])) for name in names))


@asynccontextmanager
async def observing(engine: Engine, running: RunningEngine) -> AsyncIterator[Observer]:
    """For as long as the engine is measured."""
    if engine.is_simulated:
        yield StepLooks(StepView(running.steps, engine.speed))
        return
    async with aiohttp.ClientSession() as session:
        looks = LlamaLooks(session, running.port, engine.slots or 0)
        polling = asyncio.create_task(looks.run())
        try:
            yield looks
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)


async def until_empty(observer: Observer, engine: RunningEngine) -> None:
    """Returns once what was begun is over; raises ChildError if that does not happen."""
    deadline = time.monotonic() + EMPTY_LIMIT_SECONDS
    while not await observer.is_empty():
        engine.child.check()
        if time.monotonic() > deadline:
            raise ChildError(f"the engine still had requests {EMPTY_LIMIT_SECONDS:.0f} s after its clients had left")
        await asyncio.sleep(POLL_SECONDS)
