"""Whose turn it is: things that are due at their times, and of which only so many may be under way at once.

A free place goes to the namespace that has the fewest under way, among equals to the one that has waited longest; in
a namespace its policies take turns, and of a policy what has been due longest comes first. So whoever has much to do,
or whose things take long, takes longer himself, and nobody else does.
"""

import heapq
from collections import Counter
from math import inf
from typing import Final

PolicyName = tuple[str, str]
"""Namespace and name."""


class Turns:
    """See the module's text. A thing is a policy and a uid. Times are seconds of one clock that never goes back."""

    def __init__(self, at_once: int, of_a_namespace: int) -> None:
        """At most so many are under way, and of one namespace at most so many."""
        self._at_once: Final = at_once
        self._of_a_namespace: Final = of_a_namespace
        self._due: dict[tuple[PolicyName, str], float] = {}
        # When, what. Only what `_due` says as well counts.
        self._later: list[tuple[float, tuple[PolicyName, str]]] = []
        # Namespace → policy → uids of what is due, all in the order of their turns.
        self._ready: dict[str, dict[PolicyName, dict[str, None]]] = {}
        self._under_way: Counter[str] = Counter()

    def put(self, policy: PolicyName, uid: str, due: float) -> None:
        """The thing is due then, or sooner if that was said before."""
        if due < self._due.get((policy, uid), inf):
            self._due[policy, uid] = due
            heapq.heappush(self._later, (due, (policy, uid)))

    def drop(self, policy: PolicyName, uid: str) -> None:
        """The thing is not due any more. One that is under way stays so."""
        if self._due.pop((policy, uid), None) is not None:
            self._unready(policy, uid)

    def take(self, now: float) -> tuple[PolicyName, str] | None:
        """The next thing, which is under way from now on, until `done` is called for its policy."""
        self._make_ready(now)
        namespace = self._next_namespace()
        if namespace is None:
            return None
        policies = self._ready[namespace]
        policy, uids = next(iter(policies.items()))
        uid = next(iter(uids))
        del self._due[policy, uid]
        self._under_way[namespace] += 1
        # Others are next: those that have more wait behind them.
        policies[policy] = policies.pop(policy)
        self._ready[namespace] = self._ready.pop(namespace)
        self._unready(policy, uid)
        return policy, uid

    def done(self, policy: PolicyName) -> None:
        """One of the policy's things is not under way any more."""
        self._under_way[policy[0]] -= 1
        if not self._under_way[policy[0]]:
            del self._under_way[policy[0]]

    def next_at(self) -> float:
        """When `take` has something next, if nothing is put or done before; what could be taken now is long due."""
        if self._next_namespace() is not None:
            return -inf
        while self._later and self._is_stale(*self._later[0]):
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else inf

    def _make_ready(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            due, thing = heapq.heappop(self._later)
            if not self._is_stale(due, thing):
                policy, uid = thing
                self._ready.setdefault(policy[0], {}).setdefault(policy, {})[uid] = None

    def _is_stale(self, due: float, thing: tuple[PolicyName, str]) -> bool:
        return self._due.get(thing) != due

    def _next_namespace(self) -> str | None:
        if self._under_way.total() >= self._at_once:
            return None
        # Those with anything under way are few: there are no more of them than places.
        free = next((namespace for namespace in self._ready if namespace not in self._under_way), None)
        if free is not None or not self._ready:
            return free
        fewest = min(self._ready, key=self._under_way.__getitem__)
        return fewest if self._under_way[fewest] < self._of_a_namespace else None

    def _unready(self, policy: PolicyName, uid: str) -> None:
        policies = self._ready.get(policy[0], {})
        uids = policies.get(policy, {})
        uids.pop(uid, None)
        if not uids:
            policies.pop(policy, None)
        if not policies:
            self._ready.pop(policy[0], None)
