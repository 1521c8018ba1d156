"""What each node was entitled to: its weighted share of what was served while it was active.

General processor sharing, by levels: of what its parent is entitled to, an active node gets its weight over the
weights of all siblings that are busy, which have something queued or in the engine. So it is the least that a fair
order gives: a sibling that is served without ever having to wait takes its part, and what it leaves is on top. Kept as
a running service per unit of weight (`level`) of each sibling set, so that it costs O(depth) when a node becomes active
or busy, or stops being so, and nothing for a token. Also how long each node was active.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fairqueue_proxy.scheduler.tree import Node


@dataclass(slots=True)
class _Share:
    """One node's account. `level` is of its children: entitlement handed out per unit of weight so far. `counted` is
    its weight in its siblings' `busy_weight`; 0: it has nothing to do."""

    entitled: float = 0.0
    active_seconds: float = 0.0
    since: float | None = None
    entered_level: float = 0.0
    entered_with: int = 0
    counted: int = 0
    level: float = 0.0
    level_at: float = 0.0
    busy_weight: int = 0


class Entitlement:
    """Follows a scheduler's tree: give `before_activity`, `before_flight` and `after_removal` to the `Scheduler`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shares: dict[Node, _Share] = {}
        self._kept: set[Node] = set()

    def before_activity(self, node: Node) -> None:
        """The node is about to become active, or to stop being so."""
        parent = node.parent
        if parent is None:
            return
        share = self._shares.get(node) or self._begin(node)
        level = self._advance(parent)
        if node.active:
            share.entitled = self._entitled(node)
            share.active_seconds = self.active_seconds(node)
            share.since = None
            weight = share.counted if node.in_flight else 0
        else:
            share.since = self._clock()
            share.entered_level = level
            share.entered_with = node.served + node.reserved
            weight = node.weight
        self._shares[parent].busy_weight += weight - share.counted
        share.counted = weight

    def before_flight(self, node: Node) -> None:
        """The node, which is not active, is about to have something in the engine, or nothing any more."""
        parent = node.parent
        if parent is None:
            return
        share = self._shares.get(node) or self._begin(node)
        self._advance(parent)
        weight = 0 if node.in_flight else node.weight
        self._shares[parent].busy_weight += weight - share.counted
        share.counted = weight

    def after_removal(self, node: Node) -> None:
        """The node is no longer in the tree."""
        if node not in self._kept:
            self._shares.pop(node, None)

    def keep(self, node: Node) -> None:
        """The node's account will still be asked for when it is no longer in the tree."""
        self._kept.add(node)

    def entitled(self, node: Node) -> float:
        """Millionths of a cost unit that the node was entitled to so far."""
        if node.parent is None:
            return float(node.served)
        share = self._shares.get(node)
        if share is not None and share.since is not None:
            self._advance(node.parent)
        return self._entitled(node)

    def owed(self, node: Node) -> float:
        """Millionths of a cost unit that was let in of it less than it was entitled to since it became active; 0: it
        is not, or nothing is owed. Who has nothing waiting any more got all that it asked for."""
        share = self._shares.get(node)
        if share is None or share.since is None or node.parent is None:
            return 0.0
        entitled = node.weight * (self._advance(node.parent) - share.entered_level)
        return max(0.0, entitled - (node.served + node.reserved - share.entered_with))

    def active_seconds(self, node: Node) -> float:
        """How long the node was active so far."""
        share = self._shares.get(node)
        if share is None:
            return 0.0
        return share.active_seconds + (self._clock() - share.since if share.since is not None else 0.0)

    def _begin(self, node: Node) -> _Share:
        share = self._shares[node] = _Share()
        return share

    def _entitled(self, node: Node) -> float:
        share = self._shares.get(node)
        if share is None or node.parent is None:
            return 0.0
        if share.since is None:
            return share.entitled
        return share.entitled + node.weight * (self._shares[node.parent].level - share.entered_level)

    def _advance(self, parent: Node) -> float:
        """Brings the level of the parent's children up to now."""
        share = self._shares.get(parent) or self._begin(parent)
        total = self.entitled(parent) if parent.parent is not None else float(parent.served)
        if share.busy_weight:
            share.level += (total - share.level_at) / share.busy_weight
        share.level_at = total
        return share.level
