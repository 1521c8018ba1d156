"""A front to which things happen: the engine dies, somebody goes past it, bytes are on their way for a while.

`Staged` stands between the simulation and the front proper, and keeps the time at which each token was made.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from itertools import count

import numpy as np

from fairqueue_proxy.outcome import Outcome
from fairqueue_sim.batching import ContinuousBatch
from fairqueue_sim.generation import Generation, Step
from fairqueue_sim.lab.fate import Fate
from fairqueue_sim.lab.fronts import Front
from fairqueue_sim.lab.metrics import Array
from fairqueue_sim.lab.outside import Outside

__all__ = ["BYPASS", "Agenda", "FarEngine", "Staged"]

BYPASS = "bypass"
"""The tenant of arrivals that go to the engine directly."""


class Agenda:
    """What is to be done at which instant; at the same one, in the order in which it was entered."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, instant: float, act: Callable[[], None]) -> None:
        """Enters one."""
        heappush(self._entries, (instant, next(self._numbers), act))

    @property
    def due(self) -> float:
        """When the next one is to be done; infinity if there is none."""
        return self._entries[0][0] if self._entries else float("inf")

    def act(self, until: float = float("inf")) -> None:
        """Does what is due by then."""
        while self._entries and self._entries[0][0] <= until:
            heappop(self._entries)[2]()


class FarEngine:
    """An engine that requests reach a while after they were sent. `sent_at` is when each was."""

    def __init__(self, batch: ContinuousBatch, clock: Callable[[], float], transit_seconds: float) -> None:
        self.batch = batch
        self.transit_seconds = transit_seconds
        self.on_the_way = Agenda()
        self.sent_at: dict[Generation, float] = {}
        self._clock = clock

    def submit(self, generation: Generation) -> None:
        """Sends one."""
        now = self.sent_at[generation] = self._clock()
        self.on_the_way.at(now + self.transit_seconds, partial(self.batch.submit, generation))


class Staged:
    """Passes on what a front is told, and does besides what is on the `agenda`. Time on the way is the product's."""

    def __init__(self, inner: Front, engine: FarEngine, clock: Callable[[], float]) -> None:
        self.agenda = Agenda()
        # Of each request: whether the engine had room for it when it came.
        self.found_room: dict[Generation, bool] = {}
        self._inner = inner
        self._engine = engine
        self._clock = clock
        self._fates: dict[Generation, Fate] = {}
        self._step: Step | None = None
        self._down = self._bypassed = False
        self._step_ends: list[tuple[float, float]] = [(0.0, 0.0)]
        self.first_full_at: float | None = None
        self._sample: Generation | None = None
        self.gap = inner.gap

    @property
    def product(self) -> Outside | None:
        """The front proper, if it is the product."""
        return self._inner if isinstance(self._inner, Outside) else None

    def arrive(self, fate: Fate, generation: Generation) -> None:
        batch = self._engine.batch
        self._fates[generation] = fate
        self.found_room[generation] = not batch.waiting and batch.would_fit(generation)
        if fate.arrival.tenant == BYPASS:
            self._bypassed = True
            batch.submit(generation)
        elif self._down and self.product is None:
            fate.refused = Outcome.ENGINE_UNAVAILABLE.value
        else:
            self._inner.arrive(fate, generation)

    def began(self, step: Step) -> None:
        self._step = step
        self._inner.began(step)
        if self._sample is not None and not self._engine.batch.would_fit(self._sample):
            self.first_full_at, self._sample = self._clock(), None

    def over(self, step: Step) -> None:
        self._step = None
        now = self._clock()
        tokens = sum(1 + it.prompt_tokens / (it.left_tokens + it.generated_tokens) for it, _ in step.tokens)
        self._step_ends.append((now, self._step_ends[-1][1] + tokens))
        if self._bypassed:
            step = _without_bypass(step)
        if self.product is None:
            self._inner.over(step)
        else:
            self._engine.on_the_way.at(now + self._engine.transit_seconds, partial(self._inner.over, step))

    def head(self) -> Generation | None:
        return self._inner.head()

    def due(self) -> float:
        return min(self._inner.due(), self.agenda.due, self._engine.on_the_way.due)

    def wake(self) -> None:
        now = self._clock()
        self._engine.on_the_way.act(now)
        self.agenda.act(now)
        if self._inner.due() <= now:
            self._inner.wake()

    def watch_for_full(self, sample: Generation) -> None:
        """From now on: `first_full_at` is when a step begins with no room left for such a request."""
        self.first_full_at, self._sample = None, sample

    def engine_dies(self) -> None:
        """Whatever is in it, or has been sent to it, breaks."""
        self._engine.on_the_way.act()
        if self._step is not None:
            for of_step in (self._step.tokens, self._step.prefilled, self._step.finished):
                of_step.clear()
        gone = self._engine.batch.crash()
        self._down = True
        if self.product is not None:
            self.product.engine_died()
        else:
            for generation in gone:
                self._fates[generation].refused = Outcome.ENGINE_ERROR.value

    def engine_is_back(self) -> None:
        """An empty one takes requests again."""
        self._down = False
        if self.product is not None:
            self.product.engine_is_back()

    def everybody_leaves(self) -> None:
        """The clients of all for whom the engine has done nothing yet hang up, wherever these wait."""
        if self.product is not None:
            self.product.everybody_leaves()
            return
        for generation, fate in self._fates.items():
            if fate.started_at is None and fate.refused is None:
                fate.refused = Outcome.CLIENT_GONE.value
                self._engine.batch.cancel(generation)

    def tokens_between(self, starts: Sequence[float] | Array, seconds: float) -> Array:
        """Tokens that the engine has read and made in so many seconds from each of these instants on; a prompt's count
        as its output is made."""
        times, totals = np.array(self._step_ends).T
        starts = np.asarray(starts)
        tokens: Array = np.interp(starts + seconds, times, totals) - np.interp(starts, times, totals)
        return tokens


def _without_bypass(step: Step) -> Step:
    return replace(
        step,
        tokens=[made for made in step.tokens if made[0].client != BYPASS],
        prefilled=[it for it in step.prefilled if it.client != BYPASS],
        finished=[ended for ended in step.finished if ended[0].client != BYPASS],
    )
