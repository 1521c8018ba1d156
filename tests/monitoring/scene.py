"""What the dashboard is looked at with: two proxies with clients, one of which only observes, the pages of an operator
and of an injector, and a Prometheus that reads them all and has our rules."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fairqueue_monitoring.made_files import rule_files, write
from fairqueue_monitoring.rule_files import Rules
from fairqueue_operator.injection import Reason
from fairqueue_operator.verdict import Verdict
from monitoring.faulty_cluster import FaultyCluster, faulty_cluster
from monitoring.fleet import Lane, Plan, lanes
from monitoring.prometheus_server import Server, prometheus

# An hour of rules takes 36 seconds, five minutes three.
FACTOR = 100.0
INTERVAL = "500ms"
RATE_INTERVAL = "3s"
WORK_EVERY_SECONDS = 0.25

TENANTS = (
    {"name": "chat", "group": "people", "weight": 2},
    {"name": "reports", "group": "people"},
    {"name": "batch", "group": "machines", "limits": {"maxQueued": 3}},
)
GROUPS = ({"name": "people", "weight": 2}, {"name": "machines"})
PLANS = (
    Plan(
        "shared",
        "vllm",
        tenants=TENANTS,
        policy={"groups": GROUPS, "backpressure": {"maxRequests": 4}, "queue": {"maxRequests": 4}},
    ),
    Plan("watched", "tgi", tenants=TENANTS, policy={"groups": GROUPS, "mode": "Observe"}),
)
# Who has no key that anybody knows.
STRANGER = "stranger"


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Server]:
    """All of it, with clients that ask for more than there is, for the length of the block."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(faulty_cluster())
        proxies = await stack.enter_async_context(lanes(folder, PLANS))
        for lane in proxies.values():
            _ask_for_too_much(lane)
        await stack.enter_async_context(_busy(cluster))
        yield await stack.enter_async_context(_watching(folder, list(proxies.values()), cluster))


def _ask_for_too_much(lane: Lane) -> None:
    lane.crowd.join("chat", 4)
    lane.crowd.join("reports", 2)
    lane.crowd.join("batch", 8)
    lane.crowd.join(STRANGER, 1)


@asynccontextmanager
async def _busy(cluster: FaultyCluster) -> AsyncIterator[None]:
    """Pods are decided on, policies are looked at, and some pods have no proxy."""

    async def work() -> None:
        while True:
            cluster.injector.decided(Verdict(Reason.INJECTED), 0.002)
            cluster.operator.seconds.observe(0.01)
            cluster.operator.writes.labels("status").inc()
            await asyncio.sleep(WORK_EVERY_SECONDS)

    cluster.injector.bare_pods(3)
    task = asyncio.create_task(work())
    yield
    task.cancel()


@asynccontextmanager
async def _watching(folder: Path, proxies: Sequence[Lane], cluster: FaultyCluster) -> AsyncIterator[Server]:
    rules = write(rule_files(Rules(FACTOR), folder))
    targets = {
        "fairqueue-proxy": [it.instance for it in proxies],
        "fairqueue-operator": [cluster.operator_page.instance],
        "fairqueue-injector": [cluster.injector_page.instance],
    }
    async with prometheus(folder / "prometheus", targets, rules, interval=INTERVAL) as server:
        yield server
