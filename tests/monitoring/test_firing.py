"""Each alert, seen: a real Prometheus reads real proxies, something is broken, the alert fires and Alertmanager is
told; it is mended, and the alert is over. All faults happen once, side by side, each in a lane of its own; then each
test looks at what was seen of one alert.

What was seen is written to the file that FAIRQUEUE_FIRING_RECORD names, or to build/alerts/firing.json.
"""

import asyncio
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fairqueue_monitoring.rule_files import Rules
from monitoring.alert_watch import Alarm, AlertWatch, Span, spans, unread_since
from monitoring.faults import PLANS, Fault, begin, proxy_faults
from monitoring.faulty_cluster import FaultyCluster, faulty_cluster
from monitoring.fleet import Lane, lanes, targets
from monitoring.observed_rules import FACTOR, INTERVAL, observed
from monitoring.prometheus_server import needs

pytestmark = [pytest.mark.long, needs("prometheus", "prometheus-alertmanager")]

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(os.environ.get("FAIRQUEUE_FIRING_RECORD") or ROOT / "build" / "alerts" / "firing.json")
PATIENCE_SECONDS = 120.0
SLACK_SECONDS = 1.0
WARM_UP_SECONDS = 15.0
"""As long as the longest window of a rule, but for an hour's."""


@dataclass(slots=True)
class Seen:
    """What was seen of an alarm; seconds are since the fault came, and since it went. None: nothing in two minutes."""

    alarm: Alarm
    fault: str
    firing: float | None = None
    notified: float | None = None
    resolved: float | None = None


@dataclass(frozen=True, slots=True)
class Drama:
    """All that was seen, and when each alarm fired as Prometheus has it written down. `unread` are the times at which
    an instance did not answer a scrape in time, `lanes` the names of instances."""

    seen: list[Seen]
    spans: Mapping[Alarm, list[Span]]
    unread: Mapping[str, list[float]]
    lanes: Mapping[str, str]

    def named(self, alarm: Alarm) -> dict[str, str]:
        """Its labels, with lanes for addresses."""
        return {name: self.lanes.get(value, value) for name, value in sorted(alarm.labels)}

    def times(self, alarm: Alarm) -> int:
        """How often it came. Where it was gone because a machine that is too busy was not read, that is nothing new."""
        instance = dict(alarm.labels).get("instance")
        unread = [at for name, times in self.unread.items() if instance in (None, name) for at in times]
        found = self.spans.get(alarm, [])
        gaps = [(before.ended - SLACK_SECONDS, after.began) for before, after in itertools.pairwise(found)]
        return len(found) - sum(any(ended <= at <= began for at in unread) for ended, began in gaps)


@pytest.fixture(scope="module")
def drama(tmp_path_factory: pytest.TempPathFactory) -> Drama:
    found = asyncio.run(_perform(tmp_path_factory.mktemp("firing")))
    _write(found)
    return found


@pytest.mark.parametrize("name", [alert.name for alert in Rules().alerts])
def test_an_alert_fires_is_told_and_is_over_when_its_cause_is(drama: Drama, name: str) -> None:
    seen = [it for it in drama.seen if it.alarm.name == name]
    assert seen, f"{name}: no fault raises it"
    for it in seen:
        assert None not in (it.firing, it.notified, it.resolved), it


def test_no_alert_fires_for_anybody_else(drama: Drama) -> None:
    fired = drama.spans.keys() - {it.alarm for it in drama.seen}
    assert [(it.name, drama.named(it)) for it in fired] == []


def test_none_goes_and_comes_again_while_its_cause_lasts(drama: Drama) -> None:
    causes = Counter(it.alarm for it in drama.seen)
    flapping = [(it.name, drama.named(it), drama.spans[it]) for it in causes if drama.times(it) > causes[it]]
    assert flapping == []


async def _perform(folder: Path) -> Drama:
    async with faulty_cluster() as cluster, lanes(folder, PLANS) as fleet:
        for lane in fleet.values():
            begin(lane)
        async with observed(folder, targets(fleet) | cluster.targets) as world, asyncio.TaskGroup() as group:
            watching = group.create_task(world.watch.run())
            began = time.time()
            await asyncio.sleep(WARM_UP_SECONDS)
            seen = await _all_faults(fleet, cluster, world.watch)
            watching.cancel()
            fired, unread = await spans(world.prometheus, began), await unread_since(world.prometheus, began)
        names = {lane.instance: lane.name for lane in fleet.values()}
        return Drama(seen, fired, unread, {**names, cluster.injector_page.instance: "injector"})


async def _all_faults(fleet: Mapping[str, Lane], cluster: FaultyCluster, watch: AlertWatch) -> list[Seen]:
    async def of_the_cluster() -> list[Seen]:
        first = await _side_by_side(cluster.first_faults(), watch)
        return first + await _side_by_side(cluster.second_faults(), watch)

    early = await asyncio.gather(
        _side_by_side(proxy_faults(fleet), watch),
        _side_by_side({"a_certificate_ends": cluster.certificate_ends()}, watch),
        of_the_cluster(),
    )
    late = await _side_by_side({"no_injector_answers": cluster.no_injector_answers()}, watch)
    return [*(it for found in early for it in found), *late]


async def _side_by_side(faults: Mapping[str, Fault], watch: AlertWatch) -> list[Seen]:
    found = await asyncio.gather(*(_play(name, fault, watch) for name, fault in faults.items()))
    return [it for each in found for it in each]


async def _play(name: str, fault: Fault, watch: AlertWatch) -> list[Seen]:
    """Broken until all its alarms are seen; then until none is."""
    async with fault as alarms:
        seen = [Seen(it, name) for it in alarms]
        await asyncio.gather(*(_raised(it, watch) for it in seen))
    await asyncio.gather(*(_resolved(it, watch) for it in seen))
    return seen


async def _raised(seen: Seen, watch: AlertWatch) -> None:
    since = time.monotonic()
    seen.firing = await _seconds(watch, lambda: seen.alarm in watch.firing, since)
    seen.notified = await _seconds(watch, lambda: seen.alarm in watch.notified, since)


async def _resolved(seen: Seen, watch: AlertWatch) -> None:
    seen.resolved = await _seconds(watch, lambda: seen.alarm not in watch.firing | watch.notified, time.monotonic())


async def _seconds(watch: AlertWatch, condition: Callable[[], bool], since: float) -> float | None:
    try:
        await watch.until(condition, PATIENCE_SECONDS)
    except TimeoutError:
        return None
    return round(time.monotonic() - since, 1)


def _write(drama: Drama) -> None:
    """Of each alert the longest times, and what was seen of each fault."""
    alerts: dict[str, dict[str, Any]] = {}
    for it in sorted(drama.seen, key=lambda it: (it.alarm.name, it.fault)):
        told = {"fault": it.fault, "labels": drama.named(it.alarm)}
        times = {"fired_seconds": it.firing, "notified_seconds": it.notified, "resolved_seconds": it.resolved}
        alert = alerts.setdefault(it.alarm.name, {"seen": []})
        alert["seen"].append(told | times)
        for name in ("fired_seconds", "resolved_seconds"):
            alert[name] = max(alert.get(name, 0.0), times[name] or 0.0)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps({"factor": FACTOR, "interval": INTERVAL, "alerts": alerts}, indent=2) + "\n")
