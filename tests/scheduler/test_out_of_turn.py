"""What the engine has already, whatever the order says."""

import pytest

from fairqueue_proxy.scheduler import MICRO, Prediction, Scheduler, State
from scheduler.scenario import anything_fits, plain_scheduler, send


def test_a_request_started_out_of_turn_is_in_flight_with_its_prediction_reserved() -> None:
    core = Scheduler(prediction=Prediction.MAX_TOKENS, clock=lambda: 0.0)
    alice = core.add_node("alice")
    first, second = send(core, alice), send(core, alice)
    core.start_out_of_turn(second)
    assert (first.state, second.state) == (State.QUEUED, State.IN_FLIGHT)
    assert second.predicted_tokens == second.max_output_tokens > 0
    assert alice.in_flight == core.root.in_flight == 1
    assert alice.reserved == second.cost(second.prompt_tokens, second.max_output_tokens)
    assert core.head() is first
    core.check()


def test_it_is_charged_like_any_other_and_counts_in_the_order() -> None:
    core = plain_scheduler()
    alice, bob = core.add_node("alice"), core.add_node("bob")
    early, late, other = send(core, alice), send(core, alice), send(core, bob)
    core.start_out_of_turn(early)
    core.output(early, 7, exact=True)
    assert core.dispatch(anything_fits) is other
    core.finish(early)
    assert alice.served == early.charged >= 7 * MICRO
    assert core.dispatch(anything_fits) is late
    core.check()


@pytest.mark.parametrize("state", ["in flight", "over"])
def test_only_what_is_queued_can_be_started(state: str) -> None:
    core = plain_scheduler()
    request = send(core, core.add_node("alice"))
    core.start_out_of_turn(request)
    if state == "over":
        core.finish(request)
    with pytest.raises(AssertionError, match=r"^request is .*, not queued$"):
        core.start_out_of_turn(request)
