"""The largest rate of events that a proxy carries one by one."""

from data_plane_bench.noise import least_noisy, tried
from data_plane_bench.plan import Plan
from data_plane_bench.runs import Run
from data_plane_bench.search import largest
from data_plane_bench.spans import Span, measured, open_streams
from data_plane_bench.stack import Stack

__all__ = ["carries", "measure_maximum"]

MOST_P99_US = 5_000


def carries(span: Span) -> bool:
    """Whether all came, soon enough and each by itself."""
    latency = span.reading.latency_us
    return not span.invalid and not span.reading.broken and latency is not None and latency.p99 <= MOST_P99_US


async def measure_maximum(stack: Stack, plan: Plan) -> list[Run]:
    """Each rate is tried again while it is noisy; the run is as noisy as the noisiest that was believed."""
    steps: list[Span] = []

    async def step(rate: float) -> bool:
        steps.append(least_noisy(await tried(lambda: _span(stack, plan, rate))))
        return carries(steps[-1])

    rate = await largest(step, plan.max_from_rate, plan.max_precision, plan.max_to_rate)
    noise = max((span.noise for span in steps), key=lambda it: it.share)
    if rate is None:
        return [Run(noise=noise, invalid=f"not even {min(span.rate for span in steps):,.0f} events/s were carried")]
    best = next(span for span in steps if span.rate == rate).run()
    return [Run({**best.figures, "events_per_second": rate}, noise, troubles=best.troubles)]


async def _span(stack: Stack, plan: Plan, rate: float) -> Span:
    """With streams of its own: what a rate that was too high left behind is closed with them."""
    async with open_streams(stack, plan.streams) as streams:
        return await measured(stack, streams, rate, plan)
