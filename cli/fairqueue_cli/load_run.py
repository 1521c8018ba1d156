"""Runs a load plan: one task per worker, each a closed loop, until the stop condition holds.

Everything runs on one event loop; `LoadResult` is written by the workers while the run lasts and may be read at any
time by `on_second`. Prompts come from a generator seeded per worker, so what a worker sends does not depend on the
order in which replies come.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fairqueue_cli.load_prompt import random_prompt
from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_sender import Ask, Sender, TargetUnreachable, open_sender
from fairqueue_cli.load_spec import LoadPlan, Stop, TenantSpec

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

# A refused client waits as Retry-After says, within these bounds: a loop without a pause would only measure itself.
_RETRY_SECONDS = 1.0
_MIN_RETRY_SECONDS = 0.1
_MAX_RETRY_SECONDS = 120.0


@dataclass(slots=True)
class TenantSamples:
    """What one tenant's workers saw. `replies` is in the order of their ends."""

    spec: TenantSpec
    replies: list[Reply] = field(default_factory=list)
    running: set[int] = field(default_factory=set)  # worker numbers
    output_tokens: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)


@dataclass(slots=True)
class LoadResult:
    """A run, over or still going. Times are of the run's clock; `measured_from` is None until the warm-up is over."""

    plan: LoadPlan
    started_at: float
    ended_at: float
    measured_from: float | None
    tenants: dict[str, TenantSamples]
    interrupted: bool = False


async def run_load(
    plan: LoadPlan,
    stop: Stop,
    *,
    clock: Clock = time.monotonic,
    sleep: Sleep = asyncio.sleep,
    interrupt: asyncio.Event | None = None,
    on_second: Callable[[LoadResult], None] | None = None,
) -> LoadResult:
    """Sends the plan's load until `stop` holds or `interrupt` is set, and returns every reply.

    Requests still running then are cut and kept as `UNFINISHED`. Raises TargetUnreachable if the target refuses
    connections before it has answered once.
    """
    async with open_sender(plan, clock) as sender:
        run = _Run(plan, stop, sender, clock, sleep)
        await run.execute(interrupt or asyncio.Event(), on_second)
    if cause := sender.contact.unreachable:
        raise TargetUnreachable(f"nothing answers at {plan.target}: {cause}")
    return run.result


class _Run:
    def __init__(self, plan: LoadPlan, stop: Stop, sender: Sender, clock: Clock, sleep: Sleep) -> None:
        now = clock()
        tenants = {spec.name: TenantSamples(spec) for spec in plan.tenants}
        self.result = LoadResult(plan, now, now, None if stop.warm_up else now, tenants)
        self._stop = stop
        self._sender = sender
        self._clock = clock
        self._sleep = sleep
        self._ended = asyncio.Event()
        self._cold = {(spec.name, number) for spec in plan.tenants for number in range(spec.workers)}
        self._requests_left = stop.requests
        self._replies_left = stop.replies

    async def execute(self, interrupt: asyncio.Event, on_second: Callable[[LoadResult], None] | None) -> None:
        workers = [
            asyncio.ensure_future(self._work(samples, number))
            for samples in self.result.tenants.values()
            for number in range(samples.spec.workers)
        ]
        # Whichever of these is done first ends the run.
        ends: list[asyncio.Future[Any]] = [asyncio.gather(*workers)]
        ends += [asyncio.ensure_future(event.wait()) for event in (self._ended, interrupt)]
        if self._stop.duration_seconds is not None:
            ends.append(asyncio.ensure_future(self._sleep(self._stop.duration_seconds)))
        if on_second is not None:
            ends.append(asyncio.ensure_future(self._tick(on_second)))
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.result.ended_at = self._clock()
            self.result.interrupted = interrupt.is_set()
            for task in (*workers, *ends):
                task.cancel()
            await asyncio.gather(*workers, *ends, return_exceptions=True)
        for task in done:
            task.result()

    async def _tick(self, on_second: Callable[[LoadResult], None]) -> None:
        while True:
            await self._sleep(1.0)
            self.result.ended_at = self._clock()
            on_second(self.result)

    async def _work(self, samples: TenantSamples, number: int) -> None:
        spec = samples.spec
        rng = random.Random(f"{self.result.plan.seed}/{spec.name}/{number}")
        while self._take_request():
            now = self._clock()
            reply = Reply(sent_at=now, ended_at=now)
            samples.running.add(number)
            on_token = partial(self._note_tokens, samples, number, [0])
            try:
                await self._sender.send(_ask(spec, rng), reply, on_token)
            finally:
                reply.ended_at = self._clock()
                samples.running.discard(number)
                samples.replies.append(reply)
                samples.outcomes[reply.outcome] += 1
            self._note_end(spec, number, reply)
            if pause := _pause_seconds(spec, reply):
                await self._sleep(pause)

    def _take_request(self) -> bool:
        if self._ended.is_set() or self._requests_left == 0:
            return False
        if self._requests_left is not None:
            self._requests_left -= 1
        return True

    def _note_tokens(self, samples: TenantSamples, number: int, seen: list[int], reply: Reply) -> None:
        samples.output_tokens += reply.output_tokens - seen[0]
        seen[0] = reply.output_tokens
        self._note_warm(samples.spec, number)

    def _note_warm(self, spec: TenantSpec, number: int) -> None:
        if self._cold:
            self._cold.discard((spec.name, number))
            if not self._cold and self.result.measured_from is None:
                self.result.measured_from = self._clock()

    def _note_end(self, spec: TenantSpec, number: int, reply: Reply) -> None:
        if self._sender.contact.unreachable:
            self._ended.set()
        if reply.outcome is not Outcome.COMPLETED:
            return
        # A reply without a single token is whole too: it must not keep the run in its warm-up for ever.
        self._note_warm(spec, number)
        measured_from = self.result.measured_from
        if spec.name == self._stop.tenant and measured_from is not None and reply.sent_at >= measured_from:
            self._replies_left -= 1
            if self._replies_left <= 0:
                self._ended.set()


def _ask(spec: TenantSpec, rng: random.Random) -> Ask:
    return Ask(random_prompt(rng, spec.prompt_words), rng.randint(*spec.max_tokens), spec.key)


def _pause_seconds(spec: TenantSpec, reply: Reply) -> float:
    if reply.outcome is Outcome.COMPLETED:
        return spec.think_seconds
    asked = _RETRY_SECONDS if reply.retry_after_seconds is None else reply.retry_after_seconds
    return min(max(asked, _MIN_RETRY_SECONDS), _MAX_RETRY_SECONDS)
