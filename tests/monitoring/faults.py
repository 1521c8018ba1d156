"""The faults of proxies and engines. Each is a context manager: broken on entry, mended on leaving; it tells the alarms
that it must raise, all of them. `PLANS` are the lanes in which they happen, `begin` what goes on there all the time."""

import asyncio
import contextlib
import json
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from monitoring.alert_watch import LOOK_SECONDS, Alarm, alarm
from monitoring.faulty_proxy import FILE, Defect
from monitoring.fleet import JOB, USAGE_FOLDER, Ask, Crowd, Lane, Plan
from proxy.samples import sample

Alarms = Sequence[Alarm]
Fault = contextlib.AbstractAsyncContextManager[Alarms]

PATIENCE_SECONDS = 30.0
NEVER = 1_000_000
FOUR = {"backpressure": {"maxRequests": 4}}
SHORT = Ask(pause_seconds=0.4)
# Four tokens in each chunk, where a chunk counts as one until the engine says more at the end.
MERGED = Ask("[[merge=4]] word word", output_tokens=16)
# More than half of the 100 tokens that the policy lets in at once.
LARGE = Ask("word " * 20, output_tokens=40)

PLANS: Sequence[Plan] = (
    Plan("starving", tenants=("victim", "favoured"), policy=FOUR, faulty=True),
    Plan("short", tenants=("victim", "favoured"), policy=FOUR, faulty=True),
    Plan("queueing", policy=FOUR),
    Plan("bypassed", engine="vllm"),
    Plan("drifting", engine="openai", slots=8, tenants=("one", "merged")),
    Plan("refused"),
    Plan("changed", policy_name="shared"),
    Plan("unchanged", policy_name="shared"),
    Plan("stuck", tenants=("one", "large"), policy={"backpressure": {"maxTokens": 100}}),
    Plan(
        "refusing",
        slots=2,
        tenants=("one", "crowd"),
        policy={"backpressure": {"maxRequests": 2}, "queue": {"timeout": "1s"}},
    ),
    Plan(
        "limited",
        slots=2,
        tenants=("one", {"name": "greedy", "limits": {"maxQueued": 1}}),
        policy={"backpressure": {"maxRequests": 2}},
    ),
    Plan("billed", usage_log=True),
    Plan("dead"),
    Plan("hanging"),
)
BUSY: Mapping[str, Sequence[str]] = {"starving": ("victim", "favoured"), "short": ("victim", "favoured")}
QUIET = ("changed", "unchanged")
CLIENTS_OF_A_BUSY_TENANT = 10
MORE_CLIENTS = 14


def begin(lane: Lane) -> None:
    """Its clients come: some have more work than the engine takes, others a request now and then."""
    if lane.name in BUSY:
        for tenant in BUSY[lane.name]:
            lane.crowd.join(tenant, CLIENTS_OF_A_BUSY_TENANT)
    elif lane.name == "queueing":
        lane.crowd.join("one", MORE_CLIENTS)
    elif lane.name not in QUIET:
        lane.crowd.join("one", 1, SHORT)


def proxy_faults(lanes: Mapping[str, Lane]) -> dict[str, Fault]:
    """All of them, by what they are called."""
    alone: dict[str, Callable[[Lane], Fault]] = {
        "starving": a_tenant_is_passed_over,
        "short": a_tenant_goes_every_fourth_time,
        "queueing": more_is_let_in_than_runs,
        "bypassed": clients_go_past_the_proxy,
        "drifting": chunks_hold_several_tokens,
        "refused": a_policy_cannot_be_read,
        "stuck": requests_need_more_than_half,
        "refusing": more_comes_than_is_served,
        "limited": a_tenant_floods,
        "billed": a_folder_is_gone,
        "dead": an_engine_dies,
        "hanging": a_proxy_hangs,
    }
    faults = {fault.__name__: fault(lanes[name]) for name, fault in alone.items()}
    faults[one_proxy_is_not_told.__name__] = one_proxy_is_not_told(lanes["changed"], lanes["unchanged"])
    return faults


def _of(lane: Lane, name: str, **labels: str) -> Alarm:
    return alarm(name, instance=lane.instance, job=JOB, **labels)


@asynccontextmanager
async def _defect(lane: Lane, defect: Defect) -> AsyncIterator[None]:
    """A defect ends with a restart: as there, clients lose their connections and come again."""
    defect.write(lane.folder)
    yield
    (lane.folder / FILE).unlink()
    await lane.crowd.leave(defect.victim)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sample(await lane.stack.metrics(), "queue_requests", tenant=defect.victim):
            await asyncio.sleep(LOOK_SECONDS)
    lane.crowd.join(defect.victim, CLIENTS_OF_A_BUSY_TENANT)


