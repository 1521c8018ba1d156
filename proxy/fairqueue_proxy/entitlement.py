"""What each node was entitled to: its weighted share of what was served while it was active.

General processor sharing, by levels: of what its parent is entitled to, an active node gets its weight over the
weights of all active siblings. Kept as a running service per unit of weight (`level`) of each sibling set, so that
it costs O(depth) when a node's activity changes and nothing for a token. Also how long each node was active.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fairqueue_proxy.scheduler.tree import Node


@dataclass(slots=True)
class _Share:
    """One node's account. `level` is of its children: entitlement handed out per unit of weight so far."""

    entitled: float = 0.0
    active_seconds: float = 0.0
    since: float | None = None
    entered_level: float = 0.0
    level: float = 0.0
    level_at: float = 0.0
    active_weight: int = 0


class Entitlement:
    """Follows a scheduler's tree: give `before_activity` and `after_removal` to the `Scheduler`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shares: dict[Node, _Share] = {}
        self._kept: set[Node] = set()

    def before_activity(self, node: Node) -> None:
        """The node is about to become active, or to stop being so."""
        parent = node.parent
        if parent is None:
            return
        share = self._share(node)
        level = self._advance(parent)
        siblings = self._shares[parent]
        if node.active:
            share.entitled = self._entitled(node)
            share.active_seconds = self.active_seconds(node)
            share.since = None
            siblings.active_weight -= node.weight
        else:
            share.since = self._clock()
            share.entered_level = level
            siblings.active_weight += node.weight

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

    def active_seconds(self, node: Node) -> float:
        """How long the node was active so far."""
        share = self._shares.get(node)
        if share is None:
            return 0.0
        return share.active_seconds + (self._clock() - share.since if share.since is not None else 0.0)

    def _share(self, node: Node) -> _Share:
        share = self._shares.get(node)
        if share is None:
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
        share = self._share(parent)
        total = self.entitled(parent)
        if share.active_weight:
            share.level += (total - share.level_at) / share.active_weight
        share.level_at = total
        return share.level
