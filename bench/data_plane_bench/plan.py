"""How much is measured: the load of each measure, and how long."""

from typing import Literal

import msgspec

__all__ = ["FULL", "QUICK", "MeasureName", "Plan", "for_slow"]

MeasureName = Literal["cpu", "max", "latency", "burst", "short", "memory", "held", "hangup", "flat"]


class Plan(msgspec.Struct, frozen=True):
    """Rates are of all streams together, in events (requests) per second."""

    seconds: float = 4.0
    warm_up_seconds: float = 1.0
    streams: int = 64
    cpu_rate: float = 25_600
    latency_rate: float = 3_200
    burst_rate: float = 3_200
    hangup_rate: float = 3_200
    # Where the search for the maximum begins, and where it ends at the latest.
    max_from_rate: float = 16_000
    max_to_rate: float = 200_000
    max_precision: float = 0.03
    connections: int = 64
    short_rate: float = 500
    idle_streams: int = 2_000
    held_streams: int = 9_500
    held_rate: float = 2_500
    # After how many short requests the memory is read.
    flat_few: int = 100_000
    flat_many: int = 1_000_000


FULL = Plan()
QUICK = Plan(
    seconds=0.5,
    warm_up_seconds=0.2,
    max_precision=0.2,
    idle_streams=200,
    held_streams=500,
    flat_few=1_000,
    flat_many=10_000,
)


def for_slow(plan: Plan) -> Plan:
    """For a proxy that is overrun by what the others carry."""
    return msgspec.structs.replace(
        plan,
        latency_rate=min(plan.latency_rate, 640),
        hangup_rate=min(plan.hangup_rate, 640),
        max_from_rate=min(plan.max_from_rate, 320),
        connections=min(plan.connections, 16),
        short_rate=min(plan.short_rate, 50),
        idle_streams=0,
    )
