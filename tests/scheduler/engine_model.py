"""An engine in virtual time, around the scheduler core alone: slots, each of which makes one token a step.

The prompt costs no time. What is measured is what an engine would see: tokens made for each leaf, and the slots that
stood empty while somebody could have used them.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

from fairqueue_proxy.scheduler import Node, Prediction, Request, Scheduler


@dataclass(slots=True)
class Engine:
    """Runs requests of random lengths, unknown to the scheduler beforehand.

    `backlogged` leaves never run dry. `users` send one request each, and the next one as soon as it has ended.
    """

    slots: int
    seed: int
    shortest_tokens: int = 16
    longest_tokens: int = 128
    core: Scheduler = field(init=False)
    backlogged: list[Node] = field(default_factory=list)
    users: list[Node] = field(default_factory=list)
    made: Counter[Node] = field(default_factory=Counter)
    service: dict[Node, int] = field(default_factory=dict)
    empty_slot_steps: int = 0
    worst_gap: float = 0.0
    steps: int = 0
    _running: dict[Request, int] = field(default_factory=dict)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.core = Scheduler(prediction=Prediction.MEAN, clock=lambda: float(self.steps))

    def run(self, steps: int) -> None:
        """Time passes, with everybody back in the queue before each decision."""
        for _ in range(steps):
            self._ask()
            self._fill()
            self._make_tokens()
            self.steps += 1

    def measure(self, steps: int, warm_up_steps: int = 1000) -> None:
        """Counts from after the warm-up only; the gap always."""
        self.run(warm_up_steps)
        self.made.clear()
        self.empty_slot_steps = 0
        before = {node: node.served for node in self.core.nodes()}
        self.run(steps)
        self.service = {node: node.served - before[node] for node in self.core.nodes()}

    def _ask(self) -> None:
        for leaf in self.backlogged:
            # Two, so that the queue does not run empty by a dispatch, which would be a leave and a lift.
            while len(leaf.queue) < 2:
                self._send(leaf)
        for leaf in self.users:
            if not leaf.queue and not leaf.in_flight:
                self._send(leaf)

    def _send(self, leaf: Node) -> None:
        self.core.enqueue(Request(leaf, self._length(), self.longest_tokens, prompt_exact=True))

    def _length(self) -> int:
        return self._random.randint(self.shortest_tokens, self.longest_tokens)

    def _fill(self) -> None:
        while (request := self.core.dispatch(lambda _request: self.core.root.in_flight < self.slots)) is not None:
            self._running[request] = self._length()
            self._ask()
            self._watch_gap()
        self.empty_slot_steps += self.slots - len(self._running)

    def _make_tokens(self) -> None:
        for request, length in list(self._running.items()):
            made = request.output_tokens + 1
            self.core.output(request, made, exact=True)
            self.made[request.leaf] += 1
            if made == length:
                del self._running[request]
                self.core.finish(request)
        self._watch_gap()

    def _watch_gap(self) -> None:
        """Largest part of its bound that any gap has come to."""
        for node in (self.core.root, *self.core.nodes()):
            gap = self.core.gap(node)
            if gap.gap > 0:
                self.worst_gap = max(self.worst_gap, gap.gap / gap.bound)
