"""Who shares the engine: the tenants of the document in force, their place in the scheduler's tree, their counts.

The counts are plain integers that the request path adds to; the exposition reads them. `Tenants.apply` brings the tree
in line with another document while requests wait and run; see `docs/decisions/0004` for what moves where.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from fairqueue_api import Document
from fairqueue_api.document import LimitSettings
from fairqueue_proxy.entitlement import Entitlement
from fairqueue_proxy.histogram import FIRST_TOKEN_SECONDS, QUEUE_SECONDS, REQUEST_SECONDS, Histogram
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.pace import Pace
from fairqueue_proxy.scheduler import Limits, Node, Request, Scheduler

ANONYMOUS: Final = "anonymous"
"""The class of those who belong to no tenant; a reserved name."""

OTHER: Final = "other"
"""The label of those who are in force no more; a reserved name."""

MOST_LEAVES = 10_000
"""Users or identities below one tenant that get a leaf of their own; later ones share one."""

_SHARED_LEAF: Final = "(others)"
_NOBODY: Final = "(nobody)"


@dataclass(slots=True, eq=False)
class Tenant:
    """One tenant: its node, its own bound on queued requests (None: the policy's), and its counts.

    `split`: the node has a leaf for each user or identity, made when the first request of it comes.
    """

    name: str
    node: Node
    max_queued: int | None = None
    split: bool = False
    pace: Pace | None = None
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    # What the policy would have refused, had it not only observed.
    would_be: Counter[Outcome] = field(default_factory=Counter)
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    # Nodes that stood for the tenant before it moved.
    former: list[Node] = field(default_factory=list)
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(QUEUE_SECONDS))
    first_token_seconds: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    request_seconds: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))

    def __repr__(self) -> str:
        return f"<Tenant {self.name}>"

    @property
    def nodes(self) -> list[Node]:
        """Where its requests are: its node, and those that stood for it before."""
        return [self.node, *self.former]

    @property
    def served(self) -> int:
        """Millionths of a cost unit charged so far, wherever it stood."""
        return sum(node.served for node in self.nodes)

    @property
    def in_flight(self) -> int:
        """Requests in the engine; each sequence counts."""
        return self.node.in_flight + sum([node.in_flight for node in self.former])

    def leaf(self, scheduler: Scheduler, member: str | None) -> Node:
        """Where a request of this member (a user, an identity; None: nobody in particular) queues."""
        if not self.split:
            return self.node
        name = _NOBODY if member is None else f"={member}"
        leaves = self.node.children
        if name not in leaves and len(leaves) >= MOST_LEAVES:
            name = _SHARED_LEAF
        return leaves.get(name) or scheduler.add_node(name, self.node, transient=True)


@dataclass(frozen=True, slots=True)
class _Place:
    """What a document wants of one tenant."""

    name: str
    group: str | None
    weight: int
    limits: LimitSettings
    split: bool


def _places(document: Document) -> list[_Place]:
    places = [
        _Place(spec.name, spec.group, spec.weight, spec.limits, spec.fair_within == "User") for spec in document.tenants
    ]
    anonymous = document.anonymous
    if anonymous is not None:
        places.append(_Place(ANONYMOUS, None, anonymous.weight, anonymous.limits, anonymous.per_identity))
    return places


class Tenants:
    """The tenants in force, by name; `anonymous` among them if the policy has that class.

    `gone` are those that are in force no more, with what was done for them.
    """

    def __init__(self, scheduler: Scheduler, entitlement: Entitlement | None = None) -> None:
        self._scheduler = scheduler
        self._entitlement = entitlement
        self.by_name: dict[str, Tenant] = {}
        self.groups: dict[str, Node] = {}
        self.gone: list[Tenant] = []

    def apply(
        self,
        document: Document,
        queued: Iterable[Request] = (),
        member_of: Callable[[Request], str | None] = lambda _: None,
    ) -> list[Request]:
        """Brings the tree in line with a document. `queued` are all queued requests, in order of arrival.

        Returns those that have been put on another leaf: whoever counts by leaf must move them too.
        """
        scheduler = self._scheduler
        retired = self._apply_groups(document)
        places = _places(document)
        for name in self.by_name.keys() - {place.name for place in places}:
            tenant = self.by_name.pop(name)
            self._retire(tenant.node)
            self.gone.append(tenant)
        requests = list(queued)
        moved: list[Request] = []
        for place in places:
            moved += self._apply_place(place, requests, member_of)
        for node in retired:
            # With a group go those below it.
            if not node.leaving:
                scheduler.retire(node)
        return moved

    def _apply_groups(self, document: Document) -> list[Node]:
        """Groups as the document wants them; returns nodes to be retired once their tenants have moved."""
        retired: list[Node] = []
        nodes: dict[str, Node] = {}
        for group in sorted(document.groups, key=lambda group: group.parent is not None):
            parent = nodes[group.parent] if group.parent is not None else self._scheduler.root
            node = self.groups.pop(group.name, None)
            if node is not None and node.parent is not parent:
                retired.append(node)
                node = None
            if node is None:
                # A group and a tenant of one name may stand beside each other, so groups carry a mark.
                node = self._scheduler.add_node(f"group:{group.name}", parent, weight=group.weight)
            self._scheduler.reweigh(node, group.weight)
            nodes[group.name] = node
        retired += self.groups.values()
        self.groups = nodes
        return retired

    def _apply_place(
        self, place: _Place, queued: list[Request], member_of: Callable[[Request], str | None]
    ) -> list[Request]:
        scheduler = self._scheduler
        parent = self.groups[place.group] if place.group is not None else scheduler.root
        limits = Limits(place.limits.max_in_flight, place.limits.tokens_per_minute)
        tenant = self.by_name.get(place.name)
        if tenant is None:
            node = scheduler.add_node(place.name, parent, weight=place.weight, limits=limits)
            self.by_name[place.name] = Tenant(place.name, node, place.limits.max_queued, place.split)
            return []
        tenant.max_queued = place.limits.max_queued
        if tenant.node.parent is parent and tenant.split == place.split:
            scheduler.reweigh(tenant.node, place.weight)
            scheduler.limit(tenant.node, limits)
            return []
        old = tenant.node
        self._retire(old)
        # On an earlier place, too, may be what the engine has given back.
        places = set(tenant.nodes)
        moved = [request for request in queued if request.leaf in places or request.leaf.parent in places]
        tenant.former = tenant.nodes
        tenant.node, tenant.split = scheduler.add_node(place.name, parent, weight=place.weight), place.split
        # What it has learned, and what it owes, goes along.
        tenant.node.outputs, tenant.node.limits, tenant.node.bucket = old.outputs, old.limits, old.bucket
        scheduler.limit(tenant.node, limits)
        scheduler.transfer((request, tenant.leaf(scheduler, member_of(request))) for request in moved)
        return moved

    def _retire(self, node: Node) -> None:
        """Takes a tenant's node out of the policy. What was done for it, and what it has queued, is still asked for."""
        if self._entitlement is not None:
            self._entitlement.keep(node)
        self._scheduler.retire(node)
