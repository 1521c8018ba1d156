"""Runs an open loop: each request of a workload goes out at its time, whatever else is running.

Everything runs on one event loop; `OpenResult` is written while the run lasts and may be read at any time by
`on_second`. A generator that falls behind would measure itself: how late each request goes out is kept.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairqueue_cli.load_prompt import unseen_prompt
from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_sender import Ask, Sender, TargetUnreachable, open_sender
from fairqueue_cli.load_spec import LoadPlan
from fairqueue_sim.lab.trace import Arrival

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """What is sent when, `speed` times as fast as it is written down. `keys` are by tenant."""

    plan: LoadPlan
    arrivals: Sequence[Arrival]
    speed: float = 1.0
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Sent:
    """One request. `due_at` is of the run's clock."""

    arrival: Arrival
    due_at: float
    reply: Reply

    @property
    def late_seconds(self) -> float:
        """How long after its time it went out, by the wall clock."""
        return max(0.0, self.reply.sent_at - self.due_at)


@dataclass(slots=True)
class OpenResult:
    """A run, over or still going. Times are of the run's clock."""

    plan: OpenPlan
    started_at: float
    ended_at: float
    sent: list[Sent] = field(default_factory=list)
    running: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    interrupted: bool = False

    @property
    def workload_seconds(self) -> float:
        """How long it has lasted, in the workload's time."""
        return (self.ended_at - self.started_at) * self.plan.speed


async def run_open(
    plan: OpenPlan,
    *,
    rng: random.Random,
    clock: Clock = time.monotonic,
    sleep: Sleep = asyncio.sleep,
    interrupt: asyncio.Event | None = None,
    on_second: Callable[[OpenResult], None] | None = None,
) -> OpenResult:
    """Sends all arrivals and waits for all replies, or until `interrupt` is set: what runs then stays `UNFINISHED`.

    `rng` makes the texts. Raises TargetUnreachable if the target refuses connections before it has answered once.
    """
    async with open_sender(plan.plan, clock) as sender:
        run = _OpenRun(plan, sender, rng, clock, sleep)
        await run.execute(interrupt or asyncio.Event(), on_second)
    if cause := sender.contact.unreachable:
        raise TargetUnreachable(f"nothing answers at {plan.plan.target}: {cause}")
    return run.result


class _OpenRun:
    def __init__(self, plan: OpenPlan, sender: Sender, rng: random.Random, clock: Clock, sleep: Sleep) -> None:
        now = clock()
        self.result = OpenResult(plan, now, now)
        self._sender = sender
        self._rng = rng
        self._clock = clock
        self._sleep = sleep
        self._lost = asyncio.Event()

    async def execute(self, interrupt: asyncio.Event, on_second: Callable[[OpenResult], None] | None) -> None:
        # Whichever of these is done first ends the run.
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(self._send_all())]
        ends += [asyncio.create_task(event.wait()) for event in (self._lost, interrupt)]
        if on_second is not None:
            ends.append(asyncio.create_task(self._tick(on_second)))
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.result.ended_at = self._clock()
            self.result.interrupted = interrupt.is_set()
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        for task in done:
            task.result()

    async def _tick(self, on_second: Callable[[OpenResult], None]) -> None:
        while True:
            await self._sleep(1.0)
            self.result.ended_at = self._clock()
            on_second(self.result)

    async def _send_all(self) -> None:
        plan, start = self.result.plan, self.result.started_at
        async with asyncio.TaskGroup() as requests:
            for arrival in plan.arrivals:
                # Its text is made while there is nothing to do but wait.
                ask = self._ask(arrival)
                due_at = start + arrival.seconds / plan.speed
                await self._sleep(max(due_at - self._clock(), 0.0))
                requests.create_task(self._send(arrival, due_at, ask))

    def _ask(self, arrival: Arrival) -> Ask:
        plan = self.result.plan
        prompt = unseen_prompt(self._rng, plan.plan.api, arrival.prompt_tokens)
        # No API takes a request for nothing: embeddings in a trace are sent as requests for one token.
        return Ask(prompt, max(arrival.output_tokens, 1), plan.keys.get(arrival.tenant), arrival.user)

    async def _send(self, arrival: Arrival, due_at: float, ask: Ask) -> None:
        result, now = self.result, self._clock()
        reply = Reply(sent_at=now, ended_at=now)
        result.sent.append(Sent(arrival, due_at, reply))
        result.running += 1
        try:
            await self._sender.send(ask, reply, _ignore)
        finally:
            reply.ended_at = self._clock()
            result.running -= 1
            result.outcomes[reply.outcome] += 1
        if self._sender.contact.unreachable:
            self._lost.set()


def _ignore(_reply: Reply) -> None:
    """Nobody watches each token here."""
