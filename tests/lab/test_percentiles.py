"""Percentiles of results, which are values that were measured."""

import pytest

from fairqueue_sim.lab.result import percentile


@pytest.mark.parametrize(
    ("count", "share", "rank"),
    [
        (1, 0.5, 1),
        (1, 0.99, 1),
        (2, 0.5, 1),
        (20, 0.5, 10),
        (20, 0.95, 19),
        (20, 0.99, 20),
        (100, 0.9, 90),
        (3, 0.5, 2),
    ],
)
def test_a_percentile_is_the_value_at_its_nearest_rank(count: int, share: float, rank: int) -> None:
    assert percentile([float(number) for number in range(1, count + 1)], share) == rank
