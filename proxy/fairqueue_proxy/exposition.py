"""The proxy's /metrics in Prometheus text format, from plain numbers; own text, because a registry would stall every
stream at each scrape. Label values are tenant and group names of the policy: few, and free of quotes.

A scrape is written in slices, between which streams go on. What is shown of one tenant is of one instant, as is each
group's gap with its bound; different tenants may be some milliseconds apart.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from fairqueue_proxy import metric_families as families
from fairqueue_proxy.backlog import Backlog
from fairqueue_proxy.dispatcher import Dispatcher
from fairqueue_proxy.document_watch import ReloadCounts
from fairqueue_proxy.entitlement import Entitlement
from fairqueue_proxy.histogram import Histogram
from fairqueue_proxy.metric_families import Family
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.process_metrics import process_parts
from fairqueue_proxy.runtime import Runtime
from fairqueue_proxy.scheduler import MICRO, Node
from fairqueue_proxy.tenant_counts import Shown, TenantCounts
from fairqueue_proxy.tenants import OTHER, Tenant

Samples = Iterable[tuple[str, float]]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SLICE_SECONDS = 0.0005
_OUTCOMES = {outcome: outcome.value for outcome in Outcome}
# Of a series that begins with the first refusals, increase() never sees these.
_FROM_THE_START = {
    Outcome.COMPLETED,
    Outcome.TENANT_QUEUE_FULL,
    Outcome.QUEUE_FULL,
    Outcome.QUEUE_TIMEOUT,
    Outcome.ENGINE_UNAVAILABLE,
}


@lru_cache(maxsize=1 << 15)
def _prefix(name: str, labels: str) -> str:
    """What stands before the value; the same at each scrape."""
    return f"{name}{labels} "


def _text(value: float) -> str:
    """All digits of a whole number: counters that grow large must not move in steps."""
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def _shown(family: Family, samples: Samples) -> Iterator[str]:
    head = family.head
    for labels, value in samples:
        yield f"{head}{_prefix(family.name, labels)}{_text(value)}\n"
        head = ""


def _histograms(family: Family, histograms: Iterable[tuple[str, Histogram]]) -> Iterator[str]:
    name, head = family.name, family.head
    for tenant, histogram in histograms:
        if not any(histogram.counts):
            continue
        yield head
        head, count = "", 0
        for bound, found in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
            count += found
            le = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f'{name}_bucket{{tenant="{tenant}",le="{le}"}} {count}\n'
        yield f'{name}_sum{{tenant="{tenant}"}} {_text(histogram.total)}\n'
        yield f'{name}_count{{tenant="{tenant}"}} {count}\n'


@dataclass(frozen=True, slots=True)
class _Row:
    """What is shown with one tenant label: the figures of a tenant at one instant, or the sums of all that share it."""

    label: str
    counts: TenantCounts
    queued: int
    in_flight: int
    # Of a tenant that is in force.
    weight: int = 0
    key: float = 0.0
    owed: float = 0.0

    @property
    def in_force(self) -> bool:
        """It is one tenant's."""
        return self.label != OTHER


def _queued(tenant: Tenant, backlog: Backlog) -> int:
    return sum(backlog.queued_of(node) for node in tenant.nodes)


def _tokens(rows: Iterable[_Row]) -> Samples:
    for row in rows:
        yield f'{{tenant="{row.label}",kind="input"}}', row.counts.input_tokens
        yield f'{{tenant="{row.label}",kind="cached_input"}}', row.counts.cached_input_tokens
        yield f'{{tenant="{row.label}",kind="output"}}', row.counts.output_tokens


