"""What vLLM and SGLang report of themselves."""

import json
from typing import Any

import pytest

from fairqueue_proxy.capacity import EngineReport
from fairqueue_proxy.engine_reports import REPORTS, read_limits
from metering.recorded import DATA

VLLM, SGLANG = REPORTS["VLLM"], REPORTS["SGLang"]


def _recorded(case: str) -> bytes:
    chunks = json.loads((DATA / "vllm" / f"{case}.json").read_text())["response"]["chunks"]
    return "".join(chunk for _, chunk in chunks).encode()


def test_vllm_reports_its_context_with_its_models() -> None:
    assert VLLM.limits == "/v1/models"
    assert read_limits("VLLM", _recorded("05-models")) == EngineReport(context_tokens=2048)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data":[]}', b'{"data":[{"max_model_len":"x"}]}'])
def test_a_report_that_cannot_be_read_says_nothing(body: bytes) -> None:
    assert read_limits("VLLM", body) == read_limits("SGLang", body) == EngineReport()


@pytest.mark.parametrize(
    ("info", "report"),
    [
        (
            {"max_running_requests": 64, "context_length": 8192, "internal_states": []},
            EngineReport(batch_limit=64, context_tokens=8192),
        ),
        (
            {
                "max_running_requests": None,
                "context_length": None,
                "max_req_input_len": 4090,
                "internal_states": [{"effective_max_running_requests_per_dp": 48}] * 2,
            },
            EngineReport(batch_limit=96, context_tokens=4090),
        ),
        ({}, EngineReport()),
    ],
)
def test_sglang_reports_how_many_it_runs_at_once(info: dict[str, Any], report: EngineReport) -> None:
    assert read_limits("SGLang", json.dumps(info).encode()) == report


def test_recorded_gauges_of_vllm_are_read_and_its_other_gauges_are_not() -> None:
    metrics = _recorded("05-metrics")
    busy = metrics.replace(b'requests_waiting{engine="0",model_name="tiny"} 0.0', b'requests_waiting{engine="0"} 3.0')
    assert VLLM.gauge(VLLM.waiting_gauge, busy) == 3
    assert VLLM.gauge(VLLM.running_gauge, busy) == 0
    added = VLLM.with_our_queue(busy, 4)
    assert VLLM.gauge(VLLM.waiting_gauge, added) == 7
    assert added.count(b"waiting_by_reason") == metrics.count(b"waiting_by_reason")


def test_gauges_of_sglang_are_read_over_its_ranks() -> None:
    metrics = (
        b'sglang:num_queue_reqs{dp_rank="0"} 2.0\nsglang:num_queue_reqs{dp_rank="1"} 1.0\nsglang:num_running_reqs 5\n'
    )
    assert SGLANG.gauge(SGLANG.waiting_gauge, metrics) == 3
    assert SGLANG.gauge(SGLANG.running_gauge, metrics) == 5
