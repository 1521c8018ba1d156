"""The tree of tenants and the requests in it: data and its arithmetic, no decisions.

Only `fairqueue_proxy.scheduler.core` changes what is here. Everything else may read it.
"""

import enum
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import count

from fairqueue_proxy.scheduler.cost import MICRO, Cost
from fairqueue_proxy.scheduler.lazy_heap import LazyHeap
from fairqueue_proxy.scheduler.prediction import TENANT_SAMPLES, RecentMean
from fairqueue_proxy.scheduler.rate import TokenBucket

_serials = count()
_DEFAULT_COST = Cost()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node may have at once; None is no limit. They decide eligibility and never block other nodes."""

    max_in_flight: int | None = None
    tokens_per_minute: int | None = None


class State(enum.Enum):
    """Where a request stands."""

    NEW = "new"
    QUEUED = "queued"
    IN_FLIGHT = "in flight"
    ENDED = "ended"


# Python 3.11 takes longer to look up a member than to call a function.
NEW, QUEUED, IN_FLIGHT, ENDED = State


@dataclass(slots=True, eq=False)
class Request:
    """One request as the scheduler sees it. Token counts are totals over all its `sequences`.

    `prompt_tokens` is an estimate until `prompt_exact`, and how many of them were cached is known only when the engine
    has told its own count (`cached_known`). `max_output_tokens` is the longest output that it may
    still have: its own limit, else what is left of the context.
    """

    leaf: "Node"
    prompt_tokens: int
    max_output_tokens: int
    sequences: int = 1
    # Its first token can be seen when it is made.
    streamed: bool = True
    prompt_exact: bool = False
    cached_tokens: int = 0
    cached_known: bool = False
    output_tokens: int = 0
    output_exact_tokens: int = 0
    predicted_tokens: int = 0
    state: State = NEW
    arrival: int = -1
    # What the path carries for it, in millionths of a cost unit, and in tokens.
    charged: int = 0
    held: int = 0
    worst: int = 0
    metered_tokens: int = 0
    confirmed: bool = False
    # Up to so many output tokens, each further one that is counted exactly adds the same to what is charged and to what
    # is held. Negative: it has to be worked out.
    even_until: int = -1
    even_charge: int = 0
    even_hold: int = 0
    # Set at dispatch, and kept whatever becomes of the tree and of the cost function meanwhile.
    path: tuple["Node", ...] = ()
    cost: Cost = _DEFAULT_COST


class Node:
    """A group, a tenant or a user. A leaf queues requests; an inner node orders its children.

    `settled` (what it was charged, divided by its weight, only growing) and `reserved` (what its requests in
    flight may still be charged, not divided) make up its `key`.
    """

    __slots__ = (
        "_above",
        "_base",
        "_charged",
        "active",
        "bucket",
        "by_arrival",
        "by_key",
        "by_settled",
        "children",
        "head_arrival",
        "idle",
        "in_flight",
        "last_left",
        "leaving",
        "limits",
        "name",
        "old_lightest",
        "orders",
        "outputs",
        "parent",
        "peak_worst",
        "queue",
        "reach",
        "reserved",
        "serial",
        "served",
        "transient",
        "weight",
        "worst",
    )

    def __init__(
        self,
        name: str,
        parent: "Node | None",
        *,
        weight: int = 1,
        limits: Limits = Limits(),
        transient: bool = False,
        now: float = 0.0,
    ) -> None:
        self.name = name
        self.parent = parent
        self._above: tuple[Node, ...] = parent.path if parent is not None else ()
        self.weight = weight
        self.limits = limits
        self.transient = transient
        # Taken out of the policy: it goes as soon as nothing below it is queued or in flight.
        self.leaving = False
        self.serial = next(_serials)
        self.children: dict[str, Node] = {}
        self.queue: OrderedDict[int, Request] = OrderedDict()
        # A tenant's transient users share its samples: what a forgotten leaf learned must not be lost with it.
        self.outputs: RecentMean = parent.outputs if transient and parent is not None else RecentMean(TENANT_SAMPLES)
        self.bucket = TokenBucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None
        self.active = False
        self.head_arrival = -1
        self.in_flight = 0
        self.reserved = 0
        # All that was ever charged, in millionths of a unit: the service that the node got.
        self.served = 0
        # settled = _base + _charged / weight: integers keep the key exactly constant while a reservation turns
        # into a charge, and a lift sets it to exactly its mark.
        self._base = 0.0
        self._charged = 0
        # Cost of the longest course that the requests in flight below may take, and its largest value so far (H).
        self.worst = 0
        self.peak_worst = 0
        # The lightest weight that there was before changes of the children's weights, until they are within the new
        # bound; 0: nothing stands.
        self.old_lightest = 0
        # The parent's `worst` at this node's last dispatch, or what bounded the node when old weights were forgotten,
        # with what is now known to be longer below this node.
        self.reach = 0
        # Active children, in three orders, and the one that last stopped being active. One that leaves may have had
        # the name of one that comes: only serial numbers differ for ever.
        self.by_key: LazyHeap[Node] = LazyHeap(Node.turn)
        self.by_settled: LazyHeap[Node] = LazyHeap(lambda child: (child.settled, child.serial))
        self.by_arrival: LazyHeap[Node] = LazyHeap(lambda child: (child.head_arrival, child.name, child.serial))
        # Nobody above the root asks for the oldest below it.
        self.orders = (self.by_key, self.by_settled, self.by_arrival)[: 3 if parent is not None else 2]
        self.last_left: Node | None = None
        # Transient children without work, kept only while they have something to pay off.
        self.idle: LazyHeap[Node] = LazyHeap(lambda child: (child.settled, child.serial))

    def __repr__(self) -> str:
        state = "active" if self.active else "inactive"
        return (
            f"<Node {self.path_name} {state}, {len(self.queue)} queued, {self.in_flight} in flight, key {self.key:g}>"
        )

    @property
    def path_name(self) -> str:
        """Names from below the root down, joined by slashes."""
        names = [node.name for node in self.path]
        return "/".join(reversed(names)) or self.name

    @property
    def path(self) -> tuple["Node", ...]:
        """The node and its ancestors, from itself up, without the root."""
        return (self, *self._above) if self.parent is not None else ()

    @property
    def settled(self) -> float:
        """Cost units charged so far, divided by weight, with what lifts added. Never falls."""
        return self._base + self._charged / (self.weight * MICRO)

    @property
    def key(self) -> float:
        """What children are ordered by: `settled + reserved / weight`, in cost units."""
        return self.turn()[0]

    def turn(self) -> tuple[float, int, str, int]:
        """The smallest of its siblings' is whose turn it is: by key, then the oldest request, then the name."""
        key = self._base + (self._charged + self.reserved) / (self.weight * MICRO)
        return (key, self.head_arrival, self.name, self.serial)

    @property
    def head(self) -> Request | None:
        """A leaf's oldest queued request."""
        return next(iter(self.queue.values())) if self.queue else None

    def post(self, charged: int, held: int) -> None:
        """Adds to what is charged (never negative) and to what is reserved, in millionths of a unit."""
        self._charged += charged
        self.served += charged
        self.reserved += held

    def lift_to(self, settled: float) -> None:
        """Raises `settled` to exactly this; what is reserved stays."""
        self._base = settled
        self._charged = 0

    @property
    def lightest(self) -> int:
        """The smallest weight among the children."""
        return min((child.weight for child in self.children.values()), default=1)

    def keep_bound(self, lightest: int) -> None:
        """A change among the children: the bound by their `lightest` weight before it stands until it is met anew."""
        self.old_lightest = min(lightest, self.old_lightest or lightest)

    def reweigh(self, weight: int) -> None:
        """What was charged so far stays as it is; what is reserved counts by the new weight from now on."""
        self.lift_to(self.settled)
        self.weight = weight

    def set_limits(self, limits: Limits, now: float) -> None:
        """A debt of tokens is kept."""
        rate, self.limits = limits.tokens_per_minute, limits
        if rate is None:
            self.bucket = None
        elif self.bucket is None:
            self.bucket = TokenBucket(rate, now)
        else:
            self.bucket.change_rate(rate, now)

    def post_worst(self, cost: int) -> None:
        """Adds to the cost of the longest course of what is in flight below; its peak is H of the bound."""
        self.worst += cost
        if self.worst > self.peak_worst:
            self.peak_worst = self.worst


@dataclass(frozen=True, slots=True)
class Gap:
    """How far apart the active children of a node are, and how far they may be, in cost units over weight."""

    gap: float
    bound: float
    active: int = field(default=0)
