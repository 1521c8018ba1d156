"""What is measured of each proxy: a function for each, which takes what runs and gives its tries."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from data_plane_bench.held import measure_held
from data_plane_bench.maximum import measure_maximum
from data_plane_bench.memory import measure_flat, measure_memory
from data_plane_bench.noise import tried
from data_plane_bench.plan import MeasureName, Plan
from data_plane_bench.runs import Run
from data_plane_bench.short import measure_short
from data_plane_bench.spans import measured, open_streams
from data_plane_bench.stack import Stack
from data_plane_bench.upstream import Mode

__all__ = ["MEASURES", "Measure"]

Measure = Callable[[Stack, Plan], Awaitable[list[Run]]]
POLL_SECONDS = 0.005
LONGEST_HANGUP_SECONDS = 10.0


async def _measure_cpu(stack: Stack, plan: Plan) -> list[Run]:
    return await _at_rate(stack, plan, plan.cpu_rate, "paced")


async def _measure_latency(stack: Stack, plan: Plan) -> list[Run]:
    return await _at_rate(stack, plan, plan.latency_rate, "paced")


async def _measure_burst(stack: Stack, plan: Plan) -> list[Run]:
    return await _at_rate(stack, plan, plan.burst_rate, "burst")


async def _at_rate(stack: Stack, plan: Plan, rate: float, mode: Mode) -> list[Run]:
    async with open_streams(stack, plan.streams) as streams:

        async def once() -> Run:
            return (await measured(stack, streams, rate, plan, mode)).run()

        return await tried(once)


async def _measure_hangup(stack: Stack, plan: Plan) -> list[Run]:
    """From the moment at which all clients close their streams until the upstream has none."""
    async with open_streams(stack, plan.streams) as streams:
        await stack.upstream.set("paced", plan.hangup_rate / plan.streams)
        await asyncio.sleep(plan.warm_up_seconds)
        began = time.monotonic()
        streams.quit()
        left = await _streams_left(stack, began + LONGEST_HANGUP_SECONDS)
        seconds = time.monotonic() - began
    invalid = f"{left} streams were still open after {LONGEST_HANGUP_SECONDS:.0f} s" if left else ""
    return [Run({"seconds": seconds}, invalid=invalid)]


async def _streams_left(stack: Stack, deadline: float) -> int:
    """Returns when the upstream has none, or how many at the deadline."""
    while True:
        left = (await stack.upstream.stats()).streams
        if not left or time.monotonic() >= deadline:
            return left
        await asyncio.sleep(POLL_SECONDS)


MEASURES: Mapping[MeasureName, Measure] = {
    "cpu": _measure_cpu,
    "max": measure_maximum,
    "latency": _measure_latency,
    "burst": _measure_burst,
    "short": measure_short,
    "memory": measure_memory,
    "held": measure_held,
    "hangup": _measure_hangup,
    "flat": measure_flat,
}
