"""What the queue decides about requests that the engine was sent at once, on a clock that the test moves."""

import pytest

from fairqueue_proxy.job import Job
from fairqueue_proxy.metering import Usage
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.scheduler import MICRO, Request, State
from fairqueue_proxy.shadow import Shadow
from proxy.desk import Desk

COST = 1 + 2 * 1


class Shadowed(Desk):
    """A desk that only observes."""

    def __init__(self, *tenants: str, places: int = 1) -> None:
        super().__init__(*tenants, places=places)
        self.shadow = Shadow(self.dispatcher, self.clock)
        self.shadow.timeout_seconds = 10.0
        self.shadow.switch(on=True)

    def send(self, tenant: str, name: str = "", size_bytes: int = 0) -> Job:
        job = Job(name, self.tenants[tenant], self.clock())
        job.request = Request(job.tenant.node, prompt_tokens=1, prompt_exact=True, max_output_tokens=10)
        self.shadow.submit(job, size_bytes)
        return job

    def end(self, job: Job, output_tokens: int = 1) -> None:
        """The engine ends a request."""
        self.shadow.replying(job)
        self.shadow.confirm(job)
        usage = Usage(
            prompt_tokens=1, output_tokens=output_tokens, counted_tokens=output_tokens, exact=True, final=True
        )
        self.shadow.charge(job, usage)
        self.shadow.settle(job, usage, complete=True)

    def waiting(self) -> list[str]:
        return [job.request_id for job in self.dispatcher.jobs if job.scheduled.state is State.QUEUED]

    def served(self, tenant: str) -> float:
        return self.tenants[tenant].served / MICRO

    def assert_nothing_held(self) -> None:
        dispatcher = self.dispatcher
        dispatcher.scheduler.check()
        assert (dispatcher.jobs, dispatcher.observed, dispatcher.in_flight) == ([], set(), 0)
        assert repr(dispatcher.backlog) == "<Backlog 0 queued, 0 bytes>"
        assert [budget.used for budget in dispatcher.capacity.budgets] == [0, 0, 0, 0]


def test_the_order_is_what_it_would_be_and_waits_are_as_long() -> None:
    desk = Shadowed("alice", "bob")
    flood = [desk.send("alice", f"alice-{number}") for number in range(3)]
    chat = desk.send("bob", "bob")
    assert desk.waiting() == ["alice-1", "alice-2", "bob"]
    desk.clock.now_seconds += 2
    desk.end(flood[0])
    # Counters are equal now but for what was served: it is bob's turn.
    assert desk.waiting() == ["alice-1", "alice-2"]
    assert chat.queue_seconds == 2
    desk.end(chat)
    desk.clock.now_seconds += 1
    desk.end(flood[1])
    desk.end(flood[2])
    assert [job.queue_seconds for job in flood] == [0, 2, 3]
    assert (desk.served("alice"), desk.served("bob")) == (3 * COST, COST)
    desk.assert_nothing_held()


def test_what_the_engine_finishes_before_its_turn_is_charged_and_waited_for_so_long() -> None:
    desk = Shadowed("alice", "bob")
    first, early = desk.send("alice", "first"), desk.send("bob", "early")
    desk.clock.now_seconds += 3
    desk.end(early, output_tokens=4)
    assert early.queue_seconds == 3
    assert desk.served("bob") == 1 + 2 * 4
    assert desk.dispatcher.in_flight == 1
    desk.end(first)
    desk.assert_nothing_held()


