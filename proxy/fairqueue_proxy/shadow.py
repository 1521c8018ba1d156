"""Mode Observe: the engine is sent each request at once, while the queue decides what it would have done.

The queue is the same as ever: requests arrive in it, wait by the order and the budgets, and are let in. Only nobody
waits for that. What the engine has finished before its turn came is started out of turn and charged, so that counters
and shares are of what was really done. Whoever would have been refused is out of the queue, as it would have been, and
is charged at its end, too.
"""

from collections.abc import Callable

from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.job import Job
from fairqueue_proxy.metering import Usage
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.scheduler import Request, State


class Shadow:
    """Stands before the dispatcher for observed jobs: told the same, it passes on what concerns the queue."""

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self.on = False
        # Longer than this nobody would have been kept waiting.
        self.timeout_seconds = float("inf")

    @property
    def in_flight(self) -> int:
        """Requests in the engine as far as their turn has come."""
        return self._dispatcher.in_flight

    def submit(self, job: Job, size_bytes: int) -> None:
        """Queues a job that goes to the engine now; never refuses it."""
        self._send(job)
        if not job.body_bytes:
            self._dispatcher.backlog.receive(job, size_bytes)
        self._dispatcher.submit(job)

    def take_over(self, job: Job) -> None:
        """A job that waits for its turn goes to the engine now."""
        if not job.observed and job.scheduled.state is State.QUEUED:
            self._send(job)

    def switch(self, *, on: bool) -> None:
        """Another mode is in force: what waits goes to the engine at once, or what the engine has counts as in it.

        To be followed by the dispatcher's `pump`.
        """
        if on == self.on:
            return
        self.on = on
        dispatcher = self._dispatcher
        for job in dispatcher.jobs:
            if job.observed:
                self._catch_up(job)
            elif on and job.scheduled.state is State.QUEUED:
                self.take_over(job)
                if job.admitted is not None and not job.admitted.done():
                    job.admitted.set_result(None)
        for job in dispatcher.backlog.jobs():
            if job.queued_at is None:
                # Its body is still coming.
                job.observed = on

    def replying(self, job: Job) -> None:
        """The engine's first reply byte is there."""
        job.replied = True
        if self._is_in_flight(job):
            self._dispatcher.replying(job)

    def confirm(self, job: Job) -> None:
        """The engine works on the job."""
        if self._is_in_flight(job):
            self._dispatcher.confirm(job)

    def first_token(self, job: Job, *, whole: bool = False) -> None:
        """The job's prefill is over."""
        if self._is_in_flight(job):
            self._dispatcher.first_token(job, whole=whole)

    def charge(self, job: Job, usage: Usage) -> None:
        """Charges what the meter has counted so far: all of it, as soon as the job's turn has come."""
        if self._is_in_flight(job):
            self._dispatcher.charge(job, usage)

    def settle(self, job: Job, usage: Usage, *, complete: bool) -> None:
        """The job has left the engine, by whatever end."""
        if self._catch_up(job):
            self._dispatcher.settle(job, usage, complete=complete)
        self._let_go(job)

    def drop(self, job: Job) -> None:
        """The engine did nothing for the job: uncharged."""
        if self._is_in_flight(job):
            self._dispatcher.drop(job)
        else:
            self.leave(job)
        self._let_go(job)

    def leave(self, job: Job) -> None:
        """A job goes that was never in flight."""
        self._dispatcher.leave(job)
        self._let_go(job)

    def put_back(self, job: Job) -> None:
        """The engine did not take the job: in the queue nothing changes."""

    def _send(self, job: Job) -> None:
        job.observed, job.sent_at = True, self._clock()
        self._dispatcher.observed.add(job)

    def _let_go(self, job: Job) -> None:
        self._dispatcher.observed.discard(job)
        if job.queue_seconds > self.timeout_seconds:
            job.would_refuse(Outcome.QUEUE_TIMEOUT)

    def _catch_up(self, job: Job) -> bool:
        """Brings a job into flight whose turn has not come; False if it can't be, because its tenant has gone."""
        if job.scheduled.state is State.ENDED:
            if job.tenant.node.leaving:
                return False
            job.request = self._anew(job)
            self._dispatcher.queue(job)
        if job.scheduled.state is State.QUEUED:
            self._dispatcher.start_out_of_turn(job)
        return True

    def _anew(self, job: Job) -> Request:
        """The request once more, as it was before it left the queue."""
        old, user = job.scheduled, job.call.user if job.call is not None else None
        return Request(
            job.tenant.leaf(self._dispatcher.scheduler, job.identity or user),
            prompt_tokens=old.prompt_tokens,
            prompt_exact=old.prompt_exact,
            max_output_tokens=old.max_output_tokens,
            sequences=old.sequences,
            streamed=old.streamed,
        )

    @staticmethod
    def _is_in_flight(job: Job) -> bool:
        return job.scheduled.state is State.IN_FLIGHT
