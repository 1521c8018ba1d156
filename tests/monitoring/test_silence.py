"""An hour of traffic, which at factor 60 is a minute: normal, and more than the engine takes but fair, raise no alert
at all; and where requests are refused, the alerts say that and nothing else."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from monitoring.alert_watch import LOOK_SECONDS, Alarm, alarm, spans
from monitoring.faulty_cluster import faulty_cluster
from monitoring.fleet import JOB, Ask, Lane, Plan, lanes, targets
from monitoring.observed_rules import observed
from monitoring.prometheus_server import Server, needs
from proxy.samples import sample

pytestmark = [pytest.mark.long, needs("prometheus", "prometheus-alertmanager")]

HOUR_SECONDS = 60.0
"""An hour's, at factor 60."""
PATIENCE_SECONDS = 60.0
FEW_WAITING = 2
MANY_REQUESTS = 200
LONG_WAIT_SECONDS = 1.0
"""A minute's, at factor 60."""
PLENTY = {"maxRequests": 10_000, "maxRequestsPerTenant": 10_000, "timeout": "10m"}

NORMAL = Plan(
    "normal",
    engine="vllm",
    slots=16,
    tenants=({"name": "chat", "weight": 3}, {"name": "batch", "weight": 1}, {"name": "agents", "weight": 2}),
)
FAIR = Plan(
    "fair",
    slots=6,
    tenants=(
        {"name": "chat", "group": "research", "weight": 3},
        {"name": "flood", "group": "research"},
        {"name": "support", "group": "sales", "weight": 2},
        {"name": "mails", "group": "sales"},
        {"name": "capped", "limits": {"maxInFlight": 1}},
        {"name": "sometimes", "weight": 2},
    ),
    policy={
        "groups": [{"name": "research", "weight": 2}, {"name": "sales"}],
        "queue": PLENTY,
        "backpressure": {"maxRequests": 6},
    },
    usage_log=True,
)
# The same crowd, where what is let in is not set but learned.
LEARNED = replace(FAIR, name="learned", engine="vllm", policy={"groups": FAIR.policy["groups"], "queue": PLENTY})
# Its engine loads the model for ten minutes.
LOADING = Plan("loading", engine_starts=False)
LOADING_SECONDS = 10.0
REFUSING = Plan(
    "refusing",
    slots=4,
    tenants=("one", "two", {"name": "greedy", "limits": {"maxQueued": 2}}),
    policy={"backpressure": {"maxRequests": 4}, "queue": {"maxRequests": 8}},
)
ALWAYS_BACKLOGGED = ("chat", "flood", "support", "mails")


def crowd_normal(lane: Lane) -> None:
    """About half of what the engine can do."""
    lane.crowd.join("chat", 12, Ask(pause_seconds=3.0))
    lane.crowd.join("agents", 4, Ask("word " * 50, output_tokens=20, pause_seconds=2.0))
    lane.crowd.join("batch", 1, Ask("word " * 30, output_tokens=30, pause_seconds=0.2))


def crowd_fair(lane: Lane) -> None:
    """Several times as much; half of them never has enough."""
    lane.crowd.join("chat", 8)
    lane.crowd.join("flood", 24, Ask("word " * 40, output_tokens=24))
    lane.crowd.join("support", 6, Ask("word " * 100, output_tokens=4))
    lane.crowd.join("mails", 10, Ask(output_tokens=16))
    lane.crowd.join("capped", 4)
    lane.crowd.join("sometimes", 3, Ask(pause_seconds=4.0))


def crowd_refusing(lane: Lane) -> None:
    lane.crowd.join("one", 8)
    lane.crowd.join("two", 8)
    lane.crowd.join("greedy", 8)


async def test_an_hour_of_normal_and_of_fair_traffic_raises_nothing_and_one_of_refusals_only_these(
    tmp_path: Path,
) -> None:
    async with faulty_cluster() as cluster, lanes(tmp_path, [NORMAL, FAIR, LEARNED, LOADING, REFUSING]) as fleet:
        normal, fair, learned, loading, refusing = fleet.values()
        cluster.figures.pods.update(matched=len(fleet), injected=len(fleet), started=len(fleet), current=len(fleet))
        crowd_fair(learned)
        await _learned(learned)
        async with observed(tmp_path, targets(fleet) | cluster.targets) as world:
            began = time.time()
            crowd_normal(normal)
            crowd_fair(fair)
            crowd_refusing(refusing)
            await asyncio.sleep(LOADING_SECONDS)
            cluster.has_a_bad_minute()
            cluster.figures.pods["injected"] += 1
            await loading.engine.start()
            loading.crowd.join("one", 4)
            await asyncio.sleep(HOUR_SECONDS)
            await _was_what_it_should_be(world.prometheus, fleet)
            fired = await spans(world.prometheus, began)
            near = await spans(world.prometheus, began, state="pending")
    names = {lane.instance: lane.name for lane in fleet.values()}
    for it, found in near.items():
        lane = names.get(dict(it.labels).get("instance", ""), "")
        print(f"pending: {it.name} {lane} for {max(span.ended - span.began for span in found):.1f} s")
    assert set(fired) == {
        _of(refusing, "FairqueueRefusalsBurning"),
        _of(refusing, "FairqueueTenantAtItsLimit", "greedy"),
    }


async def _learned(lane: Lane) -> None:
    """Until it is known how many the engine runs, more are sent and wait in it: for seconds, which are no minutes."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not _is_within_learned(await lane.stack.metrics()):
            await asyncio.sleep(LOOK_SECONDS)


def _is_within_learned(text: str) -> bool:
    """What is in the engine is no more than was learned, and the engine's own count says so, too."""
    try:
        limit = sample(text, "capacity_limit", budget="requests", source="learned")
        waiting = sample(text, "engine_waiting_requests")
    except KeyError:
        return False
    return sample(text, "capacity_used", budget="requests") <= limit and waiting <= FEW_WAITING


async def _was_what_it_should_be(server: Server, fleet: Mapping[str, Lane]) -> None:
    """The traffic was what this is about: requests enough, somebody who waited long, and refusals in one lane only."""
    lane_of = {lane.instance: lane.name for lane in fleet.values()}

    async def by_lane(expression: str) -> dict[str, float]:
        found = await server.query(f"max by (instance) ({expression})")
        return {lane_of[it["metric"]["instance"]]: float(it["value"][1]) for it in found}

    ended = await by_lane("sum by (instance) (fairqueue_requests_total)")
    others = await by_lane('sum by (instance) (fairqueue_requests_total{outcome!="completed"}) > 0')
    waits = await by_lane("fairqueue_queue_seconds_sum / fairqueue_queue_seconds_count")
    print(f"ended {ended}, not completed {others}, mean waits in seconds {waits}")
    assert min(ended.values()) > MANY_REQUESTS
    assert set(others) == {"refusing"}
    assert waits["normal"] < LONG_WAIT_SECONDS < min(waits["fair"], waits["learned"])
    backlogged = await server.query(f"increase(fairqueue_backlogged_seconds_total[{HOUR_SECONDS:.0f}s])")
    always = {
        (lane_of[it["metric"]["instance"]], it["metric"]["tenant"])
        for it in backlogged
        if float(it["value"][1]) > 0.95 * HOUR_SECONDS
    }
    assert {(lane, tenant) for lane in ("fair", "learned") for tenant in ALWAYS_BACKLOGGED} <= always


def _of(lane: Lane, name: str, tenant: str | None = None) -> Alarm:
    labels = {"instance": lane.instance, "job": JOB, **({"tenant": tenant} if tenant else {})}
    return alarm(name, **labels)
