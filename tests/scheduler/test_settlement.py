"""From reservation to charge: what a request costs its tenant at each moment, and in the end."""

import pytest

from fairqueue_proxy.scheduler import Cost, Node, Prediction, Request, Scheduler
from scheduler.scenario import Clock, plain_scheduler, send, serve, start_next


def predicting(cost: Cost | None = None) -> tuple[Scheduler, Node]:
    """A scheduler that reserves each request's longest output, and its only tenant."""
    core = Scheduler(cost, prediction=Prediction.MAX_TOKENS, clock=Clock())
    return core, core.add_node("a")


def started(core: Scheduler, leaf: Node, prompt: int = 10, longest: int = 100, *, exact: bool = True) -> Request:
    request = Request(leaf, prompt, longest, prompt_exact=exact)
    core.enqueue(request)
    return start_next(core)


def account(node: Node) -> tuple[float, float]:
    """What is settled, and what is reserved on top."""
    return node.settled, node.key - node.settled


def test_a_queued_request_costs_nothing_yet() -> None:
    core, tenant = predicting()
    send(core, tenant)
    assert account(tenant) == (0.0, 0.0)


def test_dispatch_reserves_the_prompt_and_the_expected_output() -> None:
    core, tenant = predicting()
    started(core, tenant)
    assert account(tenant) == (0.0, 210.0)


def test_the_default_prediction_is_the_mean() -> None:
    core = Scheduler(clock=Clock())
    tenant = core.add_node("a")
    serve(core, started(core, tenant), 20)
    started(core, tenant)
    assert tenant.key - tenant.settled == 10 + 2 * 20


def test_the_default_cost_is_the_papers() -> None:
    core = plain_scheduler()
    tenant = core.add_node("a")
    serve(core, started(core, tenant), 20)
    assert tenant.settled == 10 + 2 * 20


def test_a_configured_cost_is_used() -> None:
    core, tenant = predicting(Cost(input_token=3, output_token=0, request=1))
    serve(core, started(core, tenant), 20)
    assert tenant.settled == 31.0


def test_a_request_that_the_engine_took_is_charged_its_prompt() -> None:
    core, tenant = predicting()
    core.confirm(started(core, tenant))
    assert account(tenant) == (10.0, 200.0)


def test_an_estimated_prompt_stays_a_reservation() -> None:
    core, tenant = predicting(Cost(request=5))
    core.confirm(started(core, tenant, exact=False))
    assert account(tenant) == (5.0, 210.0)


def test_counted_tokens_turn_reservation_into_charge() -> None:
    core, tenant = predicting()
    request = started(core, tenant)
    for tokens in (1, 2, 50):
        core.output(request, tokens, exact=True)
        assert account(tenant) == (10.0 + 2 * tokens, 200.0 - 2 * tokens)


def test_the_key_does_not_move_while_a_reservation_turns_into_a_charge() -> None:
    core = Scheduler(prediction=Prediction.MAX_TOKENS, clock=Clock())
    tenant = core.add_node("a", weight=7)
    request = started(core, tenant)
    keys = {tenant.key}
    for tokens in range(100):
        core.output(request, tokens, exact=True)
        keys.add(tenant.key)
    assert keys == {30.0}


def test_tokens_beyond_the_expected_output_add_to_the_key() -> None:
    core, tenant = predicting()
    request = started(core, tenant, longest=5)
    core.output(request, 8, exact=True)
    assert account(tenant) == (26.0, 0.0)


def test_guessed_tokens_stay_a_reservation() -> None:
    core, tenant = predicting()
    request = started(core, tenant, longest=5)
    core.output(request, 3, exact=False)
    assert account(tenant) == (0.0, 20.0)
    core.output(request, 8, exact=False)
    assert account(tenant) == (0.0, 26.0)


def test_guessed_tokens_are_charged_at_the_end() -> None:
    core, tenant = predicting()
    request = started(core, tenant)
    core.output(request, 8, exact=False)
    core.finish(request)
    assert account(tenant) == (26.0, 0.0)


def test_an_estimated_prompt_is_charged_at_the_end() -> None:
    core, tenant = predicting()
    core.finish(started(core, tenant, exact=False))
    assert account(tenant) == (10.0, 0.0)


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "cut short"])
def test_at_the_end_the_rest_of_the_reservation_is_dropped(complete: bool) -> None:
    core, tenant = predicting()
    request = started(core, tenant)
    core.output(request, 30, exact=True)
    core.finish(request, complete=complete)
    assert account(tenant) == (70.0, 0.0)
    assert tenant.served == 70_000_000


