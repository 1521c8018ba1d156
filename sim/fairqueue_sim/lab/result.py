"""Results of `fairqueue simulate` and `fairqueue load`: one shape, as JSON and for whoever draws it.

Service is in cost units (1 for a prompt token, 2 for an output token). Percentiles are nearest-rank, so that each is a
value that was measured. What a run can't know is None.
"""

import math
from collections.abc import Sequence

from msgspec import Struct, json

__all__ = [
    "EngineWaiting",
    "GapResult",
    "LightTenants",
    "Result",
    "RunResult",
    "ServiceDifferenceResult",
    "TenantResult",
    "TtftSeconds",
    "percentile",
    "ttft_of",
]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the ascending values do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class TtftSeconds(Struct, frozen=True):
    """Times to first token; all None when there was none."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None


def ttft_of(seconds: Sequence[float]) -> TtftSeconds:
    """The figures of some times to first token."""
    if not seconds:
        return TtftSeconds()
    ordered = sorted(seconds)
    p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
    return TtftSeconds(sum(ordered) / len(ordered), p50, p90, p99, ordered[-1])


class ServiceDifferenceResult(Struct, frozen=True):
    """The paper's D over the windows, in cost units per second."""

    max: float
    avg: float
    var: float


class GapResult(Struct, frozen=True):
    """The distance of counters that are promised to stay together where it was closest to its bound, the bound then,
    and how often it was more."""

    max: float
    bound: float
    violations: int


class EngineWaiting(Struct, frozen=True):
    """Requests in the engine's own queue right after a step with newcomers, of those that would have fitted."""

    p50: float
    p95: float
    max: float


class TenantResult(Struct, frozen=True):
    """`prompt_tokens`, `output_tokens` and `service` are of what was completed."""

    name: str
    weight: float
    requests: int
    completed: int
    refused: int
    prompt_tokens: int
    output_tokens: int
    service: int
    ttft_seconds: TtftSeconds


class LightTenants(Struct, frozen=True):
    """Those with at most `most_requests`, a twenty-fifth of all: together."""

    most_requests: int
    tenants: int
    ttft_seconds: TtftSeconds


class RunResult(Struct, frozen=True):
    """One scheduler. `throughput_tokens_per_second` counts prompts and outputs until the last reply, its drain
    included; `refusals` are by reason."""

    scheduler: str | None
    throughput_tokens_per_second: float
    service_difference: ServiceDifferenceResult | None
    jain_index: float | None
    gap: GapResult | None
    engine_waiting: EngineWaiting | None
    tenants: tuple[TenantResult, ...]
    light_tenants: LightTenants | None = None
    refusals: dict[str, int] = {}


class Result(Struct, frozen=True):
    """A workload, and what became of it under each scheduler."""

    workload: str
    model_profile: str | None
    runs: tuple[RunResult, ...]

    def to_json(self) -> bytes:
        """The same result gives the same bytes."""
        return json.encode(self)
