"""The figures of fairness, against their definitions worked out by hand or by plain loops."""

import random

import numpy as np
import pytest

from fairqueue_sim.lab.fate import Fate
from fairqueue_sim.lab.metrics import Series, jain, service_difference, windows
from fairqueue_sim.lab.trace import Arrival


def fate(
    tenant: str,
    arrived: float,
    first: float,
    ended: float,
    prompt: int = 0,
    output: int = 50,
    started: float | None = None,
) -> Fate:
    begun = first if started is None else started
    return Fate(Arrival(arrived, tenant, prompt, output), started_at=begun, first_token_at=first, ended_at=ended)


def random_fates(seed: int, count: int = 300) -> list[Fate]:
    source = random.Random(seed)
    fates = []
    for arrived in sorted(source.uniform(0, 600) for _ in range(count)):
        first = arrived + source.expovariate(0.1)
        lasts = source.choice([0.0, 1e-6, source.uniform(1, 40)])
        fates.append(
            fate(source.choice("abc"), arrived, first, first + lasts, source.randint(1, 500), source.randint(1, 500))
        )
    fates.append(Fate(Arrival(600, "a", 10, 10), refused="rate"))
    return fates


def test_service_is_spread_evenly_over_decoding_prompts_included() -> None:
    series = Series([fate("a", 0, 10, 20, prompt=100, output=50)], ["a", "b"], {})
    assert list(series.service(0, 15)) == [100, 0]
    assert list(series.service(12, 14)) == [40, 0]
    assert list(series.service(20, 90)) == [0, 0]


def test_service_and_demand_are_divided_by_weight() -> None:
    series = Series([fate("a", 0, 10, 20), fate("b", 1, 10, 20)], ["a", "b"], {"b": 4})
    assert list(series.service(0, 99)) == [100, 25]
    assert list(series.service(0, 99, per_weight=False)) == [100, 100]
    assert list(series.demand(0.5, 99)) == [0, 25]


@pytest.mark.parametrize("seed", range(5))
def test_the_difference_is_that_of_the_papers_formula(seed: int) -> None:
    """D(x) = sum over j of min(max_i s_i - s_j, |d_j - s_j|), at 19 points of ten minutes after a warm-up."""
    fates, weights = random_fates(seed), {"a": 1, "b": 3, "c": 2}
    differences = []
    for number in range(1, 20):
        left, right = 28.5 * number, 28.5 * number + 60
        served, wanted = dict.fromkeys("abc", 0.0), dict.fromkeys("abc", 0.0)
        for it in fates:
            if it.first_token_at is None or it.ended_at is None:
                continue
            tenant, cost = it.arrival.tenant, it.arrival.prompt_tokens + 2 * it.arrival.output_tokens
            if left <= it.arrival.seconds <= right:
                wanted[tenant] += cost / weights[tenant] / 60
            lasted = it.ended_at - it.first_token_at
            if lasted >= 1e-5 and it.ended_at >= 1:
                inside = max(min(right, it.ended_at) - max(left, it.first_token_at), 0)
                served[tenant] += cost * inside / lasted / weights[tenant] / 60
        most = max(served.values())
        differences.append(sum(min(most - served[it], abs(wanted[it] - served[it])) for it in "abc"))
    found = service_difference(Series(fates, list("abc"), weights), 600)
    assert (found.max, found.avg, found.var) == pytest.approx(
        (max(differences), np.mean(differences), np.var(differences))
    )


def test_windows_are_a_minute_long_or_shorter_where_all_is_short() -> None:
    assert windows(600)[0] == (28.5, 88.5)
    assert windows(600)[-1] == (541.5, 601.5)
    assert len(windows(900)) == 19
    assert windows(900)[-1][1] - windows(900)[-1][0] == 60
    assert windows(360)[0] == (16.5, 76.5)
    start, end = windows(100)[-1]
    assert end - start == 20
    assert end <= 110


def test_who_waits_at_every_moment_is_backlogged() -> None:
    fates = [
        fate("steady", 0, 40, 50, started=35),
        fate("steady", 30, 90, 99, started=80),
        fate("pauses", 0, 20, 30, started=10),
        fate("pauses", 50, 99, 120, started=90),
        fate("late", 30, 99, 120, started=90),
        fate("ends", 0, 40, 50, started=35),
    ]
    series = Series(fates, ["steady", "pauses", "late", "ends", "never"], {})
    assert list(series.backlogged(5, 70)) == [True, False, False, False, False]
    assert list(series.backlogged(31, 34)) == [True, False, True, True, False]
    assert list(series.backlogged(60, 70)) == [True, True, True, False, False]


def test_jain_is_of_those_who_always_wait() -> None:
    def at_rate(tenant: str, cost: int) -> list[Fate]:
        # All have come at the beginning, and each second one is served.
        return [fate(tenant, 0, second, second + 1, output=cost) for second in range(700)]

    even = Series([*at_rate("a", 10), *at_rate("b", 10), fate("c", 0, 1, 2, output=999)], ["a", "b", "c"], {})
    assert jain(even, 600) == pytest.approx(1)
    uneven = Series([*at_rate("a", 10), *at_rate("b", 30)], ["a", "b"], {})
    assert jain(uneven, 600) == pytest.approx(40**2 / (2 * (10**2 + 30**2)))
    weighted = Series([*at_rate("a", 10), *at_rate("b", 30)], ["a", "b"], {"b": 3})
    assert jain(weighted, 600) == pytest.approx(1)
    assert jain(Series(at_rate("a", 10), ["a", "b"], {}), 600) is None


def test_mean_times_to_first_token_are_of_first_tokens_in_the_span() -> None:
    series = Series([fate("a", 0, 10, 20), fate("a", 6, 20, 30), fate("a", 0, 31, 40)], ["a", "b"], {})
    means = series.mean_ttft(5, 30)
    assert means[0] == 12
    assert np.isnan(means[1])