def test_a_refund_at_the_end_puts_a_backlogged_tenant_first() -> None:
    core = Scheduler(prediction=Prediction.MAX_TOKENS, clock=Clock())
    first, second = core.add_node("first"), core.add_node("second")
    send(core, first, longest=500)
    for leaf in (second, second, first):
        send(core, leaf)
    long = start_next(core)
    assert (long.leaf, start_next(core).leaf) == (first, second)
    assert core.head() is second.head
    serve(core, long, 1)
    assert core.head() is first.head


def test_a_smaller_prompt_than_estimated_is_refunded() -> None:
    core, tenant = predicting()
    request = started(core, tenant, prompt=90, exact=False)
    core.prompt(request, 60)
    assert account(tenant) == (60.0, 200.0)


def test_a_larger_prompt_than_estimated_is_charged() -> None:
    core, tenant = predicting()
    request = started(core, tenant, prompt=30, exact=False)
    core.prompt(request, 60)
    assert account(tenant) == (60.0, 200.0)


def test_a_prompt_is_cheaper_for_what_the_engine_had_cached() -> None:
    core, tenant = predicting(Cost(cached_input_percent=25))
    request = started(core, tenant, prompt=100, exact=False)
    core.prompt(request, 100, cached_tokens=80)
    assert account(tenant) == (40.0, 200.0)
    core.output(request, 5, exact=True)
    assert account(tenant) == (50.0, 190.0)


@pytest.mark.parametrize("exact", [True, False], ids=["token ids", "text"])
def test_a_prompt_that_may_have_been_cached_is_charged_in_full_only_when_it_is_known_not_to_be(exact: bool) -> None:
    core, tenant = predicting(Cost(cached_input_percent=10))
    request = started(core, tenant, prompt=1000, exact=exact)
    core.confirm(request)
    core.output(request, 1, exact=True)
    assert account(tenant) == (100.0 * exact + 2, 1200.0 - (100.0 * exact + 2))
    core.prompt(request, 1000, cached_tokens=900)
    assert account(tenant) == (192.0, 198.0)
    core.finish(request)
    assert account(tenant) == (192.0, 0.0)


@pytest.mark.parametrize("exact", [True, False], ids=["token ids", "text"])
def test_a_prompt_of_whose_cached_part_the_engine_never_told_is_charged_in_full_at_the_end(exact: bool) -> None:
    core, tenant = predicting(Cost(cached_input_percent=0))
    request = started(core, tenant, prompt=1000, exact=exact)
    core.output(request, 1, exact=True)
    assert account(tenant) == (2.0, 1198.0)
    core.finish(request)
    assert account(tenant) == (1002.0, 0.0)


def test_without_word_of_a_cache_the_whole_prompt_is_charged() -> None:
    core, tenant = predicting(Cost(cached_input_percent=0))
    core.prompt(started(core, tenant, prompt=100, exact=False), 100)
    assert tenant.settled == 100.0


def test_what_is_charged_is_never_taken_back() -> None:
    core, tenant = predicting()
    request = started(core, tenant)
    core.output(request, 40, exact=True)
    core.prompt(request, 2)
    core.output(request, 3, exact=True)
    core.finish(request)
    assert account(tenant) == (90.0, 0.0)


@pytest.mark.parametrize("steps", [[30], [1, 2, 3, 30], [10, 10, 20, 30]])
@pytest.mark.parametrize("exact", [True, False])
def test_charges_add_up_to_the_cost_of_the_whole_whatever_the_steps(steps: list[int], exact: bool) -> None:
    cost = Cost(request=3, input_output_per_million=777, output_output_per_million=333)
    core, tenant = predicting(cost)
    request = started(core, tenant, prompt=17, exact=exact)
    for tokens in steps:
        core.output(request, tokens, exact=exact)
    core.finish(request)
    assert tenant.served == cost(17, 30)


def test_the_mean_of_what_sequences_made_is_learned_at_the_end() -> None:
    core = plain_scheduler()
    tenant = core.add_node("a")
    request = send(core, tenant, sequences=2)
    serve(core, start_next(core), 7)
    assert tenant.outputs.mean == 4
    assert request.charged == (10 + 2 * 7) * 1_000_000


