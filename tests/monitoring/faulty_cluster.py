"""What Prometheus reads of an operator and of an injector: their own registries, with values that a test sets, each
behind a port of its own. And the faults of them, as in `faults`."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from fairqueue_operator.injection import Reason
from fairqueue_operator.injector_metrics import InjectorMetrics
from fairqueue_operator.operator_metrics import OperatorMetrics, PolicyFigures
from fairqueue_operator.verdict import OwnReason, Verdict
from monitoring.alert_watch import Alarm, alarm
from monitoring.faults import Alarms, Fault

OPERATOR_JOB, INJECTOR_JOB = "fairqueue-operator", "fairqueue-injector"
POLICY = "team/shared"
DAY_SECONDS = 86_400.0
# A factor of 60 makes fourteen days of warning five and a half hours.
ENDS_SOON_DAYS, ENDS_LATE_DAYS = 0.1, 90.0
ERROR_EVERY_SECONDS = 0.5


class Page:
    """GET /metrics on a port of its own, which stays the same when it is stopped and started again."""

    def __init__(self, text: Callable[[], bytes]) -> None:
        self._text = text
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def instance(self) -> str:
        """As Prometheus calls it."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, _: web.Request) -> web.Response:
        return web.Response(body=self._text(), content_type="text/plain")


@dataclass(slots=True)
class OperatorFigures:
    """What is read at each scrape; as it is made, all is well."""

    pods: dict[str, int] = field(
        default_factory=lambda: {"matched": 4, "unlabelled": 0, "injected": 4, "started": 4, "current": 4}
    )
    reason: str = "Ready"
    orphaned: int = 0
    queue_length: int = 0
    listed_seconds_ago: float = 0.0


