"""What engines report of themselves, as real ones were recorded and as SGLang's source has it."""

import json
import time
from typing import Any

import pytest

from fairqueue_proxy.capacity import EngineReport
from fairqueue_proxy.engine_reports import REPORTS, EngineMetrics, Reading, read_limits, read_running
from metering.recorded import DATA

VLLM, SGLANG = REPORTS["VLLM"], REPORTS["SGLang"]


def metrics_of(kind: str) -> EngineMetrics:
    metrics = REPORTS[kind].metrics
    assert metrics is not None
    return metrics


def recorded(engine: str, case: str) -> bytes:
    chunks = json.loads((DATA / engine / f"{case}.json").read_text())["response"]["chunks"]
    return "".join(chunk for _, chunk in chunks).encode()


def without(text: bytes, *names: str) -> bytes:
    """The text of an engine that has never heard of these."""
    lines = text.splitlines(keepends=True)
    return b"".join(line for line in lines if not any(name.encode() in line for name in names))


def test_vllm_reports_its_context_with_its_models() -> None:
    assert VLLM.limits == "/v1/models"
    assert read_limits("VLLM", recorded("vllm", "05-models")) == EngineReport(context_tokens=2048)


def test_llamacpp_reports_slots_and_what_each_of_them_holds() -> None:
    report = EngineReport(batch_limit=2, kv_tokens=4096, context_tokens=2048)
    assert read_limits("LlamaCpp", recorded("llamacpp", "05-props")) == report


def test_only_old_versions_of_tgi_report_their_cache() -> None:
    assert read_limits("TGI", recorded("tgi", "10-info")).kv_tokens is None
    assert read_limits("TGI", b'{"max_batch_total_tokens":16000}') == EngineReport(kv_tokens=16000)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data":[]}', b'{"data":[{"max_model_len":"x"}]}'])
def test_a_report_that_cannot_be_read_says_nothing(body: bytes) -> None:
    assert read_limits("VLLM", body) == read_limits("SGLang", body) == EngineReport()


RANK = {"effective_max_running_requests_per_dp": 48}


@pytest.mark.parametrize(
    ("info", "report"),
    [
        pytest.param(
            {"max_running_requests": 64, "context_length": 8192, "internal_states": [], "max_total_num_tokens": 900},
            EngineReport(batch_limit=64, kv_tokens=900, context_tokens=8192),
            id="told outright",
        ),
        pytest.param(
            {
                "max_running_requests": None,
                "context_length": None,
                "max_req_input_len": 4090,
                "max_total_num_tokens": 500,
                "internal_states": [RANK] * 2,
            },
            EngineReport(batch_limit=96, kv_tokens=1000, context_tokens=4090),
            id="told by one of two ranks",
        ),
        pytest.param(
            {
                "max_total_num_tokens": 500,
                "internal_states": [
                    {"memory_usage": {"token_capacity": 400}},
                    {"memory_usage": {"token_capacity": 300}},
                ],
            },
            EngineReport(kv_tokens=700),
            id="told by each rank",
        ),
        pytest.param({}, EngineReport(), id="not told"),
    ],
)
def test_sglang_reports_how_many_it_runs_at_once_and_its_cache(info: dict[str, Any], report: EngineReport) -> None:
    assert read_limits("SGLang", json.dumps(info).encode()) == report


def test_all_that_is_read_of_recorded_metrics_of_vllm() -> None:
    text = recorded("vllm", "05-metrics")
    reading = Reading(waiting=0, running=0, kv_tokens=524288, counted=506)
    assert metrics_of("VLLM").read(text) == reading
    busy = text.replace(b'requests_waiting{engine="0",model_name="tiny"} 0.0', b'requests_waiting{engine="0"} 3.0')
    assert metrics_of("VLLM").read(busy).waiting == 3
    added = VLLM.with_our_queue(busy, 4)
    assert metrics_of("VLLM").read(added).waiting == 7
    assert added.count(b"waiting_by_reason") == text.count(b"waiting_by_reason")


@pytest.mark.parametrize(
    ("labels", "kv_tokens"),
    [
        pytest.param(['block_size="16",kv_cache_size_tokens="900",num_gpu_blocks="50"'], 900, id="size"),
        pytest.param(['block_size="16",kv_cache_size_tokens="None",num_gpu_blocks="50"'], 800, id="only blocks"),
        pytest.param(['user_specified_block_size="9",block_size="16",num_gpu_blocks="50"'], 800, id="similar names"),
        pytest.param(['x="}",block_size="16",y="\\",block_size=\\"",num_gpu_blocks="50"'], 800, id="odd values"),
        pytest.param(['block_size="16",num_gpu_blocks="None"'], None, id="nothing known"),
        pytest.param(
            ['block_size="16",num_gpu_blocks="1",kv_cache_size_tokens="16"'], None, id="model without a cache"
        ),
        pytest.param(
            ['engine="0",kv_cache_size_tokens="900"', 'engine="1",kv_cache_size_tokens="800"'], 1700, id="two"
        ),
        pytest.param(['engine="0",kv_cache_size_tokens="900"', 'engine="1"'], None, id="one of two"),
        pytest.param([], None, id="no series"),
    ],
)
def test_the_cache_of_vllm_is_that_of_all_its_engines(labels: list[str], kv_tokens: int | None) -> None:
    text = "".join(f"vllm:cache_config_info{{{each}}} 1.0\n" for each in labels)
    assert metrics_of("VLLM").read(text.encode()).kv_tokens == kv_tokens


