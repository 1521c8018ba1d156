"""The proxy's /metrics in Prometheus text format, from plain numbers; own text, because a registry would stall every
stream at each scrape. Label values are tenant and group names of the policy: few, and free of quotes.

A scrape is written in slices, between which streams go on. What is shown of one tenant is of one instant, as is each
group's gap with its bound; different tenants may be some milliseconds apart.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from fairqueue_proxy.backlog import Backlog
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.document_watch import ReloadCounts
from fairqueue_proxy.entitlement import Entitlement
from fairqueue_proxy.histogram import FIRST_TOKEN_SECONDS, QUEUE_SECONDS, REQUEST_SECONDS, Histogram
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.runtime import Runtime
from fairqueue_proxy.scheduler import MICRO, Node
from fairqueue_proxy.tenants import OTHER, Tenant

Samples = Iterable[tuple[str, float]]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SLICE_SECONDS = 0.0005
_OUTCOMES = {outcome: outcome.value for outcome in Outcome}


@lru_cache(maxsize=1 << 15)
def _prefix(name: str, labels: str) -> str:
    """What stands before the value; the same at each scrape."""
    return f"fairqueue_{name}{labels} "


def _text(value: float) -> str:
    """All digits of a whole number: counters that grow large must not move in steps."""
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def _family(name: str, kind: str, text: str, samples: Samples) -> Iterator[str]:
    head = f"# HELP fairqueue_{name} {text}\n# TYPE fairqueue_{name} {kind}\n"
    for labels, value in samples:
        yield f"{head}{_prefix(name, labels)}{_text(value)}\n"
        head = ""


def _histograms(name: str, text: str, histograms: Iterable[tuple[str, Histogram]]) -> Iterator[str]:
    head = f"# HELP fairqueue_{name} {text}\n# TYPE fairqueue_{name} histogram\n"
    for tenant, histogram in histograms:
        if not any(histogram.counts):
            continue
        yield head
        head, count = "", 0
        for bound, found in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
            count += found
            le = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f'fairqueue_{name}_bucket{{tenant="{tenant}",le="{le}"}} {count}\n'
        yield f'fairqueue_{name}_sum{{tenant="{tenant}"}} {_text(histogram.total)}\n'
        yield f'fairqueue_{name}_count{{tenant="{tenant}"}} {count}\n'


@dataclass(slots=True)
class _Row:
    """What is shown with one tenant label: the figures of a tenant at one instant, or the sums of all that share it."""

    label: str
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    would_be: Counter[Outcome] = field(default_factory=Counter)
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    served: int = 0
    entitled: float = 0.0
    active_seconds: float = 0.0
    queued: int = 0
    in_flight: int = 0
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(QUEUE_SECONDS))
    first_token_seconds: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    request_seconds: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))
    # Of a tenant that is in force.
    weight: int = 0
    key: float = 0.0

    def add(self, tenant: Tenant, entitlement: Entitlement, backlog: Backlog) -> None:
        """Takes in all that is known of a tenant now."""
        self.outcomes.update(tenant.outcomes)
        self.would_be.update(tenant.would_be)
        self.input_tokens += tenant.input_tokens
        self.cached_input_tokens += tenant.cached_input_tokens
        self.output_tokens += tenant.output_tokens
        for node in tenant.nodes:
            self.served += node.served
            self.entitled += entitlement.entitled(node)
            self.active_seconds += entitlement.active_seconds(node)
            self.queued += backlog.queued_of(node)
            self.in_flight += node.in_flight
        self.queue_seconds.add(tenant.queue_seconds)
        self.first_token_seconds.add(tenant.first_token_seconds)
        self.request_seconds.add(tenant.request_seconds)
        self.weight, self.key = tenant.node.weight, tenant.node.key

    @property
    def in_force(self) -> bool:
        """It is one tenant's."""
        return self.label != OTHER


def _tokens(rows: Iterable[_Row]) -> Samples:
    for row in rows:
        yield f'{{tenant="{row.label}",kind="input"}}', row.input_tokens
        yield f'{{tenant="{row.label}",kind="cached_input"}}', row.cached_input_tokens
        yield f'{{tenant="{row.label}",kind="output"}}', row.output_tokens


