"""What fires, as Prometheus and Alertmanager say, look by look; and afterwards, when it did."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from monitoring.prometheus_server import Server

LOOK_SECONDS = 0.2
STEP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alert with its labels, apart from its severity."""

    name: str
    labels: frozenset[tuple[str, str]]

    def __str__(self) -> str:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(self.labels))
        return f"{self.name}{{{labels}}}"


def alarm(name: str, **labels: str) -> Alarm:
    """One that is expected."""
    return Alarm(name, frozenset(labels.items()))


def _alarm_of(labels: Mapping[str, str]) -> Alarm:
    rest = {
        name: value for name, value in labels.items() if name not in ("__name__", "alertname", "alertstate", "severity")
    }
    return alarm(labels["alertname"], **rest)


class AlertWatch:
    """`firing` is what Prometheus says, `notified` what Alertmanager knows as active, `seen` both and the time."""

    def __init__(self, prometheus: Server, alertmanager: Server) -> None:
        self._prometheus = prometheus
        self._alertmanager = alertmanager
        self._looked = asyncio.Condition()
        self.firing: set[Alarm] = set()
        self.notified: set[Alarm] = set()

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            self.firing = set(map(_alarm_of, await self._prometheus.firing()))
            self.notified = set(map(_alarm_of, await self._alertmanager.notified()))
            async with self._looked:
                self._looked.notify_all()
            await asyncio.sleep(LOOK_SECONDS)

    async def until(self, condition: Callable[[], bool], patience_seconds: float) -> None:
        """Waits for a look at which it is so.

        Raises:
            TimeoutError: it was not.
        """
        async with asyncio.timeout(patience_seconds), self._looked:
            await self._looked.wait_for(condition)


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when an alert fired, in seconds since 1970."""

    began: float
    ended: float


async def spans(prometheus: Server, since: float, *, state: str = "firing") -> dict[Alarm, list[Span]]:
    """All that fired (or was pending) since then."""
    found = await prometheus.query_range(f'ALERTS{{alertstate="{state}"}}', since, time.time(), STEP_SECONDS)
    return {_alarm_of(series["metric"]): _spans(float(at) for at, _ in series["values"]) for series in found}


async def unread_since(prometheus: Server, since: float) -> dict[str, list[float]]:
    """When an instance could not be read, by instance."""
    found = await prometheus.query_range("up == 0", since, time.time(), STEP_SECONDS)
    return {series["metric"]["instance"]: [float(at) for at, _ in series["values"]] for series in found}


def _spans(times: Iterable[float]) -> list[Span]:
    found: list[Span] = []
    for at in times:
        if found and at - found[-1].ended <= 1.5 * STEP_SECONDS:
            found[-1] = Span(found[-1].began, at)
        else:
            found.append(Span(at, at))
    return found
