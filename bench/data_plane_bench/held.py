"""Many streams at once: how many are held, how soon they are open, and how late a few events come to them."""

import resource

from data_plane_bench.noise import tried
from data_plane_bench.plan import Plan
from data_plane_bench.runs import Run
from data_plane_bench.spans import measured, open_streams
from data_plane_bench.stack import Stack

__all__ = ["measure_held", "most_streams"]

# A proxy has two connections for each stream, and a few of its own.
OWN_DESCRIPTORS = 500


def most_streams(wanted: int) -> int:
    """As many of those as the limit on descriptors allows."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return wanted if limit == resource.RLIM_INFINITY else min(wanted, (limit - OWN_DESCRIPTORS) // 2)


async def measure_held(stack: Stack, plan: Plan) -> list[Run]:
    """They are opened once; events are measured again while that is noisy."""
    count = most_streams(plan.held_streams)
    troubles = []
    if count < plan.held_streams:
        troubles.append(f"only {count} streams were tried: the limit on descriptors allows no more")
    async with open_streams(stack, count) as streams:
        held = streams.held
        opened = {"held": float(held.held), "refused": float(held.refused), "open_seconds": held.seconds}

        async def once() -> Run:
            run = (await measured(stack, streams, plan.held_rate, plan)).run()
            return Run({**run.figures, **opened}, run.noise, run.invalid, [*troubles, *run.troubles])

        return await tried(once)
