"""Whole simulations: nothing is lost, time goes forward, and the product decides as it would token by token."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from examples import at_most
from fairqueue_api import AnonymousSettings, Document
from fairqueue_sim import load_profile
from fairqueue_sim.lab.engines import LabEngine, RulesName
from fairqueue_sim.lab.experiment import Experiment, Run, run_scheduler
from fairqueue_sim.lab.outside import Outside
from fairqueue_sim.lab.policies import open_policy
from fairqueue_sim.lab.simulation import Clock, simulate
from fairqueue_sim.lab.trace import Arrival
from fairqueue_sim.lab.workloads import Workload

RULES: list[RulesName] = ["lightllm", "tgi", "vllm", "sglang"]
SCHEDULERS = ["fcfs", "rpm:3", "lcf", "round-robin", "drr", "vtc", "vtc-predict", "vtc-oracle", "fairqueue"]
# Each scheduler, and the product under all rules; `make test-long` has every pair.
PAIRS = [
    pytest.param(scheduler, rules, marks=() if scheduler == "fairqueue" or rules == "lightllm" else pytest.mark.long)
    for scheduler in SCHEDULERS
    for rules in RULES
]


def workload(arrivals: Sequence[Arrival], **weights: int) -> Workload:
    return Workload("made up", arrivals, max(arrivals[-1].seconds, 1.0), weights)


def crowd(seed: int, count: int = 60, tenants: int = 4, seconds: float = 20.0) -> list[Arrival]:
    source = Random(seed)
    times = sorted(source.uniform(0, seconds) for _ in range(count))
    arrivals = []
    for at in times:
        output = source.randint(1, 200)
        most = source.choice([None, output, output + 50])
        arrivals.append(Arrival(at, f"t{source.randrange(tenants)}", source.randint(1, 300), output, max_tokens=most))
    return arrivals


def engine(rules: RulesName = "lightllm", kv_tokens: int = 3000, slots: int | None = None) -> LabEngine:
    return LabEngine(load_profile("a10g-llama2-7b"), rules, kv_tokens, slots)


def run(arrivals: Sequence[Arrival], scheduler: str, document: Document | None = None, **options: object) -> Run:
    return run_scheduler(Experiment(workload(arrivals), engine(**options)), scheduler, document=document)  # type: ignore[arg-type]


@pytest.mark.parametrize(("scheduler", "rules"), PAIRS)
def test_every_request_is_served_in_full_or_refused_and_time_goes_forward(scheduler: str, rules: RulesName) -> None:
    arrivals = crowd(seed=3)
    course = run(arrivals, scheduler, rules=rules).course
    assert [fate.arrival for fate in course.fates] == arrivals
    for fate in course.fates:
        if fate.refused is not None:
            assert scheduler == "rpm:3"
            assert fate.started_at is fate.ended_at is None
            continue
        started, first, ended = fate.started_at, fate.first_token_at, fate.ended_at
        assert started is not None
        assert first is not None
        assert ended is not None
        assert fate.arrival.seconds <= started <= first <= ended <= course.ended_at


@pytest.mark.parametrize("scheduler", ["vtc", "fairqueue", "drr"])
def test_requests_of_one_tenant_are_begun_in_the_order_in_which_they_came(scheduler: str) -> None:
    course = run(crowd(seed=5), scheduler).course
    for tenant in ("t0", "t1", "t2", "t3"):
        started = [fate.started_at for fate in course.fates if fate.arrival.tenant == tenant]
        assert started == sorted(started, key=lambda at: at or 0)


def test_the_same_experiment_gives_the_same_bytes() -> None:
    arrivals = crowd(seed=1)
    for scheduler in ("vtc-oracle:50", "fairqueue"):
        first, again = run(arrivals, scheduler), run(arrivals, scheduler)
        assert first.course.fates is not again.course.fates
        assert first.result == again.result


def test_a_request_that_no_engine_could_hold_is_refused_by_all() -> None:
    arrivals = [Arrival(0, "a", 10, 10), Arrival(1, "a", 2900, 500), Arrival(2, "a", 10, 10)]
    for scheduler in ("fcfs", "fairqueue"):
        found = [fate.refused for fate in run(arrivals, scheduler).course.fates]
        assert found == [None, "too_large", None]


def test_what_comes_all_at_once_is_judged_until_its_last_reply() -> None:
    arrivals = [Arrival(0.0, f"t{number % 3}", 100, 100) for number in range(300)]
    made = run(arrivals, "fcfs")
    result = made.result
    assert result.service_difference is not None
    assert result.service_difference.avg < 0.1 * 300 * 300 / made.course.ended_at
    assert result.jain_index == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("scheduler", ["fcfs", "vtc-predict", "fairqueue"])
@pytest.mark.parametrize("rules", RULES)
def test_of_embeddings_the_prompt_is_read_and_nothing_made(scheduler: str, rules: RulesName) -> None:
    arrivals = [Arrival(0.0, "a", 500, 0, max_tokens=1, outcome="completed"), Arrival(0.0, "a", 10, 5)]
    course = run(arrivals, scheduler, rules=rules).course
    first, second = course.fates
    assert first.refused is second.refused is None
    assert first.ended_at == first.first_token_at
    assert second.ended_at == course.ended_at


def outside(arrivals: Sequence[Arrival], document: Document, *, each_step: bool) -> list[tuple[object, ...]]:
    """What became of each, charged lazily or with each step."""
    made, clock = engine(), Clock()
    batch = made.batch()
    front = Outside(document, made.report(), batch, clock, 0)
    front._metered_by_time = each_step
    course = simulate(arrivals, batch, front, clock)
    return [(fate.started_at, fate.first_token_at, fate.ended_at, fate.refused) for fate in course.fates]


@at_most(5)
@given(seed=st.integers(0, 2**32), weight=st.integers(1, 4))
def test_charging_only_when_something_is_decided_decides_the_same(seed: int, weight: int) -> None:
    arrivals = crowd(seed, count=20, seconds=5)
    document = open_policy("OpenAI", ["t0", "t1", "t2", "t3"], {"t1": weight})
    lazily, each_step = (outside(arrivals, document, each_step=each) for each in (False, True))
    assert lazily == each_step


@at_most(5)
@given(seed=st.integers(0, 2**32))
def test_the_gap_is_never_above_its_bound(seed: int) -> None:
    for scheduler in ("fairqueue", "vtc"):
        made = Workload("made up", crowd(seed, count=20, seconds=5), 5.0, {"t1": 3, "t2": 2})
        gap = run_scheduler(Experiment(made, engine(RULES[seed % 4])), scheduler).course.gap
        assert gap is not None
        assert scheduler == "vtc" or gap.looks > 0
        assert not gap.violations, f"{scheduler}: {gap}"


@pytest.mark.parametrize("scheduler", ["fairqueue", "vtc", "vtc-predict"])
def test_the_bound_is_by_the_lightest_of_all_also_where_few_have_a_weight(scheduler: str) -> None:
    made = workload(crowd(seed=16, seconds=5), t1=3)
    gap = run_scheduler(Experiment(made, engine(kv_tokens=1000)), scheduler).course.gap
    assert gap is not None
    assert not gap.violations, gap
    if scheduler != "fairqueue":
        assert gap.bound == 2 * 1000


def limited(**limits: int) -> Document:
    document = open_policy("OpenAI", ["t0", "t1"], {})
    first, second = document.tenants
    return structs.replace(
        document, tenants=(structs.replace(first, limits=structs.replace(first.limits, **limits)), second)
    )


def test_a_policy_refuses_what_does_not_fit_into_its_queue() -> None:
    arrivals = [Arrival(0.01 * number, "t0", 100, 100) for number in range(200)]
    result = run(arrivals, "policy", limited(max_queued=10)).result
    refused = result.refusals["tenant_queue_full"]
    assert result.tenants[0].completed == 200 - refused
    assert 100 < refused < 190


def test_a_policy_lets_nobody_wait_longer_than_its_time_out() -> None:
    document = open_policy("OpenAI", ["t0"], {})
    document = structs.replace(document, queue=structs.replace(document.queue, timeout_seconds=5.0))
    arrivals = [Arrival(0.01 * number, "t0", 100, 200) for number in range(300)]
    course = run(arrivals, "policy", document).course
    refused = [fate for fate in course.fates if fate.refused]
    assert {fate.refused for fate in refused} == {"queue_timeout"}
    assert 0 < len(refused) < 300


def test_a_limit_of_tokens_per_minute_is_kept_over_time() -> None:
    arrivals = [Arrival(0.0, "t0", 50, 50) for _ in range(60)]
    course = run(arrivals, "policy", limited(tokens_per_minute=1000)).course
    in_first_minute = sum(100 for fate in course.fates if fate.ended_at is not None and fate.ended_at <= 60)
    # A bucket of a minute, what a minute fills in, and what was begun before it was empty.
    assert 1000 <= in_first_minute <= 3000
    assert course.ended_at > 3.5 * 60


def test_who_a_policy_does_not_know_is_refused_or_one_of_the_anonymous() -> None:
    arrivals = [Arrival(0.1 * number, name, 10, 10) for number, name in enumerate(["t0", "stranger", "t1"])]
    document = open_policy("OpenAI", ["t0", "t1"], {})
    assert run(arrivals, "policy", document).result.refusals == {"unauthenticated": 1}
    anonymous = AnonymousSettings(weight=1, per_identity=True, limits=document.tenants[0].limits)
    identity = structs.replace(document.identity, on_unidentified="Anonymous")
    welcoming = structs.replace(document, anonymous=anonymous, identity=identity)
    assert run(arrivals, "policy", welcoming).result.refusals == {}


def test_the_product_by_itself_refuses_nobody_whatever_the_name() -> None:
    arrivals = [Arrival(0.1 * number, name, 10, 10) for number, name in enumerate(["anonymous", "other", "a,b"])]
    assert run(arrivals, "fairqueue").result.refusals == {}


def test_each_user_of_the_anonymous_of_a_trace_is_an_identity() -> None:
    document = open_policy("OpenAI", ["t0"], {})
    anonymous = AnonymousSettings(weight=1, per_identity=True, limits=document.tenants[0].limits)
    identity = structs.replace(document.identity, on_unidentified="Anonymous")
    document = structs.replace(document, anonymous=anonymous, identity=identity)
    arrivals = [Arrival(0.0, "anonymous", 10, 10, user="busy") for _ in range(6)]
    arrivals.append(Arrival(0.1, "anonymous", 10, 10, user="quiet"))
    started = [fate.started_at or 0 for fate in run(arrivals, "policy", document, rules="sglang", slots=1).course.fates]
    *_, last_of_busy, quiet = started
    assert quiet < last_of_busy


def test_what_made_more_than_it_allowed_is_served_as_it_was() -> None:
    arrivals = [Arrival(0.0, "a", 10, 100, max_tokens=50), Arrival(0.0, "b", 10, 100)]
    for scheduler in ("fcfs", "fairqueue"):
        first, second = run(arrivals, scheduler, slots=1).course.fates
        assert first.ended_at is not None
        assert first.first_token_at is not None
        assert second.ended_at is not None
        assert second.first_token_at is not None
        lasted = [first.ended_at - first.first_token_at, second.ended_at - second.first_token_at]
        assert lasted[0] == pytest.approx(lasted[1])


def test_progress_is_told_to_the_end() -> None:
    told: list[int] = []
    arrivals = crowd(seed=2, count=80)
    run_scheduler(Experiment(workload(arrivals), engine()), "fcfs", on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 80
    assert len(told) > 1


def test_little_waits_in_the_engine_when_the_product_stands_before_it() -> None:
    arrivals = [replace(arrival, seconds=0.0) for arrival in crowd(seed=8, count=100)]
    waiting = run(arrivals, "fairqueue", slots=8).result.engine_waiting
    assert waiting is not None
    assert run(arrivals, "fcfs").result.engine_waiting is None
