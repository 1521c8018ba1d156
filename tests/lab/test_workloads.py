"""The paper's workloads by their recipe, and our own."""

import io
from collections import Counter

import numpy as np
import pytest

from fairqueue_sim.lab.trace import Arrival, write_trace
from fairqueue_sim.lab.workloads import UnknownWorkloadError, Workload, load_workload, workload_names


def written(arrivals: list[Arrival]) -> str:
    file = io.StringIO()
    write_trace(file, arrivals)
    return file.getvalue()


@pytest.mark.parametrize("name", workload_names())
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name: str) -> None:
    first, again = load_workload(name, 7), load_workload(name, 7)
    assert written(list(first.arrivals)) == written(list(again.arrivals))
    if name != "increase":
        # Its arrivals are not drawn.
        assert written(list(load_workload(name, 8).arrivals)) != written(list(first.arrivals))
    seconds = [arrival.seconds for arrival in first.arrivals]
    assert seconds == sorted(seconds)


def test_evenly_spaced_arrivals_begin_at_the_phases_that_the_artifact_draws() -> None:
    np.random.seed(42)
    phases = [np.random.rand() / 1.5, np.random.rand() / 3]
    arrivals = load_workload("overload").arrivals
    for tenant, (phase, rate) in enumerate(zip(phases, (1.5, 3), strict=True), 1):
        own = [arrival.seconds for arrival in arrivals if arrival.tenant == f"client-{tenant}"]
        assert own == pytest.approx([phase + number / rate for number in range(1, int(rate * 360) + 1)])
    assert {(it.prompt_tokens, it.output_tokens, it.max_tokens) for it in arrivals} == {(256, 256, 256)}


def test_poisson_arrivals_are_those_that_the_artifact_draws() -> None:
    np.random.seed(42)
    second = np.random.rand(5700) > 8 / 9.5
    at = np.cumsum(np.random.gamma(1.0, 1 / 9.5, 5700))
    arrivals = load_workload("poisson_short_long").arrivals
    assert [arrival.seconds for arrival in arrivals] == pytest.approx(at)
    assert [arrival.tenant == "client-2" for arrival in arrivals] == list(second)
    assert {(it.tenant, it.prompt_tokens, it.output_tokens) for it in arrivals} == {
        ("client-1", 64, 64),
        ("client-2", 256, 256),
    }


@pytest.mark.parametrize("name", ["on_off_less", "on_off_overload", "poisson_on_off_overload"])
def test_a_client_that_is_on_and_off_is_silent_in_every_second_minute(name: str) -> None:
    by_minute = Counter((it.tenant, int(it.seconds // 60) % 2) for it in load_workload(name).arrivals)
    assert by_minute["client-1", 0] > 100
    assert not by_minute["client-1", 1]
    assert by_minute["client-2", 1] > 100


def test_a_rate_that_rises_rises() -> None:
    arrivals = load_workload("increase").arrivals
    own = [it.seconds for it in arrivals if it.tenant == "client-2"]
    assert sum(at < 60 for at in own) < 25 < 100 < sum(540 <= at < 600 for at in own)


def test_weights_are_those_of_the_workload() -> None:
    workload = load_workload("weighted")
    assert workload.weights == {"client-1": 1, "client-2": 2, "client-3": 3, "client-4": 4}
    assert workload.tenants == ["client-1", "client-2", "client-3", "client-4"]


def test_the_arena_has_few_large_tenants_and_many_small_ones_with_lengths_as_in_conversations() -> None:
    arrivals = load_workload("arena").arrivals
    sizes = sorted(Counter(it.tenant for it in arrivals).values(), reverse=True)
    assert (len(arrivals), len(sizes), sizes[0], sizes[-1]) == (1500, 27, 296, 1)
    prompts, outputs = ([getattr(it, name) for it in arrivals] for name in ("prompt_tokens", "output_tokens"))
    assert np.mean(prompts) == pytest.approx(136, rel=0.1)
    assert np.mean(outputs) == pytest.approx(256, rel=0.1)
    assert min(prompts) >= 2
    assert max(prompts) <= 1021
    assert max(outputs) <= 977
    assert arrivals[-1].seconds < 600
    assert all(it.max_tokens is None for it in arrivals)


def test_the_noisy_neighbour_sends_fifty_times_as_much_as_each_other() -> None:
    sizes = Counter(it.tenant for it in load_workload("noisy-neighbour").arrivals)
    quiet = [count for tenant, count in sizes.items() if tenant != "noisy"]
    assert len(quiet) == 8
    assert sizes["noisy"] / np.mean(quiet) == pytest.approx(50, rel=0.25)


def test_only_the_first_requests_may_be_taken() -> None:
    whole, part = load_workload("overload"), load_workload("overload", requests=100)
    assert list(part.arrivals) == list(whole.arrivals)[:100]
    assert part.seconds == part.arrivals[-1].seconds


def test_an_unknown_name_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(UnknownWorkloadError, match=r"take one of overload, .*arena"):
        load_workload("overlord")


def test_tenants_are_in_the_order_of_their_numbers_however_long() -> None:
    names = ["t10", "t2", "t" + "9" * 5000, "t", "t02"]
    arrivals = [Arrival(0.0, name, 1, 1) for name in names]
    assert Workload("made up", arrivals, 1.0).tenants == ["t", "t02", "t2", "t10", "t" + "9" * 5000]