@pytest.mark.parametrize("way_out", ["drop", "requeue"])
def test_a_request_that_the_engine_did_not_take_costs_nothing(way_out: str) -> None:
    core, tenant = predicting()
    request = started(core, tenant)
    core.output(request, 3, exact=False)
    getattr(core, way_out)(request)
    core.check()
    assert account(tenant) == (0.0, 0.0)
    assert (tenant.in_flight, core.root.in_flight, tenant.worst, core.root.worst) == (0, 0, 0, 0)


def test_a_dropped_request_does_not_go_again() -> None:
    core, tenant = predicting()
    core.drop(started(core, tenant))
    assert core.head() is None


def test_a_requeued_request_goes_before_those_that_came_after_it() -> None:
    core, tenant = predicting()
    requests = [send(core, tenant) for _ in range(5)]
    first, second, third = (start_next(core) for _ in range(3))
    for request in (second, first, third):
        core.requeue(request)
        core.check()
    assert [start_next(core) for _ in requests] == requests


def test_a_requeued_request_starts_over() -> None:
    core, tenant = predicting()
    request = started(core, tenant, longest=20)
    core.output(request, 70, exact=False)
    core.requeue(request)
    assert (request.output_tokens, request.predicted_tokens) == (0, 0)
    assert start_next(core) is request
    assert account(tenant) == (0.0, 50.0)
    serve(core, request, 5)
    assert account(tenant) == (20.0, 0.0)


@pytest.mark.parametrize("way_out", ["drop", "requeue"])
def test_what_the_engine_took_cannot_be_undone(way_out: str) -> None:
    core, tenant = predicting()
    request = started(core, tenant)
    core.confirm(request)
    with pytest.raises(AssertionError, match=r"^a request that the engine took can't be undone$"):
        getattr(core, way_out)(request)
    assert tenant.in_flight == 1


def test_word_from_the_engine_confirms_a_request() -> None:
    core, tenant = predicting()
    heard_of = [started(core, tenant) for _ in range(2)]
    core.prompt(heard_of[0], 10)
    core.output(heard_of[1], 1, exact=True)
    for request in heard_of:
        assert request.confirmed
        with pytest.raises(AssertionError):
            core.requeue(request)


def test_a_request_in_flight_takes_a_slot_of_each_node_on_its_path_until_it_ends() -> None:
    core = plain_scheduler()
    group = core.add_node("group")
    user = core.add_node("user", core.add_node("tenant", group))
    request = send(core, user, sequences=3)
    assert group.in_flight == 0
    start_next(core)
    assert [node.in_flight for node in (*request.path, core.root)] == [3, 3, 3, 3]
    core.finish(request)
    assert [node.in_flight for node in (*request.path, core.root)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("method", "state"),
    [
        ("enqueue", "queued"),
        ("enqueue", "in flight"),
        ("enqueue", "ended"),
        ("cancel", "new"),
        ("cancel", "in flight"),
        ("cancel", "ended"),
        *(
            (method, state)
            for method in ("confirm", "finish", "drop", "requeue")
            for state in ("new", "queued", "ended")
        ),
    ],
)
def test_a_step_out_of_turn_is_refused(method: str, state: str) -> None:
    core, tenant = predicting()
    request = Request(tenant, 10, 100)
    if state != "new":
        core.enqueue(request)
    if state in ("in flight", "ended"):
        start_next(core)
    if state == "ended":
        core.finish(request)
    with pytest.raises(AssertionError, match=rf"^request is {state}, not (new|queued|in flight)$"):
        getattr(core, method)(request)
    core.check()


@pytest.mark.parametrize("state", ["queued", "ended"])
def test_tokens_are_counted_only_in_flight(state: str) -> None:
    core, tenant = predicting()
    request = send(core, tenant)
    if state == "ended":
        serve(core, start_next(core))
    with pytest.raises(AssertionError, match=f"^request is {state}, not in flight$"):
        core.output(request, 1, exact=True)
    with pytest.raises(AssertionError, match=f"^request is {state}, not in flight$"):
        core.prompt(request, 1)


def test_what_is_held_and_charged_counts_each_sequence() -> None:
    cost = Cost(request=5, output_output_per_million=9000)
    core, tenant = predicting(cost)
    send(core, tenant, sequences=2)
    request = start_next(core)
    assert request.held == cost(10, 100, sequences=2)
    core.output(request, 40, exact=True)
    assert request.charged == cost(10, 40, sequences=2)


def test_the_longest_output_is_what_is_expected_however_short_earlier_ones_were() -> None:
    core, tenant = predicting()
    serve(core, started(core, tenant), 3)
    assert started(core, tenant, longest=900).predicted_tokens == 900
