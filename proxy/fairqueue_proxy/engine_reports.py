"""What engines say of themselves over HTTP, read from their replies. Pure.

Each engine kind has a health path, a path that reports its limits, and metrics with gauges of what runs and waits in
it. All of it is optional: what is missing or unreadable is None, and nothing stops for it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from fairqueue_proxy.capacity import EngineReport
from fairqueue_proxy.engine_gauges import series, total, whole_label, with_added

METRICS = "/metrics"
STARTED = "process_start_time_seconds"


class _TgiInfo(msgspec.Struct):
    max_concurrent_requests: int | None = None
    max_total_tokens: int | None = None
    max_best_of: int | None = None
    max_client_batch_size: int | None = None
    # Until 2.2.
    max_batch_total_tokens: int | None = None


class _LlamaDefaults(msgspec.Struct):
    n_ctx: int | None = None


class _LlamaProps(msgspec.Struct):
    total_slots: int | None = None
    default_generation_settings: _LlamaDefaults = msgspec.field(default_factory=_LlamaDefaults)


class _LlamaSlot(msgspec.Struct):
    is_processing: bool


def _tgi_info(body: bytes) -> EngineReport:
    info = msgspec.json.decode(body, type=_TgiInfo)
    best_of, prompts = info.max_best_of, info.max_client_batch_size
    return EngineReport(
        concurrency_limit=info.max_concurrent_requests,
        kv_tokens=info.max_batch_total_tokens or None,
        context_tokens=info.max_total_tokens,
        # A request has several sequences by best_of or by a list of prompts, never by both.
        most_sequences=max(best_of, prompts) if best_of is not None and prompts is not None else None,
    )


def _llama_props(body: bytes) -> EngineReport:
    props = msgspec.json.decode(body, type=_LlamaProps)
    slots, slot_tokens = props.total_slots, props.default_generation_settings.n_ctx
    return EngineReport(
        batch_limit=slots,
        kv_tokens=slots * slot_tokens or None if slots is not None and slot_tokens is not None else None,
        context_tokens=slot_tokens,
    )


def _llama_running(body: bytes) -> float:
    return sum(slot.is_processing for slot in msgspec.json.decode(body, type=list[_LlamaSlot]))


class _VllmModel(msgspec.Struct):
    max_model_len: int | None = None


class _VllmModels(msgspec.Struct):
    data: list[_VllmModel] = msgspec.field(default_factory=list)


def _vllm_models(body: bytes) -> EngineReport:
    # Adapters are listed beside their model and have its length.
    lengths = [model.max_model_len for model in msgspec.json.decode(body, type=_VllmModels).data]
    return EngineReport(context_tokens=max((length for length in lengths if length is not None), default=None))


def _whole(parts: Iterable[int | None]) -> int | None:
    """The sum, if every part is known and there is something to sum."""
    known = list(parts)
    return sum(part for part in known if part is not None) or None if None not in known else None


def _vllm_kv_tokens(metrics: bytes) -> int | None:
    # One series for each engine behind the port, of which each has a cache of its own.
    return _whole(_vllm_cache_tokens(match["labels"]) for match in series("vllm:cache_config_info", metrics))


def _vllm_cache_tokens(labels: bytes | None) -> int | None:
    blocks, block_tokens = whole_label("num_gpu_blocks", labels), whole_label("block_size", labels)
    if blocks is not None and blocks <= 1:
        # So it is told for models that have no cache.
        return None
    told = whole_label("kv_cache_size_tokens", labels)
    if told is not None:
        return told
    return blocks * block_tokens if blocks is not None and block_tokens is not None else None


class _SglangMemory(msgspec.Struct):
    token_capacity: int | None = None


class _SglangState(msgspec.Struct):
    effective_max_running_requests_per_dp: int | None = None
    memory_usage: _SglangMemory = msgspec.field(default_factory=_SglangMemory)


class _SglangInfo(msgspec.Struct):
    context_length: int | None = None
    max_req_input_len: int | None = None
    max_running_requests: int | None = None
    max_total_num_tokens: int | None = None
    internal_states: list[_SglangState] = msgspec.field(default_factory=list)


def _sglang_info(body: bytes) -> EngineReport:
    info = msgspec.json.decode(body, type=_SglangInfo)
    # What the scheduler of each rank really runs; the argument bounds it and is often left to SGLang.
    per_rank = [state.effective_max_running_requests_per_dp for state in info.internal_states]
    running = [limit for limit in per_rank if limit is not None]
    # Of one rank, of which each has as much.
    kv_tokens = (info.max_total_num_tokens or 0) * max(len(info.internal_states), 1)
    return EngineReport(
        batch_limit=sum(running) if running else info.max_running_requests,
        kv_tokens=_whole(state.memory_usage.token_capacity for state in info.internal_states) or kv_tokens or None,
        # Left out, it is that of the model, of which only the longest input is told.
        context_tokens=info.context_length or info.max_req_input_len,
    )


def _sglang_kv_tokens(metrics: bytes) -> int | None:
    return int(total("sglang:max_total_num_tokens", metrics) or 0) or None


def _no_report(_body: bytes) -> EngineReport:
    return EngineReport()


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine's metrics said at one time; None where they did not say. `missing`: names that should be there.

    `counted` only grows while the engine lives, `started` is when it began.
    """

    waiting: float | None = None
    running: float | None = None
    kv_tokens: int | None = None
    counted: float | None = None
    started: float | None = None
    missing: frozenset[str] = frozenset()

    def is_of_the_same_life(self, earlier: "Reading") -> bool:
        """Nothing tells that the engine has restarted between the two."""
        if self.started is not None and earlier.started is not None and self.started != earlier.started:
            return False
        return self.counted is None or earlier.counted is None or self.counted >= earlier.counted


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """The names that are read of a kind's metrics.

    Some engines leave out what they have never set: `served` is there as soon as something was, and from then on all
    others should be. Until then `unset_waiting` is what a gauge stands for that is not there.
    """

    waiting: str
    running: str
    counter: str
    kv_name: str | None = None
    kv_tokens: Callable[[bytes], int | None] | None = None
    served: str | None = None
    unset_waiting: float | None = None
    off: str = ""
    """What to do when they are not served."""
    bare: str = ""
    """Why they may be served without these names."""

    def leaves_out(self, text: bytes) -> bool:
        """Names that are not there were never set."""
        return self.served is not None and total(self.served, text) is None

    def gauge(self, name: str, text: bytes) -> float | None:
        """Summed over its series."""
        value = total(name, text)
        return self.unset_waiting if value is None and text and self.leaves_out(text) else value

    def read(self, text: bytes) -> Reading:
        """All that is read of them."""
        leaves_out = self.leaves_out(text)
        counted = total(self.counter, text)
        kv_tokens = self.kv_tokens(text) if self.kv_tokens is not None else None
        names = {self.waiting, self.running, self.counter, *([self.kv_name] if self.kv_name is not None else [])}
        return Reading(
            waiting=self.gauge(self.waiting, text),
            running=self.gauge(self.running, text),
            kv_tokens=kv_tokens,
            counted=0.0 if counted is None and leaves_out else counted,
            started=total(STARTED, text),
            missing=frozenset() if leaves_out else frozenset(name for name in names if total(name, text) is None),
        )

    def told_by(self, name: str) -> str:
        """What a name was to tell."""
        return {
            self.waiting: "how many requests wait in the engine",
            self.running: "how many requests run in it",
            self.counter: "by which a restart is seen",
            self.kv_name: "the size of its KV cache",
        }[name]


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where an engine kind tells what; None: it has none. `parse_running`: how to read `running`, a path that tells
    how many requests run where there are no metrics."""

    health: str
    limits: str | None = None
    parse_limits: Callable[[bytes], EngineReport] = _no_report
    metrics: EngineMetrics | None = None
    running: str | None = None
    parse_running: Callable[[bytes], float] | None = None

    def with_our_queue(self, metrics: bytes, queued: int) -> bytes:
        """The engine's /metrics with our queue added to its waiting gauge: who scales by it still sees the demand."""
        return with_added(self.metrics.waiting, metrics, queued) if self.metrics is not None and queued else metrics


