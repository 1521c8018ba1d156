"""The figures of an open loop, against values worked out by hand."""

import json

import pytest

from fairqueue_cli.load_open import OpenPlan, OpenResult, Sent
from fairqueue_cli.load_open_report import format_open, lateness, summarise_open
from fairqueue_cli.load_reply import Outcome, Reply
from fairqueue_cli.load_spec import LoadPlan
from fairqueue_sim.lab.result import RunResult
from fairqueue_sim.lab.trace import Arrival
from fairqueue_sim.lab.workloads import Workload

START = 50.0


def sent(
    tenant: str, at: float, first: float | None, end: float, tokens: tuple[int | None, int] = (20, 10), **reply: object
) -> Sent:
    """A request of 20 and 10 tokens; instants are wall seconds after the start of a run at speed 2."""
    first_at = None if first is None else START + first
    made = Reply(START + at, START + end, first_at, *tokens, **{"outcome": Outcome.COMPLETED, **reply})  # type: ignore[arg-type]
    return Sent(Arrival(2 * at, tenant, 20, 10), START + at, made)


def result(*requests: Sent, interrupted: bool = False, ended: float = 60.0) -> OpenResult:
    plan = OpenPlan(LoadPlan("http://h:1", "openai", ()), [one.arrival for one in requests], 2.0)
    return OpenResult(plan, START, START + ended, list(requests), interrupted=interrupted)


def workload(*requests: Sent, seconds: float = 100.0) -> Workload:
    return Workload("w", [one.arrival for one in requests], seconds, {"b": 2})


def figures(*requests: Sent, **options: bool) -> RunResult:
    return summarise_open(result(*requests, **options), workload(*requests))


REFUSED = sent("b", 2.0, None, 2.5, outcome=Outcome.REFUSED, detail="429", reason="tenant_queue_full")
FAILED = sent("b", 2.0, 3.0, 4.0, outcome=Outcome.FAILED, detail="stream broke off")
CUT = sent("b", 30.0, 31.0, 60.0, outcome=Outcome.UNFINISHED)


def test_times_are_the_workloads_own_seconds() -> None:
    run = figures(sent("a", 1.0, 3.0, 10.0), sent("b", 5.0, 5.5, 20.0))
    first, second = run.tenants
    assert (first.ttft_seconds.max, second.ttft_seconds.max) == (4.0, 1.0)
    assert run.throughput_tokens_per_second == pytest.approx(60 / 40)
    assert (first.weight, second.weight) == (1, 2)


def test_lateness_is_part_of_the_time_to_the_first_token() -> None:
    late = sent("a", 1.0, 3.0, 10.0)
    late.reply.sent_at += 1.5
    assert figures(late).tenants[0].ttft_seconds.max == 4.0
    assert lateness(result(late)).max == 3.0


def test_lengths_are_what_the_engine_told_else_what_was_asked_for() -> None:
    run = figures(sent("a", 1.0, 3.0, 10.0, (25, 4)), sent("b", 1.0, 3.0, 10.0, (None, 10)))
    assert [(one.prompt_tokens, one.output_tokens, one.service) for one in run.tenants] == [(25, 4, 33), (20, 10, 40)]


def test_refusals_have_the_proxys_names_or_what_their_status_means() -> None:
    plain = sent("a", 1.0, None, 1.0, outcome=Outcome.REFUSED, detail="503")
    run = figures(sent("a", 0.0, 1.0, 2.0), plain, REFUSED, FAILED, CUT)
    assert run.refusals == {"503 Service Unavailable": 1, "stream broke off": 1, "tenant_queue_full": 1}
    assert [(one.requests, one.completed, one.refused) for one in run.tenants] == [(2, 1, 1), (3, 0, 2)]


def test_what_a_client_cannot_know_is_null() -> None:
    run = figures(sent("a", 1.0, 3.0, 10.0))
    assert (run.scheduler, run.gap, run.engine_waiting) == (None, None, None)
    assert json.loads(json.dumps(run.refusals)) == {}


def test_jains_index_is_of_those_who_always_have_somebody_without_a_token() -> None:
    both = [sent(name, 0.0, first, first + 10.0) for name in "ab" for first in (1.0, 20.0, 40.0, 59.0)]
    assert figures(*both).jain_index == pytest.approx(1 / 2 * 3**2 / (1 + 2**2))
    only_one = [sent("a", 0.0, 59.0, 60.0), sent("b", 30.0, 30.1, 40.0)]
    assert figures(*only_one).jain_index is None


def test_a_run_that_was_cut_short_is_judged_until_then() -> None:
    requests = [sent(name, 0.0, first, first + 1.0) for name in "ab" for first in (1.0, 2.0, 3.0, 4.0)]
    run = summarise_open(result(*requests, interrupted=True, ended=5.0), workload(*requests, seconds=5000.0))
    assert run.service_difference is not None
    assert run.service_difference.max > 0
    assert summarise_open(result(interrupted=True), workload(CUT)).tenants[0].requests == 0


def test_the_table_has_a_row_for_each_tenant_and_all_figures_below() -> None:
    requests = [sent("a", 0.0, 0.25, 10.0), sent("b", 0.0, 1.0, 20.0, (20, 5)), REFUSED, FAILED]
    text = format_open(result(*requests), workload(*requests), figures(*requests))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert rows[:4] == [
        "tenant requests completed refused failed TTFT p50 p90 p99 max tokens/s",
        "a 1 1 0 0 0.500 s 0.500 s 0.500 s 0.500 s 0.2",
        "b 3 1 1 1 2.00 s 2.00 s 2.00 s 2.00 s 0.1",
        "",
    ]
    assert rows[4:6] == ["1 x stream broke off", "1 x tenant_queue_full"]
    assert rows[6].startswith("total (in the workload's time, which ran 2 times as fast): 1.4 tokens/s with prompts")
    assert "service difference avg" in rows[6]
    assert rows[6].endswith("Jain index of the backlogged -")
    assert rows[7].startswith(
        "1 of 2 replies ended by themselves (15 of the workload's 20 output tokens); try --ignore-eos"
    )
    assert rows[8] == "sent late by p99 0.000 s, at most 0.000 s"


@pytest.mark.parametrize(("wall_seconds", "said"), [(0.05, False), (0.06, True)])
def test_a_generator_that_falls_behind_says_so(wall_seconds: float, said: bool) -> None:
    late = sent("a", 1.0, 3.0, 10.0)
    late.reply.sent_at += wall_seconds
    text = format_open(result(late), workload(late), figures(late))
    assert ("WARNING: requests were sent late (p99 0.120 s" in text) is said
    assert bool(lateness(result(late)).warning) is said


def test_one_late_request_of_many_is_no_reason_to_warn() -> None:
    late = sent("a", 1.0, 3.0, 10.0)
    late.reply.sent_at += 9.0
    assert not lateness(result(late, *(sent("a", 1.0, 3.0, 10.0) for _ in range(99)))).warning


def test_an_interrupted_run_says_how_far_it_came() -> None:
    requests = [sent("a", 0.0, 0.25, 10.0), CUT]
    text = format_open(result(requests[0], interrupted=True), workload(*requests), figures(requests[0]))
    assert text.splitlines()[-1] == "interrupted: 1 of 2 requests were sent"
