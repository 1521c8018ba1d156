"""Memory: when nothing happens, for each stream that is open, and after many requests. Noise does not change it."""

import asyncio

from data_plane_bench.plan import Plan
from data_plane_bench.processes import memory_bytes
from data_plane_bench.runs import Run
from data_plane_bench.spans import open_streams
from data_plane_bench.stack import Stack

__all__ = ["measure_flat", "measure_memory"]

SETTLE_SECONDS = 0.5


async def measure_memory(stack: Stack, plan: Plan) -> list[Run]:
    """After a few requests, and with streams that stand still."""
    await _requests(stack, plan, plan.connections)
    figures = {"base_bytes": await _settled(stack)}
    troubles = []
    if plan.idle_streams:
        async with open_streams(stack, plan.idle_streams) as streams:
            held = streams.held.held
            if held < plan.idle_streams:
                troubles.append(f"{held} of {plan.idle_streams} streams were held")
            figures["idle_stream_bytes"] = (await _settled(stack) - figures["base_bytes"]) / max(held, 1)
    return [Run(figures, troubles=troubles)]


async def measure_flat(stack: Stack, plan: Plan) -> list[Run]:
    """After some requests, when all that is made once is there, and after many more."""
    await _requests(stack, plan, plan.flat_few)
    few = await _settled(stack)
    await _requests(stack, plan, plan.flat_many - plan.flat_few)
    return [Run({"after_few_bytes": few, "after_many_bytes": await _settled(stack)})]


async def _settled(stack: Stack) -> float:
    await asyncio.sleep(SETTLE_SECONDS)
    stack.check()
    assert stack.child is not None
    return float(memory_bytes(stack.child.pid))


async def _requests(stack: Stack, plan: Plan, count: int) -> None:
    api = stack.proxy.api
    await stack.load.short(api.short_path, api.short_body, plan.connections, ("--count", str(count)))
