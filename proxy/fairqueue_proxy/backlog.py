"""What waits: bounds in requests and bytes, per tenant and per pod, and who has to go when the pod's is reached.

Pure bookkeeping over the scheduler's tree. A job *waits* from the first byte of its body until it is dispatched
(again after it was put back); its bytes are *held* until the engine's first reply byte. While its body arrives it
counts at its tenant's node, afterwards at its leaf.
"""

import enum
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from fairqueue_proxy.job import Job
from fairqueue_proxy.scheduler import Node
from fairqueue_proxy.tenants import Tenant


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

    def add(self, job: Job, sign: int = 1) -> None:
        self.requests += sign * (job.queued_at is not None)
        self.waiting_bytes += sign * job.held_bytes


_NOTHING = _Load()


class Backlog:
    """Every job is in here from `receive` to `forget`."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.queued = 0
        self.held_bytes = 0
        self._tenant_bytes: defaultdict[Tenant, int] = defaultdict(int)
        # Nodes come and go: only those are kept at which something waits.
        self._loads: defaultdict[Node, _Load] = defaultdict(_Load)
        # By the node at which they count, in order of arrival.
        self._waiting: dict[Node, OrderedDict[Job, None]] = {}

    def __repr__(self) -> str:
        return f"<Backlog {self.queued} queued, {self.held_bytes} bytes>"

    @property
    def waits(self) -> bool:
        """Somebody waits, or still sends its body."""
        return bool(self._waiting)

    def jobs(self) -> Iterator[Job]:
        """All that wait or still send their bodies."""
        for waiting in list(self._waiting.values()):
            yield from list(waiting)

    def queued_of(self, node: Node) -> int:
        """Queued requests of a node and all below it."""
        return self._loads.get(node, _NOTHING).requests

    def receive(self, job: Job, size_bytes: int) -> None:
        """More bytes of the job's body have come."""
        place = job.place or job.tenant.node
        if job.place is None:
            self._enter(job, place)
        job.body_bytes += size_bytes
        job.held_bytes += size_bytes
        if size_bytes:
            for node in place.path:
                self._loads[node].waiting_bytes += size_bytes
        self.held_bytes += size_bytes
        self._tenant_bytes[job.tenant] += size_bytes

    def queue(self, job: Job, now: float) -> None:
        """The job's request is queued from now on, at its leaf."""
        leaf = job.scheduled.leaf
        if job.place is leaf:
            self._waiting[leaf].move_to_end(job)
            job.queued_at = now
            for node in leaf.path:
                self._loads[node].requests += 1
        else:
            self._exit(job)
            job.queued_at = now
            self._enter(job, leaf)
        self.queued += 1

    def move(self, job: Job) -> None:
        """A queued job's request has been put on another leaf."""
        self._exit(job)
        self._enter(job, job.scheduled.leaf)

    def dispatch(self, job: Job) -> None:
        """The job no longer waits; its bytes are still held."""
        self._exit(job)
        self.queued -= 1

    def put_back(self, job: Job) -> None:
        """The job waits again, as the oldest of its leaf, with all its bytes."""
        self.held_bytes += job.body_bytes - job.held_bytes
        self._tenant_bytes[job.tenant] += job.body_bytes - job.held_bytes
        job.held_bytes = job.body_bytes
        self._enter(job, job.scheduled.leaf, oldest=True)
        self.queued += 1

    def leave(self, job: Job) -> None:
        """A job goes away for good."""
        if job.place is not None:
            self._exit(job)
            self.queued -= job.queued_at is not None
        self.forget(job)

    def forget(self, job: Job) -> None:
        """The job's bytes are no longer held (the engine has begun to reply, or the job has ended)."""
        self.held_bytes -= job.held_bytes
        self._tenant_bytes[job.tenant] -= job.held_bytes
        if not self._tenant_bytes[job.tenant]:
            del self._tenant_bytes[job.tenant]
        job.held_bytes = 0

    def over_tenant(self, job: Job) -> Bound | None:
        """The bound of its own that the job's tenant is over now."""
        tenant = job.tenant
        most = self.bounds.max_requests_per_tenant
        if tenant.max_queued is not None:
            most = min(most, tenant.max_queued)
        if self.queued_of(tenant.node) > most:
            return Bound.REQUESTS
        if self._tenant_bytes.get(tenant, 0) > self.bounds.max_bytes_per_tenant:
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
        while True:
            own = [job for job in self._waiting.get(node, ()) if _counts(job, bound)]
            # Of children there may be thousands; those with something that waits are no more than what waits.
            loads = {child: load.of(bound) for child, load in self._loads.items() if child.parent is node}
            child = max(loads, key=lambda child: (loads[child] / child.weight, child.name), default=None)
            if child is None or not loads[child] or _amount(own, bound) > loads[child] / child.weight:
                return own[-1] if own else None
            node = child

    def _enter(self, job: Job, place: Node, *, oldest: bool = False) -> None:
        job.place = place
        waiting = self._waiting.setdefault(place, OrderedDict())
        waiting[job] = None
        if oldest:
            waiting.move_to_end(job, last=False)
        for node in place.path:
            self._loads[node].add(job)

    def _exit(self, job: Job) -> None:
        place = job.place
        if place is None:
            return
        waiting = self._waiting[place]
        del waiting[job]
        if not waiting:
            del self._waiting[place]
        for node in place.path:
            load = self._loads.get(node)
            if load is not None:
                load.add(job, -1)
                if not load.requests and not load.waiting_bytes:
                    del self._loads[node]
        job.place = None


def _counts(job: Job, bound: Bound) -> bool:
    """Whether it would help to refuse the job."""
    return job.queued_at is not None if bound is Bound.REQUESTS else job.held_bytes > 0


def _amount(jobs: list[Job], bound: Bound) -> int:
    return len(jobs) if bound is Bound.REQUESTS else sum(job.held_bytes for job in jobs)