REPORTS = {
    "TGI": ReportPaths(
        "/health",
        "/info",
        _tgi_info,
        EngineMetrics(
            "tgi_queue_size",
            "tgi_batch_current_size",
            "tgi_request_count",
            served="tgi_request_success",
            unset_waiting=0.0,
            bare=": only TGI's own backend tells these, not that for TensorRT-LLM or llama.cpp",
        ),
    ),
    "LlamaCpp": ReportPaths(
        "/health",
        "/props",
        _llama_props,
        EngineMetrics(
            "llamacpp:requests_deferred",
            "llamacpp:requests_processing",
            "llamacpp:prompt_tokens_total",
            off=": start llama.cpp's server with --metrics",
        ),
        "/slots",
        _llama_running,
    ),
    "VLLM": ReportPaths(
        "/health",
        "/v1/models",
        _vllm_models,
        EngineMetrics(
            "vllm:num_requests_waiting",
            "vllm:num_requests_running",
            "vllm:prompt_tokens_total",
            kv_name="vllm:cache_config_info",
            kv_tokens=_vllm_kv_tokens,
            bare=": vLLM that was started with --disable-log-stats tells none",
        ),
    ),
    "SGLang": ReportPaths(
        "/health",
        "/server_info",
        _sglang_info,
        EngineMetrics(
            "sglang:num_queue_reqs",
            "sglang:num_running_reqs",
            "sglang:prompt_tokens_total",
            kv_tokens=_sglang_kv_tokens,
            served="sglang:prompt_tokens_total",
            off=": start SGLang with --enable-metrics",
        ),
    ),
    "OpenAI": ReportPaths("/v1/models"),
}


def read_limits(kind: str, body: bytes) -> EngineReport:
    """What an engine's report says; an empty report if it can't be read."""
    try:
        return REPORTS[kind].parse_limits(body)
    except msgspec.MsgspecError:
        return EngineReport()


def read_running(kind: str, body: bytes) -> float | None:
    """How many requests run, from the path that tells only this."""
    parse = REPORTS[kind].parse_running
    try:
        return parse(body) if parse is not None else None
    except msgspec.MsgspecError:
        return None
