"""What the data plane is to reach, and whether it does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data_plane_bench.proxies import BASE, FAIRQUEUE, FAIRQUEUE_VLLM, LITELLM, REFERENCE
from data_plane_bench.summary import Spread, Summary
from data_plane_bench.units import Unit

__all__ = ["Goal", "goals_of"]

FLAT = 1.05


@dataclass(frozen=True, slots=True)
class Goal:
    """`figure` is None where it was not measured; `met` then, too."""

    what: str
    bound: float
    side: Literal["at most", "at least"]
    unit: Unit
    figure: Spread | None

    @property
    def met(self) -> bool | None:
        if self.figure is None:
            return None
        return self.figure.median <= self.bound if self.side == "at most" else self.figure.median >= self.bound


def goals_of(it: Summary) -> list[Goal]:
    """All of them, in the order in which they were set."""
    return [*_cpu_goals(it), *_latency_goals(it), *_short_goals(it), *_memory_goals(it), *_stream_goals(it)]


def _cpu_goals(it: Summary) -> Sequence[Goal]:
    def ratio(proxy: str) -> Spread | None:
        return it.ratio("cpu", proxy, REFERENCE, "cpu_us_per_event")

    most = it.spread("max", FAIRQUEUE, "events_per_second")
    of_nginx = it.ratio("max", FAIRQUEUE, REFERENCE, "events_per_second")
    of_litellm = it.ratio("max", FAIRQUEUE, LITELLM, "events_per_second")
    return (
        Goal("CPU per event at 25,600 events/s, against nginx (TGI)", 1.2, "at most", "times", ratio(FAIRQUEUE)),
        Goal("the same with usage taken out (vLLM)", 1.6, "at most", "times", ratio(FAIRQUEUE_VLLM)),
        Goal("largest rate on one core, p99 ≤ 5 ms", 50_000, "at least", "events/s", most),
        Goal("the same against nginx", 0.75, "at least", "times", of_nginx),
        Goal("the same against LiteLLM", 20, "at least", "times", of_litellm),
    )


def _latency_goals(it: Summary) -> Sequence[Goal]:
    p50, p99 = (it.added("latency", FAIRQUEUE, BASE, figure) for figure in ("p50_us", "p99_us"))
    burst = it.spread("burst", FAIRQUEUE, "p99_us")
    return (
        Goal("added latency at 3,200 events/s, p50", 100, "at most", "µs", p50),
        Goal("the same, p99", 500, "at most", "µs", p99),
        Goal("64 streams at one instant, p99", 2_500, "at most", "µs", burst),
    )


def _short_goals(it: Summary) -> Sequence[Goal]:
    most = it.spread("short", FAIRQUEUE, "requests_per_second")
    of_litellm = it.ratio("short", FAIRQUEUE, LITELLM, "requests_per_second")
    return (
        Goal("short requests on one core", 10_000, "at least", "requests/s", most),
        Goal("the same against LiteLLM", 20, "at least", "times", of_litellm),
    )


def _memory_goals(it: Summary) -> Sequence[Goal]:
    base = it.spread("memory", FAIRQUEUE, "base_bytes")
    stream = it.spread("memory", FAIRQUEUE, "idle_stream_bytes")
    grown = it.grown("flat", FAIRQUEUE, "after_few_bytes", "after_many_bytes")
    return (
        Goal("memory when idle", 60e6, "at most", "MB", base),
        Goal("memory for each idle stream", 25e3, "at most", "kB", stream),
        Goal("memory after 1,000,000 requests, against 100,000", FLAT, "at most", "times", grown),
    )


def _stream_goals(it: Summary) -> Sequence[Goal]:
    held, p99 = (it.spread("held", FAIRQUEUE, figure) for figure in ("held", "p99_us"))
    hangup = it.spread("hangup", FAIRQUEUE, "seconds")
    return (
        Goal("streams held at once", 9_500, "at least", "streams", held),
        Goal("the same at 2,500 events/s, p99", 1_000, "at most", "µs", p99),
        Goal("client's hang-up until the engine's connection is closed", 0.1, "at most", "ms", hangup),
    )
