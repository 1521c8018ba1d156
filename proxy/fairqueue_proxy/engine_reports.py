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


class _LlamaDefaults(msgspec.Struct):
    n_ctx: int | None = None


class _LlamaProps(msgspec.Struct):
    total_slots: int | None = None
    default_generation_settings: _LlamaDefaults = msgspec.field(default_factory=_LlamaDefaults)


def _tgi_info(body: bytes) -> EngineReport:
    info = msgspec.json.decode(body, type=_TgiInfo)
    return EngineReport(concurrency_limit=info.max_concurrent_requests, context_tokens=info.max_total_tokens)


def _llama_props(body: bytes) -> EngineReport:
    props = msgspec.json.decode(body, type=_LlamaProps)
    return EngineReport(batch_limit=props.total_slots, context_tokens=props.default_generation_settings.n_ctx)


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
        pattern = rb"^(" + re.escape(self.waiting_gauge.encode()) + rb"(?:\{[^}\n]*\})? )(" + _NUMBER + rb")"
        return re.sub(
            pattern, lambda match: match[1] + b"%g" % (float(match[2]) + queued), metrics, count=1, flags=re.MULTILINE
        )


REPORTS = {
    "TGI": ReportPaths("/health", "/info", _tgi_info, "tgi_queue_size", "tgi_batch_current_size"),
    "LlamaCpp": ReportPaths(
        "/health", "/props", _llama_props, "llamacpp:requests_deferred", "llamacpp:requests_processing"
    ),
    "OpenAI": ReportPaths("/v1/models", None, _no_report, None, None),
}


def read_limits(kind: str, body: bytes) -> EngineReport:
    """What an engine's report says; an empty report if it can't be read."""
    try:
        return REPORTS[kind].parse_limits(body)
    except msgspec.MsgspecError:
        return EngineReport()