def test_all_that_is_read_of_recorded_metrics_of_llamacpp() -> None:
    text = recorded("llamacpp", "05-metrics")
    assert metrics_of("LlamaCpp").read(text) == Reading(waiting=0, running=0, counted=165)
    busy = text.replace(b"\nllamacpp:requests_deferred 0\n", b"\nllamacpp:requests_deferred 4\n")
    assert metrics_of("LlamaCpp").read(busy).waiting == 4


def test_slots_tell_how_many_llamacpp_runs() -> None:
    text = recorded("llamacpp", "05-slots")
    assert read_running("LlamaCpp", text) == 0
    assert read_running("LlamaCpp", text.replace(b'"is_processing":false', b'"is_processing":true', 1)) == 1
    assert read_running("LlamaCpp", b'{"error":1}') is None
    assert read_running("VLLM", text) is None


def test_all_that_is_read_of_recorded_metrics_of_tgi() -> None:
    assert metrics_of("TGI").read(recorded("tgi", "10-metrics-busy")) == Reading(waiting=2, running=3, counted=5)


def test_tgi_that_has_not_served_anything_has_left_out_what_it_never_set() -> None:
    assert metrics_of("TGI").read(recorded("tgi", "10-metrics-fresh")) == Reading(counted=0)
    assert metrics_of("TGI").read(b"tgi_request_count 2\n") == Reading(waiting=0, running=0, counted=2)


def test_a_backend_of_tgi_that_serves_and_has_no_gauges_has_nobody_waiting_that_one_knew_of() -> None:
    reading = metrics_of("TGI").read(b"tgi_request_count 2\ntgi_request_success 1\n")
    assert reading == Reading(counted=2, missing=frozenset({"tgi_queue_size", "tgi_batch_current_size"}))


SGLANG_TEXT = b"""\
sglang:num_queue_reqs{dp_rank="0"} 2.0
sglang:num_queue_reqs{dp_rank="1"} 1.0
sglang:num_running_reqs 5
sglang:max_total_num_tokens{dp_rank="0"} 3000.0
sglang:max_total_num_tokens{dp_rank="1"} 3000.0
sglang:prompt_tokens_total 70
"""


def test_metrics_of_sglang_are_read_over_its_ranks() -> None:
    reading = Reading(waiting=3, running=5, kv_tokens=6000, counted=70)
    assert metrics_of("SGLang").read(SGLANG_TEXT) == reading


def test_what_sglang_has_not_set_yet_is_neither_zero_nor_missing() -> None:
    assert metrics_of("SGLang").read(b"# nothing\n") == Reading(counted=0)
    served = without(SGLANG_TEXT, "num_queue_reqs")
    assert metrics_of("SGLang").read(served).missing == {"sglang:num_queue_reqs"}


@pytest.mark.parametrize(
    ("kind", "engine", "names"),
    [
        ("VLLM", "vllm", ["vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:prompt_tokens_total"]),
        ("VLLM", "vllm", ["vllm:cache_config_info"]),
        ("LlamaCpp", "llamacpp", ["llamacpp:requests_deferred"]),
    ],
)
def test_a_name_that_an_engine_always_has_and_has_not_is_missing_and_none(
    kind: str, engine: str, names: list[str]
) -> None:
    text = recorded(engine, "05-metrics")
    assert metrics_of(kind).read(text).missing == frozenset()
    reading = metrics_of(kind).read(without(text, *names))
    assert reading.missing == set(names)
    values = {
        metrics_of(kind).waiting: reading.waiting,
        metrics_of(kind).running: reading.running,
        metrics_of(kind).counter: reading.counted,
        metrics_of(kind).kv_name: reading.kv_tokens,
    }
    assert {name for name, value in values.items() if value is None and name is not None} == set(names)


@pytest.mark.parametrize(
    ("earlier", "later", "same"),
    [
        pytest.param(Reading(counted=5), Reading(counted=5), True, id="nothing done"),
        pytest.param(Reading(counted=5), Reading(counted=4), False, id="counter went back"),
        pytest.param(Reading(counted=5), Reading(), True, id="counter not told"),
        pytest.param(Reading(), Reading(counted=4), True, id="counter told again"),
        pytest.param(Reading(counted=5, started=10), Reading(counted=9, started=10), True, id="began then"),
        pytest.param(Reading(counted=5, started=10), Reading(counted=9, started=20), False, id="began later"),
        pytest.param(Reading(started=10), Reading(), True, id="no longer tells when it began"),
    ],
)
def test_a_counter_that_went_back_or_a_later_start_is_another_life(
    earlier: Reading, later: Reading, same: bool
) -> None:
    assert later.is_of_the_same_life(earlier) is same


def test_the_time_at_which_the_process_began_is_read() -> None:
    text = recorded("vllm", "05-metrics") + b"\nprocess_start_time_seconds 1.79e+09\n"
    assert metrics_of("VLLM").read(text).started == 1.79e9


def test_ten_thousand_lines_are_read_in_no_time() -> None:
    """They are read on the loop that relays streams: a millisecond is much."""
    buckets = b"".join(b'tgi_batch_next_size_bucket{le="%d"} 7\n' % bound for bound in range(10_000))
    text = buckets + recorded("tgi", "10-metrics-busy") + buckets
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        assert metrics_of("TGI").read(text).waiting == 2
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.01
