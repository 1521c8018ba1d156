"""The queue and its one decision point: who is queued, who is let into the engine, what each was charged.

All methods are synchronous and run on the event loop, so each leaves a consistent state behind: a change, then
`pump`, which lets in whatever the order and the budgets allow now. A job that waits is woken through its
`admitted` future: with a result when it was dispatched, with `Refused` when it has to go.
"""

import random
from collections.abc import Callable, Iterable

from fairqueue_proxy.backlog import Backlog, Bound
from fairqueue_proxy.capacity import Capacity, EngineReport
from fairqueue_proxy.job import Job
from fairqueue_proxy.metering import Usage
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.pace import Pace, retry_after_seconds
from fairqueue_proxy.scheduler import Request, Scheduler, State
from fairqueue_proxy.sizing import PromptSizes
from fairqueue_proxy.tenants import Tenant


class Dispatcher:
    """Holds the scheduler, the budgets and the bounds together."""

    def __init__(
        self,
        scheduler: Scheduler,
        capacity: Capacity,
        backlog: Backlog,
        clock: Callable[[], float],
        random_source: random.Random,
    ) -> None:
        self.scheduler = scheduler
        self.capacity = capacity
        self.backlog = backlog
        self.sizes = PromptSizes()
        self.drift_tokens = {"under": 0, "over": 0}
        self.malformed_events = 0
        # Jobs that the engine was sent at once, whatever is decided here: see `shadow`.
        self.observed: set[Job] = set()
        self._idle_seconds = 0.0
        self._idle_since: float | None = None
        self._clock = clock
        self._random = random_source
        self._jobs: dict[Request, Job] = {}
        # Of all, busy while something is in the engine; a tenant's own is while it wants something.
        self._pace = Pace(clock)

    def __repr__(self) -> str:
        return f"<Dispatcher {self.backlog.queued} queued, {self.scheduler.root.in_flight} in flight>"

    @property
    def jobs(self) -> list[Job]:
        """All that is queued or in flight."""
        return [*self._jobs.values(), *(job for job in self.observed if job.scheduled not in self._jobs)]

    @property
    def in_flight(self) -> int:
        """Requests in the engine; each sequence counts."""
        return self.scheduler.root.in_flight

    @property
    def idle_capacity_seconds(self) -> float:
        """Time so far in which somebody waited for whom something was free."""
        return self._idle_seconds + (self._clock() - self._idle_since if self._idle_since is not None else 0.0)

    def receive(self, job: Job, size_bytes: int) -> None:
        """Bytes of a body that is being received have come.

        Raises:
            Refused: this job has to go; another one that had to was told through its future or its time-out.
        """
        self.backlog.receive(job, size_bytes)
        if job.observed:
            return
        if self.backlog.over_tenant(job) is Bound.BYTES:
            raise self._tenant_full(job)
        self._evict(job)
        if job.refused is not None:
            raise job.refused

    def submit(self, job: Job) -> None:
        """Queues a job whose request has been sized, and lets it in at once if it is its turn.

        Raises:
            Refused: this job has to go.
        """
        if job.refused is not None:
            # While its last bytes came.
            self.scheduler.abandon(job.scheduled)
            raise job.refused
        self.queue(job)
        self.pump()
        # Bounds are on what is queued: they are judged after those have gone whom the engine takes right now.
        if job.scheduled.state is State.QUEUED and self.backlog.over_tenant(job) is not None:
            self.refuse(job, self._tenant_full(job))
        self._evict(job)
        if job.refused is not None:
            raise job.refused

    def queue(self, job: Job) -> None:
        """Puts a job at the end of its leaf's queue, whatever the bounds say."""
        self._jobs[job.scheduled] = job
        self.backlog.queue(job, self._clock())
        self.scheduler.enqueue(job.scheduled)
        self._pace_of(job.tenant).begin()

    def pump(self) -> None:
        """Lets in everybody whose turn it is. To be called after every change."""
        now = self._clock()
        while self.backlog.queued and (request := self.scheduler.dispatch(self.capacity.fits)) is not None:
            self._start(self._jobs[request], now)
        self._note_idle(now)

    def start_out_of_turn(self, job: Job) -> None:
        """The engine has a queued job already."""
        self.scheduler.start_out_of_turn(job.scheduled)
        self._start(job, self._clock())

    def leave(self, job: Job) -> None:
        """A job goes that has not been dispatched: its client left, or it was refused."""
        if job.request is not None and job.request.state is State.QUEUED:
            self.scheduler.cancel(job.scheduled)
            del self._jobs[job.scheduled]
        self.backlog.leave(job)
        self._note_end(job.tenant)
        self.pump()

    def refuse(self, job: Job, refused: Refused) -> None:
        """A job that waits has to go; whoever waits for it is told. One that is only observed goes on, uncounted."""
        if job.observed:
            job.would_refuse(refused.outcome)
            self.leave(job)
            return
        job.refused = refused
        if job.receiving is not None and not job.receiving.expired():
            job.receiving.reschedule(0)
        if job.admitted is not None and not job.admitted.done():
            job.admitted.set_exception(refused)
        self.leave(job)

    def put_back(self, job: Job) -> None:
        """The engine did not take a dispatched job: it is queued again where it was, uncharged."""
        self.capacity.give(job.scheduled)
        self.scheduler.requeue(job.scheduled)
        self.backlog.put_back(job)
        job.dispatched_at = job.sent_at = None
        self._note_end(job.tenant)
        self.pump()

    def drop(self, job: Job) -> None:
        """A dispatched job ends for which the engine did nothing: uncharged."""
        if job.refusals_by_engine:
            self.capacity.was_its_own_fault()
        self.capacity.give(job.scheduled)
        self.scheduler.drop(job.scheduled)
        self._end(job)

    def replying(self, job: Job) -> None:
        """The engine's first reply byte is there: the body's bytes are no longer held."""
        self.backlog.forget(job)

    def confirm(self, job: Job) -> None:
        """The engine works on the job."""
        self.scheduler.confirm(job.scheduled)

    def first_token(self, job: Job, *, whole: bool = False) -> None:
        """The job's prefill is over; of a reply that is only seen as a `whole`, long since, and `settle` follows."""
        self.capacity.answered(job.scheduled, somebody_waits=self._somebody_waits, whole=whole)
        if not whole:
            self.pump()

    def charge(self, job: Job, usage: Usage) -> None:
        """Charges what the meter has counted so far."""
        request = job.request
        assert request is not None
        if usage.prompt_tokens is not None and not request.cached_known:
            self._charge_prompt(job, usage.prompt_tokens, usage.cached_tokens)
        if usage.output_tokens != request.output_tokens:
            self.scheduler.output(request, usage.output_tokens, exact=usage.exact)
            self.capacity.grown(request)
            # As `_count_output`, written out: a call for each token is dear.
            if (exact := request.output_exact_tokens) > job.counted_output:
                job.tenant.output_tokens += exact - job.counted_output
                job.counted_output = exact

    def settle(self, job: Job, usage: Usage, *, complete: bool) -> None:
        """The job has left the engine, by whatever end: charge, free the slot, let in the next."""
        request = job.scheduled
        if usage.prompt_tokens is not None and job.call is not None and job.call.prompt_tokens is None:
            call = job.call
            tokens, parts = usage.prompt_tokens, call.media_parts
            self.sizes.learn(call.api, call.prompt_bytes, tokens, parts, model=call.model)
        if usage.final:
            drift = usage.output_tokens - usage.counted_tokens
            self.drift_tokens["under" if drift > 0 else "over"] += abs(drift)
        self.malformed_events += usage.malformed_events
        self.scheduler.finish(
            request,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            complete=complete,
        )
        self.capacity.give(request)
        self._count_prompt(job)
        self._count_output(job)
        self._pace.tick()
        self._pace_of(job.tenant).tick()
        self._end(job)

    def retry_after_seconds(self, tenant: Tenant | None = None) -> int:
        """When it makes sense to try again: after what is queued has gone, at the pace of late."""
        if tenant is None:
            return retry_after_seconds(self.backlog.queued, self._pace.rate(), self._random)
        rate = self._pace_of(tenant).rate() or self._pace.rate()
        return retry_after_seconds(self.backlog.queued_of(tenant.node), rate, self._random)

    def requests_per_second(self) -> float:
        """How fast requests end of late."""
        return self._pace.rate()

    def refuse_queued(self, outcome: Outcome, message: str, *, receiving: bool = False) -> None:
        """Refuses everything that is queued; if `receiving`, what is still being received, too."""
        for job in list(self.backlog.jobs()):
            if job.queued_at is not None or receiving:
                self.refuse(job, Refused(outcome, message))

    @property
    def queued_requests(self) -> list[Request]:
        """All that is queued, in order of arrival."""
        queued = [request for request in self._jobs if request.state is State.QUEUED]
        return sorted(queued, key=lambda request: request.arrival)

    def engine_says(self, report: EngineReport) -> None:
        """What the engine tells of itself."""
        self.capacity.report(report)
        self.pump()

    def engine_counts(self, waiting: float) -> None:
        """The engine's own count of requests that wait in it, just read."""
        self.capacity.waiting(waiting, somebody_waits=self._somebody_waits)
        self.pump()

    def engine_refused(self) -> None:
        """The engine had no room for a job that was put back since: it is sent fewer at once for a while."""
        self.capacity.refused()

    def engine_restarted(self) -> None:
        """The engine is a new one: counters stay, what was learned of it goes."""
        self.capacity.restarted()
        self.pump()

    @property
    def _somebody_waits(self) -> bool:
        return self.backlog.queued > 0 and self.scheduler.head() is not None

    def member_of(self, request: Request) -> str | None:
        """Who below its tenant a request is of."""
        job = self._jobs[request]
        return job.identity or (job.call.user if job.call is not None else None)

    def moved(self, requests: Iterable[Request]) -> None:
        """These queued requests are on another leaf now."""
        for request in requests:
            self.backlog.move(self._jobs[request])

    def refuse_newest(self, refused: Refused) -> bool:
        """Refuses the newest request of whoever has most queued; False if nothing is queued."""
        job = self.backlog.victim(self.scheduler.root, Bound.REQUESTS)
        if job is None:
            return False
        self.refuse(job, refused)
        return True

    def _start(self, job: Job, now: float) -> None:
        self._pace.begin()
        self.capacity.take(job.scheduled)
        self.backlog.dispatch(job)
        if job.queued_at is not None:
            job.queue_seconds = now - job.queued_at
        job.dispatched_at = now
        if not job.observed:
            job.sent_at = now
        if job.replied:
            self.replying(job)
        if job.first_token_at is not None:
            self.capacity.started_before(job.scheduled)
        if job.admitted is not None and not job.admitted.done():
            job.admitted.set_result(None)

    def _end(self, job: Job) -> None:
        self.backlog.forget(job)
        del self._jobs[job.scheduled]
        self._note_end(job.tenant)
        self.pump()

    def _pace_of(self, tenant: Tenant) -> Pace:
        if tenant.pace is None:
            tenant.pace = Pace(self._clock)
        return tenant.pace

    def _note_end(self, tenant: Tenant) -> None:
        if not self.scheduler.root.in_flight:
            self._pace.end()
        if tenant.pace is not None and not tenant.in_flight and not any(map(self.backlog.queued_of, tenant.nodes)):
            tenant.pace.end()

    def _evict(self, arrival: Job) -> None:
        """Refuses until the pod is within its bounds; at last the arrival itself."""
        while (bound := self.backlog.over_pod()) is not None:
            victim = self.backlog.victim(self.scheduler.root, bound) or arrival
            self.refuse(victim, Refused(Outcome.QUEUE_FULL, f"the queue is full ({bound.value}): try again later"))
            if victim is arrival:
                return

    def _tenant_full(self, job: Job) -> Refused:
        return Refused(
            Outcome.TENANT_QUEUE_FULL, f"tenant {job.tenant.name} has too much queued already: try again later"
        )

    def _charge_prompt(self, job: Job, tokens: int, cached_tokens: int) -> None:
        request = job.scheduled
        # Where cached tokens are cheaper, zero may mean that the engine tells of them only at the end: and what is
        # charged can't be taken back.
        if cached_tokens or request.cost.cached_input_percent >= 100:
            self.scheduler.prompt(request, tokens, cached_tokens)

    @staticmethod
    def _count_prompt(job: Job) -> None:
        """Adds to the tenant's input tokens what it was charged for the job. Once, at the end: only then it is sure how
        many of them the engine had cached, and no counter may fall."""
        request, tenant = job.scheduled, job.tenant
        job.counted_cached = min(request.cached_tokens, request.prompt_tokens)
        job.counted_input = request.prompt_tokens - job.counted_cached
        tenant.input_tokens += job.counted_input
        tenant.cached_input_tokens += job.counted_cached

    @staticmethod
    def _count_output(job: Job) -> None:
        """The same of its output tokens, most of which were counted as they came. An engine that says at its end that
        there were fewer has been charged for more: that stays."""
        exact = job.scheduled.output_exact_tokens
        if exact > job.counted_output:
            job.tenant.output_tokens += exact - job.counted_output
            job.counted_output = exact

    def _note_idle(self, now: float) -> None:
        """Counts the time in which somebody waits for whom something is free."""
        if self._idle_since is not None:
            self._idle_seconds += now - self._idle_since
        self._idle_since = now if self._somebody_waits and self.capacity.free else None
