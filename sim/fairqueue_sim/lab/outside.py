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
from typing import Protocol

from fairqueue_api import Document
from fairqueue_proxy.capacity import EngineReport
from fairqueue_proxy.job import Job
from fairqueue_proxy.metering import Usage
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.policy_in_force import PolicyInForce
from fairqueue_proxy.scheduler import Node, Request, State
from fairqueue_proxy.sizing import longest_output
from fairqueue_proxy.tenants import ANONYMOUS, Tenant
from fairqueue_sim.generation import FinishReason, Generation, Step
from fairqueue_sim.lab.fate import Fate, GapSeen
from fairqueue_sim.lab.trace import Arrival

__all__ = ["Outside"]

BYTES_PER_TOKEN = 4
# Looking at the gap costs a look at every counter: with many it is not taken at every decision.
COUNTERS_A_LOOK = 64


class Engine(Protocol):
    """What requests are sent to."""

    def submit(self, generation: Generation) -> None: ...


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

    def waits_again(self) -> None:
        self._told = False
        self.fate.started_at = None

    def set_exception(self, exception: BaseException, /) -> None:
        if not isinstance(exception, Refused):
            raise exception
        self._told = True
        self.fate.refused = exception.outcome.value


class Outside:
    """`report` is what the engine tells of itself. Of those that are `plain` nothing is seen until all is there."""

    def __init__(
        self,
        document: Document,
        report: EngineReport,
        engine: Engine,
        clock: Callable[[], float],
        seed: int,
        plain: Callable[[Arrival], bool] = lambda _: False,
    ) -> None:
        self._engine = engine
        self._plain = plain
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
        self._waiting: dict[Request, _Flight] = {}
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
            streamed=not self._plain(arrival),
        )
        flight = self._waiting[job.request] = _Flight(job, fate, generation, self._send)
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
        if len(step.tokens) > len(step.prefilled):
            # Somebody who has begun before got a token.
            self._dispatcher.capacity.intake.paced()
        if not (step.prefilled or step.finished):
            if self._metered_by_time:
                self._catch_up(flights.values())
            return
        self._catch_up(flights.values())
        self._look()
        for generation in step.prefilled:
            flight = flights[generation]
            if flight.job.scheduled.streamed:
                self._answered(flight)
        for generation, reason in step.finished:
            flight = flights.pop(generation)
            if not flight.job.scheduled.streamed:
                self._answered(flight)
                flight.usage.output_tokens, flight.usage.exact = generation.generated_tokens, True
            arrival, usage = flight.fate.arrival, flight.usage
            usage.prompt_tokens, usage.cached_tokens = arrival.prompt_tokens, arrival.cached_tokens
            usage.counted_tokens, usage.final = usage.output_tokens, True
            self._dispatcher.settle(flight.job, usage, complete=reason is not FinishReason.ABORT)
        self._look()

    def head(self) -> Generation | None:
        head = self._dispatcher.scheduler.head()
        return None if head is None else self._waiting[head].generation

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

    def everybody_leaves(self) -> None:
        """The clients of all that wait hang up."""
        # Who came last goes first: so nobody's turn comes meanwhile.
        for request, flight in reversed(list(self._waiting.items())):
            if request.state is State.QUEUED:
                del self._waiting[request]
                flight.fate.refused = Outcome.CLIENT_GONE.value
                self._dispatcher.leave(flight.job)

    def engine_counts(self, waiting: int) -> None:
        """The engine's metrics have been read: so many wait in it."""
        self._catch_up(self._flights.values())
        self._dispatcher.engine_counts(waiting)

    def engine_says(self, report: EngineReport) -> None:
        """What the engine tells of itself is something else now."""
        self._dispatcher.engine_says(report)

    def engine_died(self) -> None:
        """All connections to the engine are broken, and no new one can be made.

        As in `relay`: whose reply has begun ends with an error; the others can't have been begun with by an engine
        that takes no connection, and wait again.
        """
        self._dispatcher.capacity.paused = True
        broken, self._flights = self._flights, {}
        for flight in broken.values():
            # Also of the step that never ended tokens may have been charged.
            if flight.job.scheduled.confirmed:
                flight.fate.refused = Outcome.ENGINE_ERROR.value
                self._dispatcher.settle(flight.job, flight.usage, complete=False)
            else:
                flight.waits_again()
                self._waiting[flight.job.scheduled] = flight
                self._dispatcher.put_back(flight.job)

    def engine_is_back(self) -> None:
        """It takes connections again, as a new one."""
        self._dispatcher.capacity.paused = False
        self._dispatcher.engine_restarted()

    @property
    def unended(self) -> set[Fate]:
        """Of all that the product still has."""
        flights = [*self._flights.values(), *self._waiting.values()]
        jobs = set(self._dispatcher.jobs)
        return {flight.fate for flight in flights if flight.job in jobs}

    def _answered(self, flight: _Flight) -> None:
        flight.job.first_token_at = self._clock()
        self._dispatcher.confirm(flight.job)
        self._dispatcher.first_token(flight.job)

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
        del self._waiting[flight.job.scheduled]
        self._flights[flight.generation] = flight
        self._engine.submit(flight.generation)

    def _catch_up(self, flights: Iterable[_Flight]) -> None:
        """Charges what the engine has made since."""
        for flight in flights:
            made, usage = flight.generation.generated_tokens, flight.usage
            if made != usage.output_tokens and flight.job.scheduled.streamed:
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
