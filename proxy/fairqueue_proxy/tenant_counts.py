"""What of tenants only grows, as /metrics has it, so that whoever adds up the increases of all series (Prometheus's
increase()) has everything that was charged, and has it once.

A tenant's series grows while the tenant is in the policy. What it is charged afterwards, and what nobody has been shown
before it left, is shown under `other`. One who comes back goes on with what was shown under its name: were it to begin
at 0, nobody could tell a charge of more than that from one of the difference.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from fairqueue_proxy.entitlement import Entitlement
from fairqueue_proxy.histogram import FIRST_TOKEN_SECONDS, QUEUE_SECONDS, REQUEST_SECONDS, Histogram
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.tenants import Tenant


@dataclass(slots=True)
class TenantCounts:
    """The counters of one tenant at one instant, or the sums of several. `served` and `entitled` are in millionths of a
    cost unit."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    would_be: Counter[Outcome] = field(default_factory=Counter)
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    served: int = 0
    entitled: float = 0.0
    active_seconds: float = 0.0
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(QUEUE_SECONDS))
    first_token_seconds: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    request_seconds: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))

    @classmethod
    def of(cls, tenant: Tenant, entitlement: Entitlement) -> "TenantCounts":
        """All that is known of a tenant now."""
        served, entitled, active_seconds = 0, 0.0, 0.0
        for node in tenant.nodes:
            served += node.served
            entitled += entitlement.entitled(node)
            active_seconds += entitlement.active_seconds(node)
        return cls(
            tenant.outcomes.copy(),
            tenant.would_be.copy(),
            tenant.input_tokens,
            tenant.cached_input_tokens,
            tenant.output_tokens,
            served,
            entitled,
            active_seconds,
            tenant.queue_seconds.copy(),
            tenant.first_token_seconds.copy(),
            tenant.request_seconds.copy(),
        )

    def add(self, now: "TenantCounts", before: "TenantCounts") -> None:
        """Takes in by how much others have grown.

        Each difference is made before it is added: sums of fractions would else differ by a digit from one scrape to
        the next, and what falls by one has begun anew for Prometheus.
        """
        for outcome, count in now.outcomes.items():
            self.outcomes[outcome] += count - before.outcomes[outcome]
        for outcome, count in now.would_be.items():
            self.would_be[outcome] += count - before.would_be[outcome]
        self.input_tokens += now.input_tokens - before.input_tokens
        self.cached_input_tokens += now.cached_input_tokens - before.cached_input_tokens
        self.output_tokens += now.output_tokens - before.output_tokens
        self.served += now.served - before.served
        self.entitled += now.entitled - before.entitled
        self.active_seconds += now.active_seconds - before.active_seconds
        self.queue_seconds.add(now.queue_seconds, before.queue_seconds)
        self.first_token_seconds.add(now.first_token_seconds, before.first_token_seconds)
        self.request_seconds.add(now.request_seconds, before.request_seconds)


_NOTHING: Final = TenantCounts()


class Shown:
    """Remembers what each tenant has been shown with under its own name."""

    def __init__(self, entitlement: Entitlement) -> None:
        self._entitlement = entitlement
        self._in_force: dict[Tenant, TenantCounts] = {}
        self._gone: dict[Tenant, TenantCounts] = {}
        # By name, of all that have had it and are gone.
        self._earlier: dict[str, TenantCounts] = {}

    def of(self, tenant: Tenant) -> TenantCounts:
        """What is shown under the name of a tenant that is in force."""
        counts, earlier = TenantCounts.of(tenant, self._entitlement), self._earlier.get(tenant.name)
        # Another scrape may be under way that began later and found it gone: then it is one of the earlier ones.
        has_gone = tenant in self._gone
        if not has_gone:
            self._in_force[tenant] = counts
            if earlier is None:
                return counts
        total = TenantCounts()
        for part in (earlier, None if has_gone else counts):
            if part is not None:
                total.add(part, _NOTHING)
        return total

    def add_rest(self, others: TenantCounts, tenant: Tenant) -> None:
        """Adds what is not shown under the name of a tenant that has gone. To be called before `of` for one that came
        after it."""
        shown = self._gone.get(tenant)
        if shown is None:
            shown = self._gone[tenant] = self._in_force.pop(tenant, _NOTHING)
            if shown is not _NOTHING:
                self._earlier.setdefault(tenant.name, TenantCounts()).add(shown, _NOTHING)
        others.add(TenantCounts.of(tenant, self._entitlement), shown)
