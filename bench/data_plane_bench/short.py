"""Short requests: as many as go through a few connections, and how long a few take."""

from data_plane_bench.load import ShortReading
from data_plane_bench.noise import NoiseWatch, tried
from data_plane_bench.plan import Plan
from data_plane_bench.runs import Run
from data_plane_bench.stack import Stack

__all__ = ["measure_short"]

MOST_FAILURES = 0.001


async def measure_short(stack: Stack, plan: Plan) -> list[Run]:
    """Each connection sends its next request when it has its reply; then so many per second, evenly."""

    async def once() -> Run:
        watch = NoiseWatch(stack.cores.all)
        closed = await _requests(stack, plan)
        paced = await _requests(stack, plan, "--rate", str(plan.short_rate))
        noise = watch.read()
        stack.check()
        figures = {"requests_per_second": closed.per_second}
        if paced.latency_us is not None:
            figures |= {"paced_p50_us": paced.latency_us.p50, "paced_p99_us": paced.latency_us.p99}
        return Run(figures, noise, _invalid(closed) or _invalid(paced))

    return await tried(once)


async def _requests(stack: Stack, plan: Plan, *options: str) -> ShortReading:
    span = ("--seconds", str(plan.seconds), "--warm-up", str(plan.warm_up_seconds))
    api = stack.proxy.api
    return await stack.load.short(api.short_path, api.short_body, plan.connections, (*span, *options))


def _invalid(reading: ShortReading) -> str:
    if reading.requests == 0 or reading.failures > MOST_FAILURES * reading.requests:
        return f"{reading.failures} of {reading.failures + reading.requests} requests failed"
    return ""
