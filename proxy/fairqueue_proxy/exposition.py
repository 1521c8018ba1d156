"""The proxy's /metrics in Prometheus text format, from plain numbers; own text, because a registry would stall every
stream at each scrape. Label values are tenant and group names of the policy: few, and free of quotes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fairqueue_api import Document
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.engine_watch import EngineWatch
from fairqueue_proxy.entitlement import Entitlement
from fairqueue_proxy.histogram import Histogram
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.scheduler import MICRO, Node
from fairqueue_proxy.tenants import Tenant, Tenants

Samples = Iterable[tuple[str, float]]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def _family(name: str, kind: str, text: str, samples: Samples) -> Iterator[str]:
    lines = [f"fairqueue_{name}{labels} {value:.10g}\n" for labels, value in samples]
    if lines:
        yield f"# HELP fairqueue_{name} {text}\n# TYPE fairqueue_{name} {kind}\n"
        yield from lines


def _histograms(name: str, text: str, histograms: Iterable[tuple[str, Histogram]]) -> Iterator[str]:
    lines: list[str] = []
    for tenant, histogram in histograms:
        count = 0
        for bound, found in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
            count += found
            le = "+Inf" if bound == float("inf") else f"{bound:g}"
            lines.append(f'fairqueue_{name}_bucket{{tenant="{tenant}",le="{le}"}} {count}\n')
        if not count:
            del lines[-len(histogram.counts) :]
            continue
        lines.append(f'fairqueue_{name}_sum{{tenant="{tenant}"}} {histogram.total:.10g}\n')
        lines.append(f'fairqueue_{name}_count{{tenant="{tenant}"}} {count}\n')
    if lines:
        yield f"# HELP fairqueue_{name} {text}\n# TYPE fairqueue_{name} histogram\n"
        yield from lines


@dataclass(frozen=True, slots=True)
class Exposition:
    """Everything that /metrics shows."""

    document: Document
    tenants: Tenants
    without_tenant: dict[Outcome, int]
    dispatcher: Dispatcher
    entitlement: Entitlement
    watch: EngineWatch
    clock: Callable[[], float]

    def render(self) -> str:
        """The text of one scrape."""
        return "".join([*self._tenants(), *self._scheduler(), *self._engine()])

    def _each(self, value: Callable[[Tenant], float]) -> list[tuple[str, float]]:
        return [(f'{{tenant="{name}"}}', value(tenant)) for name, tenant in self.tenants.by_name.items()]

    def _outcomes(self) -> Iterator[tuple[str, float]]:
        for name, tenant in self.tenants.by_name.items():
            for outcome in Outcome:
                count = tenant.outcomes[outcome]
                if count or outcome is Outcome.COMPLETED:
                    yield f'{{tenant="{name}",outcome="{outcome.value}"}}', count
        for outcome, count in self.without_tenant.items():
            yield f'{{tenant="",outcome="{outcome.value}"}}', count

    def _tokens(self) -> Iterator[tuple[str, float]]:
        for name, tenant in self.tenants.by_name.items():
            yield f'{{tenant="{name}",kind="input"}}', tenant.input_tokens
            yield f'{{tenant="{name}",kind="cached_input"}}', tenant.cached_input_tokens
            yield f'{{tenant="{name}",kind="output"}}', tenant.output_tokens

    def _tenants(self) -> Iterator[str]:
        backlog, entitlement = self.dispatcher.backlog, self.entitlement
        tenants = self.tenants.by_name.items()
        yield from _family("requests_total", "counter", "Requests by how they ended.", self._outcomes())
        yield from _family("tokens_total", "counter", "Tokens charged.", self._tokens())
        yield from _family(
            "service_total", "counter", "Cost units charged.", self._each(lambda tenant: tenant.node.served / MICRO)
        )
        yield from _family(
            "entitled_service_total",
            "counter",
            "Cost units that were the tenant's weighted share while it was backlogged.",
            self._each(lambda tenant: entitlement.entitled(tenant.node) / MICRO),
        )
        yield from _family(
            "backlogged_seconds_total",
            "counter",
            "Time with a queued request that the tenant's own limits allow.",
            self._each(lambda tenant: entitlement.active_seconds(tenant.node)),
        )
        yield from _family(
            "queue_requests",
            "gauge",
            "Requests queued in the proxy.",
            self._each(lambda tenant: backlog.queued_of(tenant.node)),
        )
        yield from _family(
            "in_flight_requests",
            "gauge",
            "Requests in the engine.",
            self._each(lambda tenant: tenant.node.in_flight),
        )
        yield from _family(
            "tenant_weight", "gauge", "The tenant's weight.", self._each(lambda tenant: tenant.node.weight)
        )
        yield from _family(
            "virtual_counter",
            "gauge",
            "What the tenant is ordered by, in cost units over weight.",
            self._each(lambda tenant: tenant.node.key),
        )
        yield from _histograms(
            "queue_seconds", "Time from queued to let in.", ((name, tenant.queue_seconds) for name, tenant in tenants)
        )
        yield from _histograms(
            "time_to_first_token_seconds",
            "Time from arrival to the first token (plain replies: to their end).",
            ((name, tenant.first_token_seconds) for name, tenant in tenants),
        )
        yield from _histograms(
            "request_seconds",
            "Time from arrival to the end.",
            ((name, tenant.request_seconds) for name, tenant in tenants),
        )

    def _scheduler(self) -> Iterator[str]:
        dispatcher = self.dispatcher
        scheduler, capacity = dispatcher.scheduler, dispatcher.capacity
        groups: dict[str, Node] = {"": scheduler.root, **self.tenants.groups}
        gaps = [(f'{{group="{name}"}}', scheduler.gap(node)) for name, node in groups.items()]
        yield from _family(
            "fairness_gap",
            "gauge",
            "Largest less smallest counter of a group's backlogged members (root: empty name).",
            [(labels, gap.gap) for labels, gap in gaps],
        )
        yield from _family(
            "fairness_bound",
            "gauge",
            "What fairness_gap never exceeds.",
            [(labels, gap.bound) for labels, gap in gaps],
        )
        yield from _family(
            "capacity_limit",
            "gauge",
            "The most that is let into the engine at once.",
            [
                (f'{{budget="{budget.name}",source="{budget.source}"}}', budget.limit)
                for budget in capacity.budgets
                if budget.limit is not None
            ],
        )
        yield from _family(
            "capacity_used",
            "gauge",
            "How much of it is in use.",
            [(f'{{budget="{budget.name}"}}', budget.used) for budget in capacity.budgets],
        )
        yield from _family(
            "idle_capacity_seconds_total",
            "counter",
            "Time in which somebody waited and something was free.",
            [("", dispatcher.idle_capacity_seconds)],
        )
        yield from _family(
            "metering_drift_tokens_total",
            "counter",
            "Counted while streaming against what the engine said at the end.",
            [(f'{{direction="{direction}"}}', tokens) for direction, tokens in dispatcher.drift_tokens.items()],
        )
        yield from _family(
            "malformed_events_total",
            "counter",
            "Events of the engine that could not be read; they were passed on as they were.",
            [("", dispatcher.malformed_events)],
        )

    def _engine(self) -> Iterator[str]:
        watch, document = self.watch, self.document
        yield from _family("engine_up", "gauge", "1 when the engine is healthy.", [("", int(watch.healthy))])
        for name, value, text in (
            ("engine_waiting_requests", watch.waiting, "Requests that wait inside the engine, as it reports."),
            ("engine_running_requests", watch.running, "Requests that run in the engine, as it reports."),
        ):
            yield from _family(name, "gauge", text, [("", value)] if value is not None else [])
        if watch.scraped_at is not None:
            age = self.clock() - watch.scraped_at
            yield from _family("engine_scrape_age_seconds", "gauge", "Age of these two.", [("", age)])
        yield from _family(
            "config_info",
            "gauge",
            "The policy in force.",
            [(f'{{policy="{document.policy}",revision="{document.revision}"}}', 1)],
        )
