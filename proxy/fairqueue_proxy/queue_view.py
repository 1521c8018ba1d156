"""Who waits, how long, behind whom and why: the answer to "why is my request not running?". Pure reading."""

from typing import Any

from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.job import Job
from fairqueue_proxy.scheduler import Node, State


def queue_view(dispatcher: Dispatcher, now: float) -> dict[str, Any]:
    """A JSON-ready picture of the queue: the budgets, then every job, those that wait in their tenant's order."""
    queued = [job for job in dispatcher.jobs if job.scheduled.state is State.QUEUED]
    in_flight = [job for job in dispatcher.jobs if job.scheduled.state is State.IN_FLIGHT]
    head = dispatcher.scheduler.head()
    places: dict[Node, int] = {}
    rows = []
    for job in sorted(queued, key=lambda job: job.scheduled.arrival):
        leaf = job.scheduled.leaf
        place = places[leaf] = places.get(leaf, 0) + 1
        rows.append(
            {
                "request_id": job.request_id,
                "tenant": job.tenant.name,
                "waiting_seconds": round(now - (job.queued_at or now), 3),
                "place_in_tenant": place,
                "key": leaf.key,
                "behind": _behind(leaf),
                "why": _why(dispatcher, job, place, is_head=head is job.scheduled),
            }
        )
    return {
        "capacity": [
            {"budget": budget.name, "limit": budget.limit, "used": budget.used, "source": budget.source}
            for budget in dispatcher.capacity.budgets
        ],
        "queued": rows,
        "in_flight": [
            {
                "request_id": job.request_id,
                "tenant": job.tenant.name,
                "running_seconds": round(now - (job.dispatched_at or now), 3),
                "output_tokens": job.scheduled.output_tokens,
            }
            for job in in_flight
        ],
    }


def _behind(leaf: Node) -> list[str]:
    """Active siblings, of the leaf and of its groups, that come first."""
    return sorted(
        sibling.path_name
        for node in leaf.path
        if node.parent is not None
        for sibling in node.parent.children.values()
        if sibling is not node and sibling.active and (not node.active or _rank(sibling) < _rank(node))
    )


def _rank(node: Node) -> tuple[float, int, str]:
    """What active siblings are ordered by."""
    return node.key, node.head_arrival, node.name


def _why(dispatcher: Dispatcher, job: Job, place: int, *, is_head: bool) -> str:
    if place > 1:
        return "behind earlier requests of its own tenant"
    if dispatcher.capacity.paused:
        return "the engine takes nothing at the moment"
    if not all(node.active for node in job.scheduled.leaf.path):
        return "its tenant is at its own limit"
    if is_head:
        return "next: waits until it fits into the engine"
    return "others come first: smaller counters, or equal ones and older requests"
