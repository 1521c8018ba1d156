"""Who gives way when the queue is full, and what is counted, where a request has bytes before it is queued."""

import pytest

from fairqueue_proxy.backlog import Bound
from fairqueue_proxy.job import Job
from fairqueue_proxy.scheduler import Request
from proxy.desk import Desk


@pytest.fixture
def desk() -> Desk:
    """The only place is taken."""
    one = Desk("alice")
    one.submit("alice", "occupant")
    return one


def queue(desk: Desk, job: Job) -> None:
    job.request = Request(job.tenant.node, prompt_tokens=1, max_output_tokens=10)
    desk.dispatcher.submit(job)


def test_the_newest_is_who_was_queued_last_whenever_its_body_began_to_come(desk: Desk) -> None:
    slow, quick = desk.receiving("alice", "slow", 1), desk.receiving("alice", "quick", 1)
    queue(desk, quick)
    queue(desk, slow)
    backlog, root = desk.dispatcher.backlog, desk.dispatcher.scheduler.root
    assert backlog.victim(root, Bound.REQUESTS) is slow
    assert backlog.victim(root, Bound.BYTES) is slow


def test_what_a_node_has_queued_is_counted_from_when_it_is_queued(desk: Desk) -> None:
    job = desk.receiving("alice", "next", 7)
    backlog, node = desk.dispatcher.backlog, job.tenant.node
    assert (backlog.queued, backlog.queued_of(node), backlog.held_bytes) == (0, 0, 7)
    queue(desk, job)
    assert (backlog.queued, backlog.queued_of(node), backlog.held_bytes) == (1, 1, 7)
    desk.dispatcher.leave(job)
    assert (backlog.queued, backlog.queued_of(node), backlog.held_bytes, backlog.waits) == (0, 0, 0, False)
