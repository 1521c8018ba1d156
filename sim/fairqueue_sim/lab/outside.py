"""The product as it is, in front of a modelled engine: its tenants, its queue, its scheduler, its budgets.

Only sockets are missing: jobs come from a trace, and what a meter would read from the engine's bytes is told by the
model. Charges are brought up to date before anything is decided by them, not with each token: that makes no
difference to any decision, and a simulation many times faster. Where a tenant has a limit of tokens per minute, time
itself decides, and each step is charged.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count

from fairqueue_api import Document
from fairqueue_proxy.capacity import EngineReport
from fairqueue_proxy.job import Job
from fairqueue_proxy.metering import Usage
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.policy_in_force import PolicyInForce
from fairqueue_proxy.scheduler import Node, Request, State
from fairqueue_proxy.sizing import longest_output
from fairqueue_proxy.tenants import ANONYMOUS, Tenant
from fairqueue_sim.batching import ContinuousBatch
from fairqueue_sim.generation import Generation, Step
from fairqueue_sim.lab.fate import Fate, GapSeen

__all__ = ["Outside"]

BYTES_PER_TOKEN = 4
# Looking at the gap costs a look at every counter: with many it is not taken at every decision.
COUNTERS_A_LOOK = 64


class _Flight:
    """A request on its way; stands for whoever waits for its turn."""

    __slots__ = ("_send", "_told", "fate", "generation", "job", "usage")

    def __init__(self, job: Job, fate: Fate, generation: Generation, send: Callable[["_Flight"], None]) -> None:
        self.job = job
        self.fate = fate
        self.generation = generation
        self.usage = Usage()
        self._send = send
        self._told = False

    def done(self) -> bool:
        return self._told

    def set_result(self, result: None, /) -> None:
        self._told = True
        self._send(self)

    def set_exception(self, exception: BaseException, /) -> None:
        if not isinstance(exception, Refused):
            raise exception
        self._told = True
        self.fate.refused = exception.outcome.value


class Outside:
    """`report` is what the engine tells of itself."""

    def __init__(
        self,
        document: Document,
        report: EngineReport,
        batch: ContinuousBatch,
        clock: Callable[[], float],
        seed: int,
    ) -> None:
        self._batch = batch
        self._clock = clock
        self._document = document
        policy = PolicyInForce(document.engine.kind, clock, random.Random(f"product/{seed}"))
        self.policy = policy
        self._dispatcher = policy.dispatcher
        policy.dispatcher.capacity.report(report)
        policy.apply(document)
        self._by_name = policy.tenants.by_name
        self._numbers = count(1)
        self._flights: dict[Generation, _Flight] = {}
        self._deadlines: deque[tuple[float, _Flight]] = deque()
        self._metered_by_time = any(tenant.limits.tokens_per_minute for tenant in document.tenants) or (
            document.anonymous is not None and document.anonymous.limits.tokens_per_minute is not None
        )
        self._decisions = 0
        self.gap: GapSeen | None = GapSeen()

    def arrive(self, fate: Fate, generation: Generation) -> None:
        self._catch_up(self._flights.values())
        tenant, identity = self._identify(fate)
        if tenant is None:
            fate.refused = Outcome.UNAUTHENTICATED.value
            return
        now, arrival = self._clock(), fate.arrival
        job = Job(str(next(self._numbers)), tenant, now, identity=identity)
        job.request = Request(
            tenant.leaf(self._dispatcher.scheduler, identity or arrival.user),
            prompt_tokens=arrival.prompt_tokens,
            max_output_tokens=longest_output(
                self._dispatcher.capacity.context_tokens, arrival.prompt_tokens, arrival.allowed_tokens
            ),
        )
        flight = _Flight(job, fate, generation, self._send)
        job.admitted = flight
        try:
            self._dispatcher.receive(job, arrival.prompt_tokens * BYTES_PER_TOKEN)
            self._dispatcher.submit(job)
        except Refused as refused:
            fate.refused = refused.outcome.value
            self._dispatcher.leave(job)
        else:
            if job.request.state is State.QUEUED:
                self._deadlines.append((now + self._document.queue.timeout_seconds, flight))
        self._look()

    def began(self, step: Step) -> None: ...

    def over(self, step: Step) -> None:
        flights = self._flights
        if not (step.prefilled or step.finished):
            if self._metered_by_time:
                self._catch_up(flights.values())
            return
        self._catch_up(flights.values())
        self._look()
        for generation in step.prefilled:
            flight = flights[generation]
            flight.job.first_token_at = self._clock()
            self._dispatcher.confirm(flight.job)
            self._dispatcher.first_token(flight.job)
        for generation, _ in step.finished:
            flight = flights.pop(generation)
            arrival, usage = flight.fate.arrival, flight.usage
            usage.prompt_tokens, usage.cached_tokens = arrival.prompt_tokens, arrival.cached_tokens
            usage.counted_tokens, usage.final = usage.output_tokens, True
            self._dispatcher.settle(flight.job, usage, complete=True)
        self._look()

    def due(self) -> float:
        while self._deadlines and self._deadlines[0][1].job.scheduled.state is not State.QUEUED:
            self._deadlines.popleft()
        change = self._dispatcher.scheduler.next_change()
        deadline = self._deadlines[0][0] if self._deadlines else float("inf")
        return deadline if change is None else min(change, deadline)

    def wake(self) -> None:
        self._catch_up(self._flights.values())
        now = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, flight = self._deadlines.popleft()
            if flight.job.scheduled.state is State.QUEUED:
                flight.fate.refused = Outcome.QUEUE_TIMEOUT.value
                self._dispatcher.leave(flight.job)
        self._dispatcher.pump()

    def _identify(self, fate: Fate) -> tuple[Tenant | None, str | None]:
        """A trace's tenant that the policy does not name is somebody whom it does not know. Of `anonymous` the trace's
        user is who it was."""
        arrival = fate.arrival
        tenant = self._by_name.get(arrival.tenant)
        if tenant is not None and (tenant.name != ANONYMOUS or self._document.anonymous is None):
            return tenant, None
        if self._document.identity.on_unidentified == "Anonymous" and ANONYMOUS in self._by_name:
            return self._by_name[ANONYMOUS], arrival.user if arrival.tenant == ANONYMOUS else arrival.tenant
        return None, None

    def _send(self, flight: _Flight) -> None:
        self._flights[flight.generation] = flight
        self._batch.submit(flight.generation)

    def _catch_up(self, flights: Iterable[_Flight]) -> None:
        """Charges what the engine has made since."""
        for flight in flights:
            made, usage = flight.generation.generated_tokens, flight.usage
            if made != usage.output_tokens:
                usage.output_tokens, usage.exact = made, True
                self._dispatcher.charge(flight.job, usage)

    def _look(self) -> None:
        gap = self.gap
        if gap is None:
            return
        scheduler = self._dispatcher.scheduler
        self._decisions += 1
        if self._decisions % (1 + len(self._by_name) // COUNTERS_A_LOOK):
            return
        nodes: list[Node] = [scheduler.root, *(node for node in scheduler.nodes() if node.children)]
        for node in nodes:
            seen = scheduler.gap(node)
            gap.see(seen.gap, seen.bound)