def test_a_stream_is_charged_for_all_that_came_as_soon_as_its_turn_has_come() -> None:
    desk = Shadowed("alice", "bob")
    first, stream = desk.send("alice", "first"), desk.send("bob", "stream")
    usage = Usage(prompt_tokens=1, output_tokens=5, counted_tokens=5, exact=True)
    desk.shadow.first_token(stream)
    stream.first_token_at = desk.clock()
    desk.shadow.charge(stream, usage)
    assert desk.served("bob") == 0
    desk.end(first)
    # Its prefill is long over.
    assert (desk.dispatcher.in_flight, desk.dispatcher.capacity.prefill.used) == (1, 0)
    desk.shadow.charge(stream, usage)
    assert desk.served("bob") == 1 + 2 * 5
    desk.shadow.settle(stream, usage, complete=False)
    assert desk.served("bob") == 1 + 2 * 5
    desk.assert_nothing_held()


def test_who_would_be_refused_is_out_of_the_queue_and_charged_in_the_end() -> None:
    desk = Shadowed("alice", "bob")
    desk.tenants["alice"].max_queued = 1
    first, queued, refused = (desk.send("alice", name) for name in ("first", "queued", "refused"))
    assert desk.waiting() == ["queued"]
    assert refused.would_be is Outcome.TENANT_QUEUE_FULL
    assert desk.tenants["alice"].would_be == {Outcome.TENANT_QUEUE_FULL: 1}
    assert refused in desk.dispatcher.jobs
    desk.end(refused)
    assert desk.served("alice") == COST
    desk.end(first)
    desk.end(queued)
    assert desk.served("alice") == 3 * COST
    desk.assert_nothing_held()


def test_of_a_full_pod_the_one_is_counted_that_would_give_way() -> None:
    desk = Shadowed("alice", "bob")
    # All are over the pod's 100 bytes, and alice has most of what waits.
    jobs = [desk.send("alice", size_bytes=30) for _ in range(3)] + [desk.send("bob", size_bytes=20)]
    assert [job.would_be for job in jobs] == [None, None, Outcome.QUEUE_FULL, None]
    for job in jobs:
        desk.end(job)
    desk.assert_nothing_held()


@pytest.mark.parametrize(("seconds", "outcome"), [(10, None), (10.5, Outcome.QUEUE_TIMEOUT)])
def test_who_would_wait_too_long_is_counted(seconds: float, outcome: Outcome | None) -> None:
    desk = Shadowed("alice")
    first, late = desk.send("alice", "first"), desk.send("alice", "late")
    desk.clock.now_seconds += seconds
    desk.end(first)
    desk.end(late)
    assert late.would_be is outcome
    assert first.would_be is None


def test_what_the_engine_did_nothing_for_is_charged_nothing() -> None:
    desk = Shadowed("alice")
    desk.tenants["alice"].max_queued = 1
    jobs = [desk.send("alice", name) for name in ("in flight", "queued", "refused")]
    for job in jobs:
        desk.shadow.drop(job)
    assert desk.served("alice") == 0
    desk.assert_nothing_held()


def test_a_refused_request_of_a_tenant_that_has_gone_meanwhile_ends_uncharged() -> None:
    desk = Shadowed("alice")
    desk.tenants["alice"].max_queued = 0
    first, refused = desk.send("alice", "first"), desk.send("alice", "refused")
    desk.dispatcher.scheduler.retire(desk.tenants["alice"].node)
    desk.end(first)
    desk.end(refused)
    assert desk.served("alice") == COST
    desk.assert_nothing_held()


def test_enforced_again_all_that_the_engine_has_takes_its_place() -> None:
    desk = Shadowed("alice", "bob")
    desk.tenants["alice"].max_queued = 1
    jobs = [desk.send("alice", f"{number}") for number in range(3)]
    desk.shadow.switch(on=False)
    assert desk.dispatcher.in_flight == 3
    waits = desk.submit("bob", "bob")
    assert desk.queued() == ["bob"]
    for job in jobs[:2]:
        desk.end(job)
    assert waits.scheduled.state is State.QUEUED
    desk.end(jobs[2])
    assert waits.scheduled.state is State.IN_FLIGHT
    assert desk.served("alice") == 3 * COST
    desk.finish(waits)
    desk.assert_nothing_held()
