"""What engines say of themselves over HTTP, read from their replies. Pure.

Each engine kind has a health path, a path that reports its limits, and gauges of what runs and waits in it. All of
it is optional: what is missing or unreadable is None, and nothing stops for it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from fairqueue_proxy.capacity import EngineReport


class _TgiInfo(msgspec.Struct):
    max_concurrent_requests: int | None = None
    max_total_tokens: int | None = None
    max_best_of: int | None = None
    max_client_batch_size: int | None = None


class _LlamaDefaults(msgspec.Struct):
    n_ctx: int | None = None


class _LlamaProps(msgspec.Struct):
    total_slots: int | None = None
    default_generation_settings: _LlamaDefaults = msgspec.field(default_factory=_LlamaDefaults)


def _tgi_info(body: bytes) -> EngineReport:
    info = msgspec.json.decode(body, type=_TgiInfo)
    best_of, prompts = info.max_best_of, info.max_client_batch_size
    return EngineReport(
        concurrency_limit=info.max_concurrent_requests,
        context_tokens=info.max_total_tokens,
        # A request has several sequences by best_of or by a list of prompts, never by both.
        most_sequences=max(best_of, prompts) if best_of is not None and prompts is not None else None,
    )


def _llama_props(body: bytes) -> EngineReport:
    props = msgspec.json.decode(body, type=_LlamaProps)
    return EngineReport(batch_limit=props.total_slots, context_tokens=props.default_generation_settings.n_ctx)


class _VllmModel(msgspec.Struct):
    max_model_len: int | None = None


class _VllmModels(msgspec.Struct):
    data: list[_VllmModel] = msgspec.field(default_factory=list)


def _vllm_models(body: bytes) -> EngineReport:
    # Adapters are listed beside their model and have its length.
    lengths = [model.max_model_len for model in msgspec.json.decode(body, type=_VllmModels).data]
    return EngineReport(context_tokens=max((length for length in lengths if length is not None), default=None))


class _SglangState(msgspec.Struct):
    effective_max_running_requests_per_dp: int | None = None


class _SglangInfo(msgspec.Struct):
    context_length: int | None = None
    max_req_input_len: int | None = None
    max_running_requests: int | None = None
    internal_states: list[_SglangState] = msgspec.field(default_factory=list)


def _sglang_info(body: bytes) -> EngineReport:
    info = msgspec.json.decode(body, type=_SglangInfo)
    # What the scheduler of each rank really runs; the argument bounds it and is often left to SGLang.
    per_rank = [state.effective_max_running_requests_per_dp for state in info.internal_states]
    running = [limit for limit in per_rank if limit is not None]
    return EngineReport(
        batch_limit=sum(running) if running else info.max_running_requests,
        # Left out, it is that of the model, of which only the longest input is told.
        context_tokens=info.context_length or info.max_req_input_len,
    )


def _no_report(_body: bytes) -> EngineReport:
    return EngineReport()


# Other values, such as NaN or +Inf, are no numbers to add to.
_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\S)"


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where an engine kind tells what. Gauge names are those of its /metrics; None: it has none."""

    health: str
    limits: str | None
    parse_limits: Callable[[bytes], EngineReport]
    waiting_gauge: str | None
    running_gauge: str | None

    def gauge(self, name: str | None, metrics: bytes) -> float | None:
        """A gauge's value, summed over its series. One that was never set is absent and counts as 0; without any
        text (TGI before its first request) there is none."""
        if name is None or not metrics:
            return None
        series = rb"^" + re.escape(name.encode()) + rb"(?:\{[^}\n]*\})? (" + _NUMBER + rb")"
        return sum(float(value) for value in re.findall(series, metrics, re.MULTILINE))

    def with_our_queue(self, metrics: bytes, queued: int) -> bytes:
        """The engine's /metrics with our queue added to its waiting gauge: who scales by it still sees the demand."""
        if self.waiting_gauge is None or not queued:
            return metrics
        name = self.waiting_gauge.encode()
        series = rb"^(" + re.escape(name) + rb"(?:\{[^}\n]*\})? )"
        if re.search(series, metrics, re.MULTILINE) is None:
            # TGI leaves out what it has never set.
            line_end = b"" if not metrics or metrics.endswith(b"\n") else b"\n"
            return metrics + line_end + b"%s %d\n" % (name, queued)
        return re.sub(
            series + rb"(" + _NUMBER + rb")",
            lambda match: match[1] + b"%.15g" % (float(match[2]) + queued),
            metrics,
            count=1,
            flags=re.MULTILINE,
        )


REPORTS = {
    "TGI": ReportPaths("/health", "/info", _tgi_info, "tgi_queue_size", "tgi_batch_current_size"),
    "LlamaCpp": ReportPaths(
        "/health", "/props", _llama_props, "llamacpp:requests_deferred", "llamacpp:requests_processing"
    ),
    "VLLM": ReportPaths(
        "/health", "/v1/models", _vllm_models, "vllm:num_requests_waiting", "vllm:num_requests_running"
    ),
    "SGLang": ReportPaths("/health", "/server_info", _sglang_info, "sglang:num_queue_reqs", "sglang:num_running_reqs"),
    "OpenAI": ReportPaths("/v1/models", None, _no_report, None, None),
}


def read_limits(kind: str, body: bytes) -> EngineReport:
    """What an engine's report says; an empty report if it can't be read."""
    try:
        return REPORTS[kind].parse_limits(body)
    except msgspec.MsgspecError:
        return EngineReport()
