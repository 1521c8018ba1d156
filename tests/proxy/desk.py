"""A dispatcher without network, on a clock that the test moves: for what depends on time alone."""

import random

from fairqueue_proxy.backlog import Backlog, Bounds
from fairqueue_proxy.capacity import Capacity, Limits
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.entitlement import Entitlement
from fairqueue_proxy.job import Job
from fairqueue_proxy.metering import Usage
from fairqueue_proxy.scheduler import Request, Scheduler
from fairqueue_proxy.tenants import Tenant
from upstream_engine import FakeClock


class Desk:
    """Tenants of weight 1, and an engine with so many places."""

    def __init__(self, *tenants: str, places: int = 1) -> None:
        self.clock = FakeClock()
        self.entitlement = Entitlement(self.clock)
        scheduler = Scheduler(
            clock=self.clock,
            before_activity=self.entitlement.before_activity,
            after_removal=self.entitlement.after_removal,
        )
        self.tenants = {name: Tenant(name, scheduler.add_node(name)) for name in tenants}
        self.dispatcher = Dispatcher(
            scheduler,
            Capacity(Limits(max_requests=places), lambda request, *, reserved: 0, self.clock),
            Backlog(Bounds(max_requests=100, max_requests_per_tenant=100, max_bytes=100, max_bytes_per_tenant=100)),
            self.clock,
            random.Random(1),
        )

    def receiving(self, tenant: str, name: str = "", size_bytes: int = 0) -> Job:
        """A request whose body is still coming."""
        job = Job(name, self.tenants[tenant], self.clock())
        self.dispatcher.receive(job, size_bytes)
        return job

    def submit(self, tenant: str, name: str = "", *, sequences: int = 1) -> Job:
        """A request of one prompt token that may have ten more."""
        job = self.receiving(tenant, name)
        job.request = Request(
            job.tenant.node, prompt_tokens=1, prompt_exact=True, max_output_tokens=10, sequences=sequences
        )
        self.dispatcher.submit(job)
        return job

    def finish(self, job: Job) -> None:
        """The engine ends a request that it has, with one token."""
        self.dispatcher.confirm(job)
        prompt = job.scheduled.prompt_tokens
        usage = Usage(prompt_tokens=prompt, output_tokens=1, counted_tokens=1, exact=True, final=True)
        self.dispatcher.settle(job, usage, complete=True)

    def queued(self) -> list[str]:
        """Names of those that wait."""
        return [job.request_id for job in self.dispatcher.jobs if job.dispatched_at is None]
