"""A span of time in which open streams carry events at a rate: what came, when, and what it cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from data_plane_bench.load import Reading, Streams
from data_plane_bench.noise import Noise, NoiseWatch
from data_plane_bench.plan import Plan
from data_plane_bench.processes import tree_run_seconds
from data_plane_bench.runs import Run
from data_plane_bench.stack import Stack
from data_plane_bench.upstream import Mode

__all__ = ["MOST_EVENTS_PER_READ", "Span", "measured", "open_streams"]

MOST_EVENTS_PER_READ = 1.1
LEAST_DELIVERED = 0.98


@dataclass(frozen=True, slots=True)
class Span:
    """`rate` was asked for, of all streams; `cpu_seconds` are the proxy's; `missed` the upstream was too late for."""

    rate: float
    reading: Reading
    cpu_seconds: float
    missed: int
    refused: int
    noise: Noise

    @property
    def delivered(self) -> float:
        return self.reading.per_second / self.rate

    @property
    def invalid(self) -> str:
        """Why its figures don't count, or nothing."""
        if self.reading.latency_us is None:
            return "no event came"
        if self.reading.events_per_read > MOST_EVENTS_PER_READ:
            return f"{self.reading.events_per_read:.2f} events per read"
        if self.delivered < LEAST_DELIVERED:
            return f"{self.delivered:.1%} of the events came"
        return ""

    def run(self) -> Run:
        """With all figures of a span."""
        reading, latency = self.reading, self.reading.latency_us
        figures = {
            "events_per_second": reading.per_second,
            "events_per_read": reading.events_per_read,
            "bytes_per_event": reading.bytes / max(reading.events, 1),
            "cores": self.cpu_seconds / reading.seconds,
            "cpu_us_per_event": self.cpu_seconds * 1e6 / max(reading.events, 1),
        }
        if latency is not None:
            figures |= {"p50_us": latency.p50, "p99_us": latency.p99, "most_us": latency.max}
        troubles = []
        if self.refused:
            troubles.append(f"{self.refused} streams were refused")
        if reading.broken:
            troubles.append(f"{reading.broken} streams broke")
        if self.missed:
            troubles.append(f"the upstream was late with {self.missed} events")
        return Run(figures, self.noise, self.invalid, troubles)


@asynccontextmanager
async def open_streams(stack: Stack, count: int) -> AsyncIterator[Streams]:
    """Through the proxy, each with its first event; they stand still."""
    api = stack.proxy.api
    await stack.upstream.set("paced", 0)
    async with stack.load.streams(api.stream_path, api.stream_body, count) as streams:
        yield streams


async def measured(stack: Stack, streams: Streams, rate: float, plan: Plan, mode: Mode = "paced") -> Span:
    """Warms up at the rate, then measures; the streams go on at it."""
    await stack.upstream.set(mode, rate / max(streams.held.held, 1))
    await asyncio.sleep(plan.warm_up_seconds)
    before, watch = await stack.upstream.stats(), NoiseWatch(stack.cores.all)
    cpu_before = _proxy_seconds(stack)
    streams.start()
    await asyncio.sleep(plan.seconds)
    reading = await streams.stop()
    cpu_seconds = _proxy_seconds(stack) - cpu_before
    noise, after = watch.read(), await stack.upstream.stats()
    stack.check()
    return Span(rate, reading, cpu_seconds, after.missed - before.missed, streams.held.refused, noise)


def _proxy_seconds(stack: Stack) -> float:
    return 0.0 if stack.child is None else tree_run_seconds(stack.child.pid)
