"""The verdict on pairs: their order, the median with its interval, when it is met, when more of them are measured."""

import pytest

from socket_bench.ratios import Ratio, median_ratio, more_pairs_help, order_of, percentile


def test_each_half_comes_first_in_every_second_pair() -> None:
    assert [order_of(pair)[0] for pair in range(4)] == ["direct", "proxied", "direct", "proxied"]
    assert set(order_of(0)) == set(order_of(1))


def test_the_interval_is_around_the_median_and_the_same_each_time() -> None:
    ratios = [0.97, 0.98, 0.985, 0.99, 0.99, 0.995, 1.0, 1.0, 1.01, 1.03]
    ratio = median_ratio(ratios)
    assert ratio.median == pytest.approx(0.9925)
    assert ratio.low < ratio.median < ratio.high
    assert min(ratios) <= ratio.low
    assert ratio.high <= max(ratios)
    assert median_ratio(ratios) == ratio


def test_the_interval_of_equal_ratios_has_no_width() -> None:
    assert median_ratio([0.99] * 10) == Ratio(0.99, 0.99, 0.99)


@pytest.mark.parametrize(
    ("ratio", "met"),
    [
        pytest.param(Ratio(0.98, 0.90, 1.1), True, id="the median is enough, however wide"),
        pytest.param(Ratio(0.975, 0.96, 0.985), True, id="narrow, and contains the goal"),
        pytest.param(Ratio(0.975, 0.94, 1.0), False, id="contains the goal, but is wide"),
        pytest.param(Ratio(0.97, 0.965, 0.975), False, id="narrow, and below the goal"),
    ],
)
def test_the_goal_is_met_by_the_median_or_by_a_narrow_interval_that_contains_it(ratio: Ratio, met: bool) -> None:
    assert ratio.met is met


@pytest.mark.parametrize(
    ("ratios", "more"),
    [
        pytest.param([], True, id="none yet"),
        pytest.param([1.0] * 9, True, id="fewer than asked for"),
        pytest.param([1.0] * 10, False, id="enough, and the goal is met"),
        pytest.param([0.9] * 10, False, id="enough, and certainly missed"),
        pytest.param([0.9, 1.05] * 5, True, id="missed, but not sharp"),
        pytest.param([0.8, 0.9] * 10, False, id="not sharp, but no more allowed"),
    ],
)
def test_more_pairs_are_measured_while_they_can_change_the_verdict(ratios: list[float], more: bool) -> None:
    assert more_pairs_help(ratios, 10, 20) is more


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile(list(range(1, 101)), 0.95) == 95
    assert percentile([3], 0.95) == 3
    assert percentile([], 0.95) == 0