class Exposition:
    """Everything that /metrics shows."""

    def __init__(self, runtime: Runtime, entitlement: Entitlement, reloads: ReloadCounts) -> None:
        self._runtime = runtime
        self._reloads = reloads
        self._entitlement = entitlement
        self._counts = Shown(entitlement)

    @property
    def _dispatcher(self) -> Dispatcher:
        return self._runtime.dispatcher

    async def slices(self) -> AsyncIterator[bytes]:
        """The text of one scrape. After each slice whoever else has something to do is let in."""
        clock = self._runtime.clock
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
        tenants, backlog = self._runtime.tenants, self._dispatcher.backlog
        in_force, gone = list(tenants.by_name.items()), list(tenants.gone)
        others, queued, in_flight = TenantCounts(), 0, 0
        for tenant in gone:
            self._counts.add_rest(others, tenant)
            queued += _queued(tenant, backlog)
            in_flight += tenant.in_flight
            yield ""
        rows: list[_Row] = []
        for name, tenant in in_force:
            counts, node = self._counts.of(tenant), tenant.node
            owed = self._entitlement.owed(node)
            rows.append(_Row(name, counts, _queued(tenant, backlog), tenant.in_flight, node.weight, node.key, owed))
            yield ""
        # There before anybody has gone: what grows from 0 must have been seen at 0.
        rows.append(_Row(OTHER, others, queued, in_flight))
        yield from self._tenants(rows)
        yield from self._scheduler()
        yield from self._engine()
        yield from self._usage_log()
        yield from process_parts()

    def _requests(self, rows: list[_Row]) -> Samples:
        for row in rows:
            for outcome, word in _OUTCOMES.items():
                if row.counts.outcomes[outcome] or outcome in _FROM_THE_START:
                    yield f'{{tenant="{row.label}",outcome="{word}"}}', row.counts.outcomes[outcome]
        for outcome, count in list(self._runtime.outcomes.items()):
            yield f'{{tenant="",outcome="{outcome.value}"}}', count

    def _would_be(self, rows: list[_Row]) -> Samples:
        for row in rows:
            for outcome, count in row.counts.would_be.items():
                yield f'{{tenant="{row.label}",outcome="{outcome.value}"}}', count
        for outcome, count in list(self._runtime.would_be.items()):
            yield f'{{tenant="",outcome="{outcome.value}"}}', count

    def _tenants(self, rows: list[_Row]) -> Iterator[str]:
        def each(value: Callable[[_Row], float]) -> Samples:
            return ((f'{{tenant="{row.label}"}}', value(row)) for row in rows)

        def each_in_force(value: Callable[[_Row], float]) -> Samples:
            return ((f'{{tenant="{row.label}"}}', value(row)) for row in rows if row.in_force)

        def histograms(which: Callable[[TenantCounts], Histogram]) -> Iterator[tuple[str, Histogram]]:
            return ((row.label, which(row.counts)) for row in rows)

        yield from _shown(families.REQUESTS, self._requests(rows))
        yield from _shown(families.OBSERVED_REFUSALS, self._would_be(rows))
        yield from _shown(families.TOKENS, _tokens(rows))
        yield from _shown(families.SERVICE, each(lambda row: row.counts.served / MICRO))
        yield from _shown(families.ENTITLED_SERVICE, each(lambda row: row.counts.entitled / MICRO))
        yield from _shown(families.OWED_SERVICE, each_in_force(lambda row: row.owed / MICRO))
        yield from _shown(families.BACKLOGGED_SECONDS, each(lambda row: row.counts.active_seconds))
        yield from _shown(families.QUEUE_REQUESTS, each(lambda row: row.queued))
        yield from _shown(families.IN_FLIGHT_REQUESTS, each(lambda row: row.in_flight))
        yield from _shown(families.TENANT_WEIGHT, each_in_force(lambda row: row.weight))
        yield from _shown(families.VIRTUAL_COUNTER, each_in_force(lambda row: row.key))
        yield from _histograms(families.QUEUE_SECONDS, histograms(lambda counts: counts.queue_seconds))
        yield from _histograms(families.FIRST_TOKEN_SECONDS, histograms(lambda counts: counts.first_token_seconds))
        yield from _histograms(families.REQUEST_SECONDS, histograms(lambda counts: counts.request_seconds))

    def _scheduler(self) -> Iterator[str]:
        dispatcher = self._dispatcher
        scheduler, capacity = dispatcher.scheduler, dispatcher.capacity
        groups: dict[str, Node] = {"": scheduler.root, **self._runtime.tenants.groups}
        gaps = [(f'{{group="{name}"}}', scheduler.gap(node)) for name, node in groups.items()]
        yield from _shown(families.FAIRNESS_GAP, [(labels, gap.gap) for labels, gap in gaps])
        yield from _shown(families.FAIRNESS_BOUND, [(labels, gap.bound) for labels, gap in gaps])
        yield from _shown(
            families.CAPACITY_LIMIT,
            [
                (f'{{budget="{budget.name}",source="{budget.source}"}}', budget.limit)
                for budget in capacity.budgets
                if budget.limit is not None
            ],
        )
        yield from _shown(
            families.CAPACITY_USED, [(f'{{budget="{budget.name}"}}', budget.used) for budget in capacity.budgets]
        )
        yield from _shown(families.IDLE_CAPACITY_SECONDS, [("", dispatcher.idle_capacity_seconds)])
        yield from _shown(
            families.METERING_DRIFT,
            [(f'{{direction="{direction}"}}', tokens) for direction, tokens in dispatcher.drift_tokens.items()],
        )
        yield from _shown(families.MALFORMED_EVENTS, [("", dispatcher.malformed_events)])

    def _engine(self) -> Iterator[str]:
        watch, in_force = self._runtime.watch, self._runtime.in_force
        yield from _shown(families.ENGINE_UP, [("", int(watch.healthy))])
        for family, value in ((families.ENGINE_WAITING, watch.waiting), (families.ENGINE_RUNNING, watch.running)):
            yield from _shown(family, [("", value)] if value is not None else [])
        if watch.scraped_at is not None:
            age = self._runtime.clock() - watch.scraped_at
            yield from _shown(families.ENGINE_SCRAPE_AGE, [("", age)])
        if in_force is not None:
            document = in_force.document
            yield from _shown(
                families.CONFIG_INFO,
                [(f'{{policy="{document.policy}",revision="{document.revision}",mode="{document.mode}"}}', 1)],
            )
        yield from _shown(families.CONFIG_REFUSED, [("", int(self._reloads.problem is not None))])
        yield from _shown(families.CONFIG_RELOAD_FAILURES, [("", self._reloads.failures)])

    def _usage_log(self) -> Iterator[str]:
        usage_log = self._runtime.usage_log
        if usage_log is not None:
            yield from _shown(families.USAGE_LOG_WRITTEN_LINES, [("", usage_log.written_lines)])
            yield from _shown(families.USAGE_LOG_LOST_LINES, [("", usage_log.lost_lines)])
            yield from _shown(families.USAGE_LOG_WAITING_SECONDS, [("", usage_log.waiting_seconds)])