@asynccontextmanager
async def a_tenant_is_passed_over(lane: Lane) -> AsyncIterator[Alarms]:
    async with _defect(lane, Defect("victim", after=NEVER)):
        yield [
            _of(lane, "FairqueueTenantStarved", tenant="victim"),
            _of(lane, "FairqueueShareBelowEntitlement", tenant="victim"),
            _of(lane, "FairqueueGapAboveBound"),
        ]


@asynccontextmanager
async def a_tenant_goes_every_fourth_time(lane: Lane) -> AsyncIterator[Alarms]:
    """And starts level with the others, so that no counter tells."""
    async with _defect(lane, Defect("victim", after=3, forgotten=True)):
        yield [_of(lane, "FairqueueShareBelowEntitlement", tenant="victim")]


@asynccontextmanager
async def more_is_let_in_than_runs(lane: Lane) -> AsyncIterator[Alarms]:
    lane.change_policy(backpressure={"maxRequests": 64})
    yield [_of(lane, "FairqueueEngineQueueForming")]
    lane.change_policy(**FOUR)


@asynccontextmanager
async def clients_go_past_the_proxy(lane: Lane) -> AsyncIterator[Alarms]:
    crowd = Crowd(f"http://127.0.0.1:{lane.engine.port}", seed=1)
    crowd.join("nobody", MORE_CLIENTS)
    yield [_of(lane, "FairqueueEngineQueueForming")]
    await crowd.close()


@asynccontextmanager
async def chunks_hold_several_tokens(lane: Lane) -> AsyncIterator[Alarms]:
    lane.crowd.join("merged", 3, MERGED)
    yield [_of(lane, "FairqueueMeteringDrift")]
    await lane.crowd.leave("merged")


@asynccontextmanager
async def a_policy_cannot_be_read(lane: Lane) -> AsyncIterator[Alarms]:
    good = lane.policy.read_text()
    lane.write_policy(json.dumps({"kind": "FairnessPolicy"}))
    yield [_of(lane, "FairqueueConfigRefused")]
    lane.write_policy(good)


@asynccontextmanager
async def one_proxy_is_not_told(changed: Lane, unchanged: Lane) -> AsyncIterator[Alarms]:
    change = {"queue": {"timeout": "50s"}}
    changed.change_policy(**change)
    yield [alarm("FairqueueConfigStale", policy="default/shared")]
    unchanged.change_policy(**change)


@asynccontextmanager
async def requests_need_more_than_half(lane: Lane) -> AsyncIterator[Alarms]:
    """Of what the policy lets in, so that one runs, and what is left is enough for nobody."""
    lane.crowd.join("large", 3, LARGE)
    yield [_of(lane, "FairqueueCapacityStuckLow")]
    await lane.crowd.leave("large")


@asynccontextmanager
async def more_comes_than_is_served(lane: Lane) -> AsyncIterator[Alarms]:
    lane.crowd.join("crowd", MORE_CLIENTS)
    yield [_of(lane, "FairqueueRefusalsBurning")]
    await lane.crowd.leave("crowd")


@asynccontextmanager
async def a_tenant_floods(lane: Lane) -> AsyncIterator[Alarms]:
    lane.crowd.join("greedy", MORE_CLIENTS)
    yield [_of(lane, "FairqueueTenantAtItsLimit", tenant="greedy")]
    await lane.crowd.leave("greedy")


@asynccontextmanager
async def a_folder_is_gone(lane: Lane) -> AsyncIterator[Alarms]:
    """That of the usage log, as a volume may be."""
    usage = lane.folder / USAGE_FOLDER
    shutil.rmtree(usage)
    yield [_of(lane, "FairqueueUsageLogFailing", because="lines can't be written")]
    usage.mkdir()


@asynccontextmanager
async def an_engine_dies(lane: Lane) -> AsyncIterator[Alarms]:
    """Whoever comes meanwhile is refused, which has an alert of its own."""
    await lane.engine.kill()
    yield [_of(lane, "FairqueueEngineDown"), _of(lane, "FairqueueRefusalsBurning")]
    await lane.engine.start()


@asynccontextmanager
async def a_proxy_hangs(lane: Lane) -> AsyncIterator[Alarms]:
    process = lane.stack.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    yield [_of(lane, "FairqueueProxyNotScraped")]
    process.send_signal(signal.SIGCONT)