class FaultyCluster:
    """An operator that leads and an injector that answers, until the test says otherwise."""

    def __init__(self) -> None:
        self.operator, self.injector = OperatorMetrics(), InjectorMetrics()
        self.figures = OperatorFigures()
        self.operator_page, self.injector_page = Page(self.operator.text), Page(self.injector.text)
        self.operator.read_at_scrape(
            lambda: self.figures.queue_length,
            self._policies,
            lambda: self.figures.orphaned,
        )
        self.operator.listed_at.set_function(lambda: time.time() - self.figures.listed_seconds_ago)
        self.operator.leading.set(1)
        self.certificate_lasts(ENDS_LATE_DAYS)

    def _policies(self) -> list[PolicyFigures]:
        figures = self.figures
        return [
            PolicyFigures(POLICY, figures.reason == "Ready", figures.reason, figures.pods),
            PolicyFigures("team/scaled-to-zero", False, "NoMatchingPods", {}),
        ]

    @property
    def targets(self) -> dict[str, list[str]]:
        """For Prometheus, by job."""
        return {OPERATOR_JOB: [self.operator_page.instance], INJECTOR_JOB: [self.injector_page.instance]}

    def certificate_lasts(self, days: float) -> None:
        self.injector.serves_until(time.time() + days * DAY_SECONDS)

    def first_faults(self) -> dict[str, Fault]:
        """Those that may be there at once; the others after them."""
        return {
            "nobody_leads": self._nobody_leads(),
            "pods_without_a_label": self._figures(_of_policy("FairqueuePodsNotInjected"), pods={"unlabelled": 2}),
            "pods_with_an_old_revision": self._figures(_of_policy("FairqueuePodsNotCurrent"), pods={"current": 3}),
            "a_policy_is_not_ready": self._figures(_of_policy("FairqueuePolicyNotReady"), reason="ProxiesRefuse"),
            "the_injector_cannot_decide": self._the_injector_cannot_decide(),
        }

    def second_faults(self) -> dict[str, Fault]:
        more = dict.fromkeys(("matched", "injected", "started", "current"), 1000)
        never_empty = alarm("FairqueueOperatorNotReconciling", because="its queue never empties")
        not_listed = alarm("FairqueueOperatorNotReconciling", because="it has not listed everything for 20 minutes")
        return {
            "pods_older_than_the_webhook": self._bare_pods(),
            "a_policy_was_deleted": self._figures(alarm("FairqueuePodsOrphaned"), orphaned=2),
            "proxies_are_not_scraped": self._figures(alarm("FairqueueProxiesMissing"), pods=more),
            "the_queue_never_empties": self._figures(never_empty, queue_length=3),
            "nothing_is_listed": self._figures(not_listed, listed_seconds_ago=100.0),
            "policies_fail": self._policies_fail(),
        }

    @asynccontextmanager
    async def certificate_ends(self) -> AsyncIterator[Alarms]:
        self.certificate_lasts(ENDS_SOON_DAYS)
        yield [alarm("FairqueueCertificateExpiring", job=INJECTOR_JOB, instance=self.injector_page.instance)]
        self.certificate_lasts(ENDS_LATE_DAYS)

    @asynccontextmanager
    async def no_injector_answers(self) -> AsyncIterator[Alarms]:
        await self.injector_page.stop()
        yield [alarm("FairqueueInjectorFailing", because="no injector answers")]
        await self.injector_page.start()

    @asynccontextmanager
    async def _figures(
        self, raised: Alarm, pods: dict[str, int] | None = None, **figures: float | str
    ) -> AsyncIterator[Alarms]:
        """Others than those of a sound operator."""
        sound = OperatorFigures()
        self._set(pods or {}, figures)
        yield [raised]
        self._set({state: sound.pods[state] for state in pods or {}}, {name: getattr(sound, name) for name in figures})

    def _set(self, pods: dict[str, int], figures: dict[str, Any]) -> None:
        self.figures.pods.update(pods)
        for name, value in figures.items():
            setattr(self.figures, name, value)

    def has_a_bad_minute(self) -> None:
        """What passes by itself: an API server that does not answer for a moment, again and again to whoever tries."""
        for _ in range(9):
            self.operator.errors.inc()
            self.injector.decided(Verdict(OwnReason.POLICIES_UNREADABLE), 0.001)
        self.injector.decided(Verdict(Reason.INJECTED), 0.001)

    @asynccontextmanager
    async def _nobody_leads(self) -> AsyncIterator[Alarms]:
        self.operator.leading.set(0)
        yield [alarm("FairqueueOperatorNotReconciling", because="no replica leads")]
        self.operator.leading.set(1)

    @asynccontextmanager
    async def _bare_pods(self) -> AsyncIterator[Alarms]:
        self.injector.bare_pods(3)
        yield [alarm("FairqueuePodsNotInjected")]
        self.injector.bare_pods(0)

    @asynccontextmanager
    async def _policies_fail(self) -> AsyncIterator[Alarms]:
        with _again_and_again(self.operator.errors.inc):
            yield [alarm("FairqueueOperatorNotReconciling", because="policies fail again and again")]

    @asynccontextmanager
    async def _the_injector_cannot_decide(self) -> AsyncIterator[Alarms]:
        with _again_and_again(lambda: self.injector.decided(Verdict(OwnReason.INTERNAL_ERROR), 0.001)):
            yield [alarm("FairqueueInjectorFailing", because="it denies pods that it cannot decide on")]


def _of_policy(name: str) -> Alarm:
    return alarm(name, policy=POLICY)


@contextmanager
def _again_and_again(action: Callable[[], None]) -> Iterator[None]:
    async def repeat() -> None:
        while True:
            action()
            await asyncio.sleep(ERROR_EVERY_SECONDS)

    task = asyncio.create_task(repeat())
    yield
    task.cancel()


@asynccontextmanager
async def faulty_cluster() -> AsyncIterator[FaultyCluster]:
    """One whose pages are served for the length of the block."""
    cluster = FaultyCluster()
    async with contextlib.AsyncExitStack() as stack:
        for page in (cluster.operator_page, cluster.injector_page):
            await page.start()
            stack.push_async_callback(page.stop)
        yield cluster
