"""What pictures are drawn from: which tenants, and which moments."""

import pytest

from fairqueue_sim.lab.curves import MOMENTS, curves_of, half_window, requests_of, telling_tenants
from fairqueue_sim.lab.trace import Arrival
from fairqueue_sim.lab.workloads import Workload
from lab.compared import compare, many, workload_of


def test_few_tenants_are_all_shown_from_who_asks_for_most_to_who_asks_for_least() -> None:
    workload = workload_of({"b": 2, "a": 3, "c": 9})
    assert telling_tenants(workload) == ["c", "a", "b"]
    assert requests_of(workload) == {"a": 3, "b": 2, "c": 9}


def test_asking_for_most_is_by_tokens_and_not_by_requests() -> None:
    arrivals = [Arrival(0.0, "long", 900, 900), Arrival(0.0, "short", 2, 2), Arrival(0.1, "short", 2, 2)]
    assert telling_tenants(Workload("two", arrivals, 1.0)) == ["long", "short"]


@pytest.mark.parametrize("count", [7, 8, 27, 60])
def test_of_many_the_two_at_each_end_and_some_between_are_shown(count: int) -> None:
    workload = workload_of({f"tenant-{number}": count + 1 - number for number in range(1, count + 1)})
    places = [int(name.removeprefix("tenant-")) for name in telling_tenants(workload)]
    assert places[:2] == [1, 2]
    assert places[-2:] == [count - 1, count]
    assert len(places) == 6
    assert places == sorted(set(places))


def test_rates_and_waits_are_of_a_minute_or_of_a_tenth_of_what_is_shorter() -> None:
    short = compare(workload_of({"a": 10}), ["fcfs"])
    [(_, run)] = short
    assert half_window([run]) == run.course.ended_at / 20
    run.course.ended_at = 5000.0
    assert half_window([run]) == 30
    assert half_window([]) == 0


def test_all_moments_are_between_the_start_and_the_last_reply() -> None:
    # The figures leave out what ends within the first second.
    workload = workload_of({"a": 10, "b": 1}, seconds=20)
    [(_, run)] = compare(workload, ["vtc"])
    end = run.course.ended_at
    whole, part = curves_of(run, 2.5, 99.0), curves_of(run, 2.5, end / 2)
    assert (whole.seconds[0], whole.seconds[-1], part.seconds[-1]) == (0, end, end / 2)
    assert whole.served.shape == whole.rates.shape == whole.waits.shape == (MOMENTS, 2)
    # What was served by the end is what was asked for.
    assert whole.served[-1] == pytest.approx([10 * 70, 70])
    # No rate is thinned by time before the start.
    assert whole.rates[0].any()
    assert whole.rates[0] == pytest.approx(run.series.service(0, 2.5) / 2.5)


def test_a_run_without_replies_has_no_moments() -> None:
    [(_, run)] = compare(many(3), ["vtc"], kv_tokens=16)
    curves = curves_of(run, 0.1, 9.0)
    assert len(curves.seconds) == 0
    assert curves.served.shape == curves.waits.shape == (0, 3)
