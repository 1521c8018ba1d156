"""The tenants of a document: their place in the scheduler's tree, their keys, and what was counted for them.

Built once from a rendered document. The counts are plain integers that the request path adds to; `metrics` reads
them.
"""

from collections import Counter
from dataclasses import dataclass, field

from fairqueue_api import Document, digest
from fairqueue_proxy.histogram import FIRST_TOKEN_SECONDS, QUEUE_SECONDS, REQUEST_SECONDS, Histogram
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.scheduler import Limits, Node, Scheduler


@dataclass(slots=True, eq=False)
class Tenant:
    """One tenant: its leaf, its own bound on queued requests (None: the policy's), and its counts."""

    name: str
    node: Node
    max_queued: int | None = None
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(QUEUE_SECONDS))
    first_token_seconds: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    request_seconds: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))


class Tenants:
    """Finds a tenant by what a client presents."""

    def __init__(self, document: Document, scheduler: Scheduler) -> None:
        self._by_digest: dict[str, Tenant] = {}
        self.by_name: dict[str, Tenant] = {}
        self.groups = groups = self._add_groups(document, scheduler)
        for spec in document.tenants:
            node = scheduler.add_node(
                spec.name,
                groups[spec.group] if spec.group is not None else None,
                weight=spec.weight,
                limits=Limits(spec.limits.max_in_flight, spec.limits.tokens_per_minute),
            )
            tenant = Tenant(spec.name, node, spec.limits.max_queued)
            self.by_name[spec.name] = tenant
            for key_digest in spec.key_digests:
                self._by_digest[key_digest] = tenant

    @staticmethod
    def _add_groups(document: Document, scheduler: Scheduler) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        for group in sorted(document.groups, key=lambda group: group.parent is not None):
            parent = nodes[group.parent] if group.parent is not None else None
            # A group and a tenant of one name may stand beside each other, so groups carry a mark.
            nodes[group.name] = scheduler.add_node(f"group:{group.name}", parent, weight=group.weight)
        return nodes

    def by_key(self, credential: bytes) -> Tenant | None:
        """The tenant that this API key belongs to."""
        return self._by_digest.get(digest(credential))
