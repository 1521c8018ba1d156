"""Length prediction: what is reserved for output not yet seen (VTC, OSDI '24, Algorithm 3)."""

import pytest

from fairqueue_proxy.scheduler import Prediction, Request, Scheduler
from fairqueue_proxy.scheduler.prediction import FIRST_GUESS_TOKENS, POD_SAMPLES, RecentMean, predict
from scheduler.scenario import Clock, send, serve, start_next


def mean_of(*samples: int, size: int = 5) -> RecentMean:
    recent = RecentMean(size)
    for sample in samples:
        recent.add(sample)
    return recent


def learning_scheduler() -> Scheduler:
    return Scheduler(prediction=Prediction.MEAN, clock=Clock())


def test_no_sample_has_no_mean() -> None:
    assert mean_of().mean is None


def test_a_mean_between_two_tokens_is_rounded_up() -> None:
    assert mean_of(1, 2).mean == 2


def test_only_the_last_samples_count() -> None:
    assert mean_of(1000, 1, 2, 3, size=3).mean == 2


def test_samples_of_nothing_have_the_mean_nothing() -> None:
    assert mean_of(0, 0).mean == 0


@pytest.mark.parametrize(
    ("tenant", "pod", "guess"),
    [
        pytest.param(mean_of(30), mean_of(90), 30, id="the tenant's mean"),
        pytest.param(mean_of(), mean_of(90), 90, id="else the pod's"),
        pytest.param(mean_of(), mean_of(), FIRST_GUESS_TOKENS, id="else a first guess"),
        pytest.param(mean_of(0), mean_of(90), 0, id="a mean of zero is a mean"),
    ],
)
def test_the_guess_comes_from_the_nearest_that_has_one(tenant: RecentMean, pod: RecentMean, guess: int) -> None:
    assert predict(Prediction.MEAN, tenant, pod, 1000) == guess
    assert predict(Prediction.MEAN, tenant, pod, None) == guess


def test_the_guess_is_capped_by_the_longest_possible_output() -> None:
    assert predict(Prediction.MEAN, mean_of(30), mean_of(), 20) == 20


def test_the_longest_possible_output_can_be_the_guess() -> None:
    assert predict(Prediction.MAX_TOKENS, mean_of(30), mean_of(), 70) == 70


def test_without_a_longest_output_the_mean_is_the_guess() -> None:
    assert predict(Prediction.MAX_TOKENS, mean_of(30), mean_of(), None) == 30


def test_plain_vtc_guesses_nothing() -> None:
    assert predict(Prediction.NONE, mean_of(30), mean_of(90), 70) == 0


def test_the_first_guess_is_256_tokens() -> None:
    core = learning_scheduler()
    send(core, core.add_node("a"), longest=1000)
    assert start_next(core).predicted_tokens == 256


def test_whether_a_request_fits_is_asked_with_its_prediction() -> None:
    """Engines need room for what is to come, and what that is may have changed while it was queued."""
    core = learning_scheduler()
    tenant = core.add_node("a")
    asked: list[int] = []

    def fits(request: Request) -> bool:
        asked.append(request.predicted_tokens)
        return False

    send(core, tenant, longest=10_000)
    assert core.dispatch(fits) is None
    send(core, tenant, longest=10_000)
    serve(core, start_next(core), 40)
    assert core.dispatch(fits) is None
    assert asked == [256, 40]


def test_a_tenant_is_known_by_its_last_five_outputs() -> None:
    core = learning_scheduler()
    tenant = core.add_node("a")
    for output in (900, 10, 20, 30, 40, 51):
        send(core, tenant, longest=1000)
        serve(core, start_next(core), output)
    send(core, tenant, longest=1000)
    assert start_next(core).predicted_tokens == 31


def test_a_new_tenant_is_taken_to_be_like_the_last_hundred_outputs_of_the_pod() -> None:
    core = learning_scheduler()
    teacher, newcomer = core.add_node("teacher"), core.add_node("newcomer")
    for output in (1_000_000, *([40] * POD_SAMPLES)):
        send(core, teacher, longest=2_000_000)
        serve(core, start_next(core), output)
    send(core, newcomer, longest=1000)
    assert POD_SAMPLES == 100
    assert start_next(core).predicted_tokens == 40


def test_a_hang_up_teaches_nothing() -> None:
    core = learning_scheduler()
    tenant = core.add_node("a")
    send(core, tenant)
    serve(core, start_next(core), 60)
    send(core, tenant)
    cut = start_next(core)
    core.output(cut, 2, exact=True)
    core.finish(cut, complete=False)
    send(core, tenant)
    assert start_next(core).predicted_tokens == 60
    send(core, core.add_node("b"))
    assert start_next(core).predicted_tokens == 60


def test_each_sequence_of_a_request_is_expected_to_be_of_the_mean_length() -> None:
    core = learning_scheduler()
    tenant = core.add_node("a")
    send(core, tenant, longest=1000, sequences=4)
    serve(core, start_next(core), 81)
    send(core, tenant, longest=1000, sequences=2)
    assert start_next(core).predicted_tokens == 2 * 21


def test_no_sequence_is_expected_to_be_longer_than_its_part_of_the_whole() -> None:
    core = learning_scheduler()
    send(core, core.add_node("a"), longest=200, sequences=4)
    assert start_next(core).predicted_tokens == 200
    send(core, core.add_node("b"), longest=10, sequences=4)
    assert start_next(core).predicted_tokens == 10


def test_users_of_a_tenant_share_what_is_known_of_its_outputs() -> None:
    core = learning_scheduler()
    tenant = core.add_node("a")
    send(core, core.add_node("first", tenant, transient=True), longest=1000)
    serve(core, start_next(core), 30)
    send(core, core.add_node("elsewhere"), longest=1000)
    serve(core, start_next(core), 900)
    send(core, core.add_node("second", tenant, transient=True), longest=1000)
    assert start_next(core).predicted_tokens == 30
