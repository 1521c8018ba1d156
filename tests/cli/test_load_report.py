"""The figures of a run, against values worked out by hand."""

import json

import pytest

from cli.samples import reply, result
from fairqueue_cli.load_reply import Outcome
from fairqueue_cli.load_report import format_report, jain_index, summarise, to_result, tokens_inside
from fairqueue_cli.load_spec import TenantSpec

CUT = Outcome.UNFINISHED


@pytest.mark.parametrize(
    ("values", "index"), [([5.0, 5.0], 1.0), ([7.0, 0.0], 0.5), ([1.0, 3.0], 0.8), ([0.0, 0.0], None), ([4.0], 1.0)]
)
def test_jains_index_is_one_for_equals_and_one_nth_for_a_monopoly(values: list[float], index: float | None) -> None:
    assert jain_index(values) == (None if index is None else pytest.approx(index))


@pytest.mark.parametrize(
    ("start", "end", "tokens"),
    [(0, 100, 20), (20, 30, 20), (25, 100, 10), (0, 22.5, 5), (24, 26, 4), (0, 20, 0), (30, 90, 0)],
)
def test_a_reply_counts_with_the_tokens_that_lie_inside_the_span(start: float, end: float, tokens: float) -> None:
    assert tokens_inside(reply(15.0, 5.0, 15.0, 20), start, end) == pytest.approx(tokens)


def test_a_reply_that_came_all_at_once_counts_where_it_came() -> None:
    at_once = reply(1.0, 2.0, 2.0, 20)
    assert [tokens_inside(at_once, *span) for span in ((0, 10), (3, 10), (0, 3), (4, 10))] == [20, 20, 20, 0]


def test_a_run_without_warm_up_counts_everything() -> None:
    replies = [
        reply(0.0, 1.0, 4.0, 30),
        reply(4.0, 3.0, 6.0, 30),
        reply(4.0, None, 5.0, prompt=None, outcome=Outcome.REFUSED, detail="429"),
        reply(9.0, 0.5, 1.0, 10, prompt=None, outcome=CUT),
    ]
    report = summarise(result({TenantSpec("a", weight=2.0): replies}, ended_at=10.0))
    (tenant,) = report.tenants
    assert (tenant.requests, tenant.completed, tenant.refused, tenant.failed) == (4, 2, 1, 0)
    assert (tenant.prompt_tokens, tenant.output_tokens, tenant.service) == (20, 70, 20 + 2 * 70)
    assert tenant.problems == {"429": 1}
    assert tenant.ttft is not None
    assert (tenant.ttft.n, tenant.ttft.p50, tenant.ttft.max, tenant.ttft.mean) == (3, 1.0, 3.0, 1.5)
    assert report.throughput_tokens_per_second == pytest.approx(9.0)
    assert report.output_tokens_per_second == pytest.approx(7.0)


def test_after_a_warm_up_only_what_lies_behind_it_counts() -> None:
    replies = [
        reply(0.0, 2.0, 10.0, 80),  # half its tokens lie behind 6.0, but it was sent and began before
        reply(7.0, 1.0, 2.0, 10),
    ]
    report = summarise(result({TenantSpec("a"): replies}, measured_from=6.0, ended_at=10.0))
    (tenant,) = report.tenants
    assert (tenant.requests, tenant.completed, tenant.prompt_tokens) == (1, 1, 10)
    assert tenant.output_tokens == 40 + 10
    assert tenant.ttft is not None
    assert (tenant.ttft.n, tenant.ttft.p50) == (1, 1.0)
    assert report.seconds == 4.0


def test_a_run_that_never_got_warm_has_no_figures() -> None:
    report = summarise(result({TenantSpec("a"): [reply(0.0, 1.0, 3.0, 9)]}, measured_from=None, ended_at=5.0))
    assert report.throughput_tokens_per_second == 0.0
    assert report.jain_index is None
    assert report.tenants[0].requests == 0


def test_jains_index_is_of_service_per_weight() -> None:
    tenants = {
        TenantSpec("a", weight=1.0): [reply(0.0, 1.0, 2.0, 20)],
        TenantSpec("b", weight=3.0): [reply(0.0, 1.0, 2.0, 70)],
    }
    report = summarise(result(tenants, ended_at=2.0))
    assert [tenant.service for tenant in report.tenants] == [50, 150]
    assert report.jain_index == pytest.approx(1.0)


def test_the_json_has_the_shape_that_all_results_have() -> None:
    report = summarise(result({TenantSpec("a"): [reply(0.0, 1.0, 2.0, 20)], TenantSpec("b"): []}, ended_at=2.0))
    shape = json.loads(to_result("closed-loop", None, [(None, report)]).to_json())
    assert shape == {
        "workload": "closed-loop",
        "model_profile": None,
        "runs": [
            {
                "scheduler": None,
                "throughput_tokens_per_second": 15.0,
                "service_difference": None,
                "jain_index": 0.5,
                "gap": None,
                "engine_waiting": None,
                "tenants": [
                    {
                        "name": "a",
                        "weight": 1.0,
                        "requests": 1,
                        "completed": 1,
                        "refused": 0,
                        "prompt_tokens": 10,
                        "output_tokens": 20,
                        "service": 50,
                        "ttft_seconds": {"mean": 1.0, "p50": 1.0, "p90": 1.0, "p99": 1.0, "max": 1.0},
                    },
                    {
                        "name": "b",
                        "weight": 1.0,
                        "requests": 0,
                        "completed": 0,
                        "refused": 0,
                        "prompt_tokens": 0,
                        "output_tokens": 0,
                        "service": 0,
                        "ttft_seconds": {"mean": None, "p50": None, "p90": None, "p99": None, "max": None},
                    },
                ],
                "light_tenants": None,
                "refusals": {},
            }
        ],
    }


def test_the_table_has_a_row_per_tenant_and_a_line_per_problem() -> None:
    refused = reply(0.0, None, 1.0, outcome=Outcome.REFUSED, detail="429")
    tenants = {
        TenantSpec("chat"): [reply(0.0, 0.25, 2.0, 20), refused, refused],
        TenantSpec("batch"): [reply(0.0, None, 1.0, outcome=Outcome.FAILED, detail="stream broke off")],
    }
    lines = format_report(summarise(result(tenants, ended_at=2.0))).splitlines()
    assert [" ".join(line.split()) for line in lines[:3]] == [
        "tenant requests completed refused failed TTFT p50 p95 n tokens/s",
        "chat 3 1 2 0 0.250 s 0.250 s 1 10.0",
        "batch 1 0 0 1 - - 0 0.0",
    ]
    assert "chat: 2 x 429" in lines
    assert "batch: 1 x stream broke off" in lines
    assert lines[-1].startswith("total: 10.0 output tokens/s, 15.0 with prompts, in 2.0 s; Jain index")