@dataclass(frozen=True, slots=True)
class Exposition:
    """Everything that /metrics shows."""

    runtime: Runtime
    entitlement: Entitlement
    reloads: ReloadCounts

    @property
    def _dispatcher(self) -> Dispatcher:
        return self.runtime.dispatcher

    async def slices(self) -> AsyncIterator[bytes]:
        """The text of one scrape. After each slice whoever else has something to do is let in."""
        clock = self.runtime.clock
        parts: list[str] = []
        due = clock() + SLICE_SECONDS
        for part in self._parts():
            parts.append(part)
            if clock() < due:
                continue
            if text := "".join(parts):
                yield text.encode()
            parts.clear()
            await asyncio.sleep(0)
            due = clock() + SLICE_SECONDS
        yield "".join(parts).encode()

    def _parts(self) -> Iterator[str]:
        """The text in parts, each of which takes some microseconds to make. Some are empty."""
        rows: list[_Row] = []
        tenants = self.runtime.tenants
        gone, backlog = list(tenants.gone), self._dispatcher.backlog
        shown = [(name, [tenant]) for name, tenant in tenants.by_name.items()]
        for label, sharing in [*shown, (OTHER, gone)] if gone else shown:
            rows.append(row := _Row(label))
            for tenant in sharing:
                row.add(tenant, self.entitlement, backlog)
                yield ""
        yield from self._tenants(rows)
        yield from self._scheduler()
        yield from self._engine()

    def _requests(self, rows: list[_Row]) -> Samples:
        for row in rows:
            for outcome, word in _OUTCOMES.items():
                if row.outcomes[outcome] or outcome is Outcome.COMPLETED:
                    yield f'{{tenant="{row.label}",outcome="{word}"}}', row.outcomes[outcome]
        for outcome, count in list(self.runtime.outcomes.items()):
            yield f'{{tenant="",outcome="{outcome.value}"}}', count

    def _would_be(self, rows: list[_Row]) -> Samples:
        for row in rows:
            for outcome, count in row.would_be.items():
                yield f'{{tenant="{row.label}",outcome="{outcome.value}"}}', count
        for outcome, count in list(self.runtime.would_be.items()):
            yield f'{{tenant="",outcome="{outcome.value}"}}', count

    def _tenants(self, rows: list[_Row]) -> Iterator[str]:
        def each(value: Callable[[_Row], float]) -> Samples:
            return ((f'{{tenant="{row.label}"}}', value(row)) for row in rows)

        def each_in_force(value: Callable[[_Row], float]) -> Samples:
            return ((f'{{tenant="{row.label}"}}', value(row)) for row in rows if row.in_force)

        def histograms(which: Callable[[_Row], Histogram]) -> Iterator[tuple[str, Histogram]]:
            return ((row.label, which(row)) for row in rows)

        yield from _family("requests_total", "counter", "Requests by how they ended.", self._requests(rows))
        yield from _family(
            "observed_refusals_total",
            "counter",
            "Requests that were relayed and would have been refused, had the policy not only observed.",
            self._would_be(rows),
        )
        yield from _family("tokens_total", "counter", "Tokens charged.", _tokens(rows))
        yield from _family("service_total", "counter", "Cost units charged.", each(lambda row: row.served / MICRO))
        yield from _family(
            "entitled_service_total",
            "counter",
            "Cost units that were the tenant's weighted share while it was backlogged.",
            each(lambda row: row.entitled / MICRO),
        )
        yield from _family(
            "backlogged_seconds_total",
            "counter",
            "Time with a queued request that the tenant's own limits allow.",
            each(lambda row: row.active_seconds),
        )
        yield from _family("queue_requests", "gauge", "Requests queued in the proxy.", each(lambda row: row.queued))
        yield from _family("in_flight_requests", "gauge", "Requests in the engine.", each(lambda row: row.in_flight))
        yield from _family("tenant_weight", "gauge", "The tenant's weight.", each_in_force(lambda row: row.weight))
        yield from _family(
            "virtual_counter",
            "gauge",
            "What the tenant is ordered by, in cost units over weight.",
            each_in_force(lambda row: row.key),
        )
        yield from _histograms(
            "queue_seconds", "Time from queued to let in.", histograms(lambda row: row.queue_seconds)
        )
        yield from _histograms(
            "time_to_first_token_seconds",
            "Time from arrival to the first token (plain replies: to their end).",
            histograms(lambda row: row.first_token_seconds),
        )
        yield from _histograms(
            "request_seconds", "Time from arrival to the end.", histograms(lambda row: row.request_seconds)
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
