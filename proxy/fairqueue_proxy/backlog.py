"""What waits: bounds in requests and bytes, per tenant and per pod, and who has to go when the pod's is reached.

Pure bookkeeping over the scheduler's tree. A job *waits* from the first byte of its body until it is dispatched
(again after it was put back); its bytes count until the engine's first reply byte.
"""

import enum
from collections import OrderedDict, defaultdict
from dataclasses import dataclass

from fairqueue_proxy.job import Job
from fairqueue_proxy.scheduler import Node


class Bound(enum.Enum):
    """What a bound is on."""

    REQUESTS = "requests"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The policy's `queue` limits."""

    max_requests: int
    max_requests_per_tenant: int
    max_bytes: int
    max_bytes_per_tenant: int


@dataclass(slots=True)
class _Load:
    """What a node and all below it has: queued requests, and bytes of jobs that wait."""

    requests: int = 0
    waiting_bytes: int = 0

    def of(self, bound: Bound) -> int:
        return self.requests if bound is Bound.REQUESTS else self.waiting_bytes


class Backlog:
    """Every job is in here from `receive` to `forget`."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.queued = 0
        self.held_bytes = 0
        self._tenant_bytes: defaultdict[Node, int] = defaultdict(int)
        self._loads: defaultdict[Node, _Load] = defaultdict(_Load)
        # Per leaf, in order of arrival.
        self._waiting: defaultdict[Node, OrderedDict[Job, None]] = defaultdict(OrderedDict)

    def __repr__(self) -> str:
        return f"<Backlog {self.queued} queued, {self.held_bytes} bytes>"

    @property
    def waits(self) -> bool:
        """Somebody waits, or still sends its body."""
        return any(self._waiting.values())

    def queued_of(self, node: Node) -> int:
        """Queued requests of a node and all below it."""
        return self._loads[node].requests

    def receive(self, job: Job, size_bytes: int) -> None:
        """More bytes of the job's body have come."""
        leaf = job.tenant.node
        self._waiting[leaf].setdefault(job)
        job.body_bytes += size_bytes
        self.held_bytes += size_bytes
        self._tenant_bytes[leaf] += size_bytes
        self._add(leaf, requests=0, waiting_bytes=size_bytes)

    def queue(self, job: Job) -> None:
        """The job's request is queued now."""
        self.queued += 1
        self._add(job.tenant.node, requests=1, waiting_bytes=0)

    def dispatch(self, job: Job) -> None:
        """The job no longer waits; its bytes are still held."""
        self.queued -= 1
        del self._waiting[job.tenant.node][job]
        self._add(job.tenant.node, requests=-1, waiting_bytes=-job.body_bytes)

    def put_back(self, job: Job) -> None:
        """The job waits again, as the oldest of its tenant."""
        self.queued += 1
        waiting = self._waiting[job.tenant.node]
        waiting[job] = None
        waiting.move_to_end(job, last=False)
        self._add(job.tenant.node, requests=1, waiting_bytes=job.body_bytes)

    def leave(self, job: Job, *, queued: bool) -> None:
        """A job that waits goes away for good."""
        leaf = job.tenant.node
        if job in self._waiting[leaf]:
            del self._waiting[leaf][job]
            self.queued -= queued
            self._add(leaf, requests=-int(queued), waiting_bytes=-job.body_bytes)
        self.forget(job)

    def forget(self, job: Job) -> None:
        """The job's bytes are no longer held (the engine has begun to reply, or the job has ended)."""
        self.held_bytes -= job.body_bytes
        self._tenant_bytes[job.tenant.node] -= job.body_bytes
        job.body_bytes = 0

    def over_tenant(self, job: Job) -> Bound | None:
        """The bound of its own that the job's tenant is over now."""
        tenant = job.tenant
        most = self.bounds.max_requests_per_tenant
        if tenant.max_queued is not None:
            most = min(most, tenant.max_queued)
        if self._loads[tenant.node].requests > most:
            return Bound.REQUESTS
        if self._tenant_bytes[tenant.node] > self.bounds.max_bytes_per_tenant:
            return Bound.BYTES
        return None

    def over_pod(self) -> Bound | None:
        """The pod's bound that is exceeded now."""
        if self.queued > self.bounds.max_requests:
            return Bound.REQUESTS
        return Bound.BYTES if self.held_bytes > self.bounds.max_bytes else None

    def victim(self, root: Node, bound: Bound) -> Job | None:
        """The newest job below the node found from the root down by taking, at each level, the child with most
        of what is bounded per weight: so that who floods gives way, and shuts nobody else out."""
        node = root
        while node.children:
            node = max(
                node.children.values(), key=lambda child: (self._loads[child].of(bound) / child.weight, child.name)
            )
        candidates = reversed(self._waiting[node])
        if bound is Bound.REQUESTS:
            return next((job for job in candidates if job.queued_at is not None), None)
        return next(candidates, None)

    def _add(self, leaf: Node, *, requests: int, waiting_bytes: int) -> None:
        for node in leaf.path:
            load = self._loads[node]
            load.requests += requests
            load.waiting_bytes += waiting_bytes
