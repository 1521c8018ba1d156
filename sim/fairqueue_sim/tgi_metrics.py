"""The counters and gauges that Text Generation Inference's router exports, in its text format.

As there: nothing at all until the first request, and a family appears when its first value is set. The router's
histograms are left out.
"""

from collections.abc import Iterable
from typing import Literal

from fairqueue_sim.generation import BatchGauges

__all__ = ["TgiMetrics"]

CounterName = Literal[
    "tgi_request_count",
    "tgi_request_success",
    "tgi_request_failure",
    "tgi_batch_inference_count",
    "tgi_batch_inference_success",
    "tgi_batch_inference_failure",
    "tgi_batch_concat",
]
_HELP = {
    "tgi_request_count": "Total number of requests",
    "tgi_request_success": "Number of successful requests",
    "tgi_batch_inference_count": "Inference calls per method (prefill or decode)",
    "tgi_batch_inference_success": "Number of successful inference calls per method (prefill or decode)",
    "tgi_queue_size": "Current queue size",
    "tgi_batch_current_size": "Current batch size",
    "tgi_batch_current_max_tokens": "Maximum tokens for the current batch",
}


class TgiMetrics:
    """Counts, and renders itself."""

    def __init__(self) -> None:
        self._counters: dict[CounterName, dict[str, int]] = {}

    def count(self, name: CounterName, label: str = "", by: int = 1) -> None:
        """Adds to a counter; `label` is such as `err="validation"`."""
        values = self._counters.setdefault(name, {})
        values[label] = values.get(label, 0) + by

    def render(self, gauges: BatchGauges, dropped: int) -> bytes:
        """The exposition text; gauges and dropped requests are the batch's own."""
        counters = {name: dict(values) for name, values in self._counters.items()}
        if dropped:
            counters.setdefault("tgi_request_failure", {})['err="dropped"'] = dropped
        families = [_family(name, "counter", values.items()) for name, values in counters.items()]
        named_gauges = {
            "tgi_batch_current_size": gauges.current_size,
            "tgi_batch_current_max_tokens": gauges.current_max_tokens,
            "tgi_queue_size": gauges.queue_size,
        }
        families += [_family(name, "gauge", [("", value)]) for name, value in named_gauges.items() if value is not None]
        return "".join(families).encode()


def _family(name: str, kind: str, values: Iterable[tuple[str, int]]) -> str:
    lines = [f"# HELP {name} {_HELP[name]}"] if name in _HELP else []
    lines.append(f"# TYPE {name} {kind}")
    lines += [f"{name}{{{label}}} {value}" if label else f"{name} {value}" for label, value in values]
    return "\n".join(lines) + "\n\n"
