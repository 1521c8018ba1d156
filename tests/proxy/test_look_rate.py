"""How often the engine is looked at."""

import pytest

from fairqueue_proxy.look_rate import IDLE_SECONDS, LookRate


def rate_of(*answers_seconds: float, shortest_seconds: float = 0.5) -> LookRate:
    rate = LookRate()
    rate.shortest_seconds = shortest_seconds
    for seconds in answers_seconds:
        rate.answered(seconds)
    return rate


@pytest.mark.parametrize(
    ("answers_seconds", "busy_seconds", "idle_seconds"),
    [
        pytest.param([], 0.5, IDLE_SECONDS, id="never answered"),
        pytest.param([0.001], 0.5, IDLE_SECONDS, id="quick: as often as the policy allows"),
        pytest.param([0.02], 2.0, IDLE_SECONDS, id="slow: a hundred times as long"),
        pytest.param([0.1], 10.0, 10.0, id="slower than idle"),
        pytest.param([2.0], 30.0, 30.0, id="very slow: not for ever"),
    ],
)
def test_the_pause_is_a_hundred_answers_between_two_bounds(
    answers_seconds: list[float], busy_seconds: float, idle_seconds: float
) -> None:
    rate = rate_of(*answers_seconds)
    assert rate.pause_seconds(busy=True) == pytest.approx(busy_seconds)
    assert rate.pause_seconds(busy=False) == pytest.approx(idle_seconds)


def test_one_slow_answer_among_quick_ones_does_not_count_in_full_and_is_forgotten() -> None:
    rate = rate_of(0.01, 0.01, 0.2)
    assert 5 < rate.pause_seconds(busy=True) < 15
    for _ in range(8):
        rate.answered(0.01)
    assert rate.pause_seconds(busy=True) == pytest.approx(1.0, rel=0.1)


def test_an_interval_of_the_policy_longer_than_all_bounds_stands() -> None:
    rate = rate_of(2.0, shortest_seconds=60.0)
    assert rate.pause_seconds(busy=True) == rate.pause_seconds(busy=False) == 60.0
