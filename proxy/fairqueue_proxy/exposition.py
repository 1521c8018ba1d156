"""The proxy's /metrics in Prometheus text format, from plain numbers; own text, because a registry would stall every
stream at each scrape. Label values are tenant and group names of the policy: few, and free of quotes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.document_watch import ReloadCounts
from fairqueue_proxy.entitlement import Entitlement
from fairqueue_proxy.histogram import Histogram, merged
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.runtime import Runtime
from fairqueue_proxy.scheduler import MICRO, Node
from fairqueue_proxy.tenants import OTHER, Tenant

Samples = Iterable[tuple[str, float]]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@lru_cache(maxsize=1 << 15)
def _prefix(name: str, labels: str) -> str:
    """What stands before the value; the same at each scrape."""
    return f"fairqueue_{name}{labels} "


def _text(value: float) -> str:
    """All digits of a whole number: counters that grow large must not move in steps."""
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def _family(name: str, kind: str, text: str, samples: Samples) -> Iterator[str]:
    lines = [f"{_prefix(name, labels)}{_text(value)}\n" for labels, value in samples]
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
        lines.append(f'fairqueue_{name}_sum{{tenant="{tenant}"}} {_text(histogram.total)}\n')
        lines.append(f'fairqueue_{name}_count{{tenant="{tenant}"}} {count}\n')
    if lines:
        yield f"# HELP fairqueue_{name} {text}\n# TYPE fairqueue_{name} histogram\n"
        yield from lines


@dataclass(frozen=True, slots=True)
class Exposition:
    """Everything that /metrics shows."""

    runtime: Runtime
    entitlement: Entitlement
    reloads: ReloadCounts

    @property
    def _dispatcher(self) -> Dispatcher:
        return self.runtime.dispatcher

    def render(self) -> str:
        """The text of one scrape."""
        return "".join([*self._tenants(), *self._scheduler(), *self._engine()])

    def _rows(self) -> dict[str, list[Tenant]]:
        """Tenants by label; those that are in force no more share one."""
        tenants = self.runtime.tenants
        rows = {name: [tenant] for name, tenant in tenants.by_name.items()}
        return rows | {OTHER: tenants.gone} if tenants.gone else rows

    def _each(self, value: Callable[[Tenant], float], *, present_only: bool = False) -> list[tuple[str, float]]:
        return [
            (f'{{tenant="{name}"}}', sum(value(tenant) for tenant in tenants))
            for name, tenants in self._rows().items()
            if name != OTHER or not present_only
        ]

    def _requests(self) -> Samples:
        for name, tenants in self._rows().items():
            counts = sum((tenant.outcomes for tenant in tenants), Counter[Outcome]())
            for outcome in Outcome:
                if counts[outcome] or outcome is Outcome.COMPLETED:
                    yield f'{{tenant="{name}",outcome="{outcome.value}"}}', counts[outcome]
        for outcome, count in self.runtime.outcomes.items():
            yield f'{{tenant="",outcome="{outcome.value}"}}', count

    def _would_be(self) -> Samples:
        for name, tenants in self._rows().items():
            counts = sum((tenant.would_be for tenant in tenants), Counter[Outcome]())
            for outcome, count in counts.items():
                yield f'{{tenant="{name}",outcome="{outcome.value}"}}', count
        for outcome, count in self.runtime.would_be.items():
            yield f'{{tenant="",outcome="{outcome.value}"}}', count

    def _tokens(self) -> Samples:
        for name, tenants in self._rows().items():
            yield f'{{tenant="{name}",kind="input"}}', sum(tenant.input_tokens for tenant in tenants)
            yield f'{{tenant="{name}",kind="cached_input"}}', sum(tenant.cached_input_tokens for tenant in tenants)
            yield f'{{tenant="{name}",kind="output"}}', sum(tenant.output_tokens for tenant in tenants)

    def _histograms(self, which: Callable[[Tenant], Histogram]) -> Iterator[tuple[str, Histogram]]:
        for name, tenants in self._rows().items():
            yield name, merged([which(tenant) for tenant in tenants])

    def _entitled(self, tenant: Tenant) -> float:
        return sum(map(self.entitlement.entitled, tenant.nodes)) / MICRO

    def _active_seconds(self, tenant: Tenant) -> float:
        return sum(map(self.entitlement.active_seconds, tenant.nodes))

    def _tenants(self) -> Iterator[str]:
        backlog = self._dispatcher.backlog
        yield from _family("requests_total", "counter", "Requests by how they ended.", self._requests())
        yield from _family(
            "observed_refusals_total",
            "counter",
            "Requests that were relayed and would have been refused, had the policy not only observed.",
            self._would_be(),
        )
        yield from _family("tokens_total", "counter", "Tokens charged.", self._tokens())
        yield from _family(
            "service_total", "counter", "Cost units charged.", self._each(lambda tenant: tenant.served / MICRO)
        )
        yield from _family(
            "entitled_service_total",
            "counter",
            "Cost units that were the tenant's weighted share while it was backlogged.",
            self._each(self._entitled),
        )
        yield from _family(
            "backlogged_seconds_total",
            "counter",
            "Time with a queued request that the tenant's own limits allow.",
            self._each(self._active_seconds),
        )
        yield from _family(
            "queue_requests",
            "gauge",
            "Requests queued in the proxy.",
            self._each(lambda tenant: sum(map(backlog.queued_of, tenant.nodes))),
        )
        yield from _family(
            "in_flight_requests",
            "gauge",
            "Requests in the engine.",
            self._each(lambda tenant: tenant.in_flight),
        )
        yield from _family(
            "tenant_weight",
            "gauge",
            "The tenant's weight.",
            self._each(lambda tenant: tenant.node.weight, present_only=True),
        )
        yield from _family(
            "virtual_counter",
            "gauge",
            "What the tenant is ordered by, in cost units over weight.",
            self._each(lambda tenant: tenant.node.key, present_only=True),
        )
        yield from _histograms(
            "queue_seconds",
            "Time from queued to let in.",
            self._histograms(lambda tenant: tenant.queue_seconds),
        )
        yield from _histograms(
            "time_to_first_token_seconds",
            "Time from arrival to the first token (plain replies: to their end).",
            self._histograms(lambda tenant: tenant.first_token_seconds),
        )
        yield from _histograms(
            "request_seconds",
            "Time from arrival to the end.",
            self._histograms(lambda tenant: tenant.request_seconds),
        )

    def _scheduler(self) -> Iterator[str]:
        dispatcher = self._dispatcher
        scheduler, capacity = dispatcher.scheduler, dispatcher.capacity
        groups: dict[str, Node] = {"": scheduler.root, **self.runtime.tenants.groups}
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
        watch, in_force = self.runtime.watch, self.runtime.in_force
        yield from _family("engine_up", "gauge", "1 when the engine is healthy.", [("", int(watch.healthy))])
        for name, value, text in (
            ("engine_waiting_requests", watch.waiting, "Requests that wait inside the engine, as it reports."),
            ("engine_running_requests", watch.running, "Requests that run in the engine, as it reports."),
        ):
            yield from _family(name, "gauge", text, [("", value)] if value is not None else [])
        if watch.scraped_at is not None:
            age = self.runtime.clock() - watch.scraped_at
            yield from _family(
                "engine_scrape_age_seconds",
                "gauge",
                "Time since these two were read; they are left out when it is long.",
                [("", age)],
            )
        if in_force is not None:
            document = in_force.document
            yield from _family(
                "config_info",
                "gauge",
                "The policy in force.",
                [(f'{{policy="{document.policy}",revision="{document.revision}",mode="{document.mode}"}}', 1)],
            )
        yield from _family(
            "config_reload_failures_total",
            "counter",
            "Documents and policy files that could not be used; the last good one stayed in force.",
            [("", self.reloads.failures)],
        )
