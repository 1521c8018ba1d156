"""Where the order is decided: by an order inside the engine, or by the product in front of one that is first come,
first served.

A front is told of arrivals and of what comes out of the engine, and puts into the engine what is to be there.
"""

from typing import Protocol

from fairqueue_sim.batching import ContinuousBatch
from fairqueue_sim.generation import Generation, Step
from fairqueue_sim.lab.fate import Fate, GapSeen
from fairqueue_sim.lab.orders import INPUT_COST, OUTPUT_COST, Order

__all__ = ["Front", "Inside"]


class Front(Protocol):
    """`gap` is what was seen of the promise that counters stay together; None where nothing is promised."""

    gap: GapSeen | None

    def arrive(self, fate: Fate, generation: Generation) -> None:
        """A request has come."""

    def began(self, step: Step) -> None:
        """The engine has begun a step."""

    def over(self, step: Step) -> None:
        """A step of the engine is over."""

    def head(self) -> Generation | None:
        """Who is next of those that wait outside the engine."""

    def due(self) -> float:
        """The instant at which something changes by itself; infinity if nothing does."""

    def wake(self) -> None:
        """That instant has come."""


class Inside:
    """Everything goes to the engine at once, whose own order decides. `lightest` is the smallest weight of all."""

    def __init__(self, order: Order, batch: ContinuousBatch, lightest: int) -> None:
        self._order = order
        self._batch = batch
        self._lightest = lightest
        self._longest_prompt = 0
        self.gap = GapSeen() if order.counters is not None else None

    def arrive(self, fate: Fate, generation: Generation) -> None:
        if self._order.refuses(generation.client, fate.arrival.seconds):
            fate.refused = "rate"
            return
        self._longest_prompt = max(self._longest_prompt, generation.prompt_tokens)
        self._batch.submit(generation)

    def began(self, step: Step) -> None:
        if self.gap is None or not step.joined:
            return
        counters = self._order.counters
        if counters:
            # VTC, Lemma 4.3.
            bound = max(INPUT_COST * self._longest_prompt, OUTPUT_COST * self._batch.limits.kv_tokens) / self._lightest
            self.gap.see(max(counters.values()) - min(counters.values()), bound)

    def over(self, step: Step) -> None:
        self._order.over(step)

    def head(self) -> Generation | None:
        return None

    def due(self) -> float:
        return float("inf")

    def wake(self) -> None: ...
