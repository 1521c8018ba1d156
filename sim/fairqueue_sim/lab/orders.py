"""Orders inside the engine: who of those that wait is let into the batch next. The product's competitors.

Each is a `Line` of the batch: the head joins if it fits, else nobody does. They see what an engine sees: arrivals, who
joined, each step's tokens. VTC is "Fairness in Serving Large Language Models" (OSDI '24): Algorithm 2, with predicted
lengths Algorithm 3; deficit round robin is its Appendix C.2. Costs are the paper's, 1 for a prompt token and 2 for an
output token, divided by weight. Pure; the clock is given where it is needed.
"""

import random
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from fairqueue_sim.batching import Line
from fairqueue_sim.generation import FinishReason, Generation, Step

__all__ = ["Order", "UnknownSchedulerError", "make_order", "order_names"]

INPUT_COST, OUTPUT_COST = 1, 2
RPM_WINDOW_SECONDS = 60.0
# Of the KV cache, as in the artifact.
DRR_QUANTUM = 1 / 20
PREDICTION_SAMPLES = 5

Predict = Callable[[Generation], float]


class UnknownSchedulerError(LookupError):
    """There is no scheduler of that name; the message lists those that exist."""


class Order(Line, ABC):
    """Queues per client, and an order over them."""

    def __init__(self) -> None:
        self.queues: dict[str, deque[Generation]] = {}
        self._count = 0
        self._given_way: set[Generation] = set()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Generation]:
        return chain.from_iterable(self.queues.values())

    def refuses(self, client: str, now: float) -> bool:
        """Whether a request is not even queued."""
        return False

    def append(self, generation: Generation, /) -> None:
        queue = self.queues.setdefault(generation.client, deque())
        queue.append(generation)
        self._count += 1
        if len(queue) == 1:
            self._joined(generation.client)

    def put_back(self, generation: Generation) -> None:
        queue = self.queues.setdefault(generation.client, deque())
        queue.appendleft(generation)
        self._given_way.add(generation)
        self._count += 1
        if len(queue) == 1:
            self._joined(generation.client)

    def head(self) -> Generation | None:
        return self.queues[self._next()][0] if self._count else None

    def take(self) -> Generation:
        client = self._next()
        queue = self.queues[client]
        generation = queue.popleft()
        self._count -= 1
        # Once only: who has had to give way, maybe in the middle of its prompt, was charged when it joined first.
        if generation in self._given_way:
            self._given_way.remove(generation)
        else:
            self._charge_input(generation)
        self._taken()
        if not queue:
            del self.queues[client]
            self._left(client)
        return generation

    def over(self, step: Step) -> None:
        """A step of the engine is over."""

    @property
    def counters(self) -> Mapping[str, float] | None:
        """What the order is by, of those who wait, where it is by a counter that is promised to stay together."""
        return None

    @abstractmethod
    def _next(self) -> str:
        """The client whose turn it is; somebody waits. Says the same until something changes."""

    def _joined(self, client: str) -> None: ...
    def _left(self, client: str) -> None: ...
    def _taken(self) -> None: ...
    def _charge_input(self, generation: Generation) -> None: ...


class Fcfs(Order):
    """First come, first served."""

    def __init__(self) -> None:
        super().__init__()
        self._all: deque[Generation] = deque()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Generation]:
        return iter(self._all)

    def append(self, generation: Generation, /) -> None:
        self._all.append(generation)

    def put_back(self, generation: Generation) -> None:
        self._all.appendleft(generation)

    def head(self) -> Generation | None:
        return self._all[0] if self._all else None

    def take(self) -> Generation:
        return self._all.popleft()

    def _next(self) -> str:
        return self._all[0].client


class RequestsPerMinute(Fcfs):
    """First come, first served, but of each client no more than so many requests are taken in any minute."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._accepted: dict[str, deque[float]] = {}

    def refuses(self, client: str, now: float) -> bool:
        accepted = self._accepted.setdefault(client, deque())
        while accepted and accepted[0] < now - RPM_WINDOW_SECONDS:
            accepted.popleft()
        if len(accepted) >= self._most:
            return True
        accepted.append(now)
        return False


class RoundRobin(Order):
    """A request of each client in turn, whatever its length."""

    def __init__(self) -> None:
        super().__init__()
        self._turns: deque[str] = deque()

    def _next(self) -> str:
        return self._turns[0]

    def _joined(self, client: str) -> None:
        self._turns.append(client)

    def _left(self, client: str) -> None:
        self._turns.remove(client)

    def _taken(self) -> None:
        self._turns.rotate(-1)


class DeficitRoundRobin(Order):
    """In turn, each until what it was served has used up its quantum. Outputs are charged as they are made, so that a
    deficit may be negative; who is in debt passes its turns, also while it wants nothing, until all is paid. Nobody
    saves credit up."""

    def __init__(self, quantum: float, weights: Mapping[str, int]) -> None:
        super().__init__()
        self._quantum = quantum
        self._weights = weights
        self._turns: deque[str] = deque()
        self._deficits: dict[str, float] = {}

    def _next(self) -> str:
        turns, deficits = self._turns, self._deficits
        while deficits[turns[0]] <= 0:
            turns.rotate(-1)
            client = turns[0]
            if deficits[client] <= 0:
                deficits[client] += self._quantum * self._weights.get(client, 1)
            if client not in self.queues and deficits[client] >= 0:
                self._retire(client)
                turns.rotate(1)
        return turns[0]

    def _joined(self, client: str) -> None:
        if client not in self._deficits:
            self._turns.append(client)
            self._deficits[client] = 0.0

    def _left(self, client: str) -> None:
        if self._deficits[client] >= 0:
            self._retire(client)

    def _retire(self, client: str) -> None:
        self._turns.remove(client)
        del self._deficits[client]

    def _charge_input(self, generation: Generation) -> None:
        self._deficits[generation.client] -= INPUT_COST * generation.prompt_tokens

    def over(self, step: Step) -> None:
        for generation, _ in step.tokens:
            if generation.client not in self._deficits:
                # It wants nothing, but what it has running makes debts.
                self._joined(generation.client)
            self._deficits[generation.client] -= OUTPUT_COST


class VirtualTokenCounter(Order):
    """VTC; `lifts` False is the paper's LCF (least counter first). With `predict`, Algorithm 3."""

    def __init__(self, weights: Mapping[str, int], *, lifts: bool = True, predict: Predict | None = None) -> None:
        super().__init__()
        self._weights = weights
        self._lifts = lifts
        self._predict = predict
        self._counters: dict[str, float] = {}
        self._predicted: dict[Generation, float] = {}
        self._last_left: str | None = None
        self._seen: dict[str, int] = {}

    @property
    def counters(self) -> Mapping[str, float] | None:
        return {client: self._counters[client] for client in self.queues} if self._lifts else None

    def _next(self) -> str:
        # Ties: who was ever seen first, as in the artifact.
        return min(self.queues, key=lambda client: (self._counters[client], self._seen[client]))

    def _joined(self, client: str) -> None:
        own = self._counters.setdefault(client, 0.0)
        self._seen.setdefault(client, len(self._seen))
        if not self._lifts:
            return
        others = [self._counters[other] for other in self.queues if other != client]
        if others:
            own = max(own, min(others))
        elif self._last_left is not None:
            own = max(own, self._counters[self._last_left])
        self._counters[client] = own

    def _left(self, client: str) -> None:
        self._last_left = client

    def _charge_input(self, generation: Generation) -> None:
        cost: float = INPUT_COST * generation.prompt_tokens
        if self._predict is not None:
            self._predicted[generation] = predicted = self._predict(generation)
            cost += OUTPUT_COST * predicted
        self._charge(generation.client, cost)

    def over(self, step: Step) -> None:
        if self._predict is None:
            for client, tokens in Counter(generation.client for generation, _ in step.tokens).items():
                self._charge(client, OUTPUT_COST * tokens)
            return
        for generation, number in step.tokens:
            predicted = self._predicted.get(generation, 0.0)
            if number > predicted:
                self._charge(generation.client, OUTPUT_COST * min(number - predicted, 1.0))
        for generation, _ in step.finished:
            predicted = self._predicted.pop(generation, 0.0)
            self._charge(generation.client, -OUTPUT_COST * max(predicted - generation.generated_tokens, 0.0))

    def _charge(self, client: str, cost: float) -> None:
        self._counters[client] += cost / self._weights.get(client, 1)


class PredictedVtc(VirtualTokenCounter):
    """VTC with the mean of the client's last outputs as prediction; nothing for its first."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._outputs: dict[str, deque[int]] = {}
        super().__init__(weights, predict=self._mean)

    def _mean(self, generation: Generation) -> float:
        outputs = self._outputs.get(generation.client)
        return sum(outputs) / len(outputs) if outputs else 0.0

    def over(self, step: Step) -> None:
        super().over(step)
        for generation, reason in step.finished:
            # How long it would have become nobody knows of whom the client has left.
            if reason is not FinishReason.ABORT:
                outputs = self._outputs.setdefault(generation.client, deque(maxlen=PREDICTION_SAMPLES))
                outputs.append(generation.generated_tokens)


def _oracle(percent: int, seed: int) -> Predict:
    """The true length, give or take so many per cent, drawn evenly."""
    source, error = random.Random(f"oracle/{seed}"), percent / 100
    return lambda generation: generation.left_tokens * source.uniform(1 - error, 1 + error)


def order_names() -> list[str]:
    """The names that `make_order` knows; N stands for a number."""
    return ["fcfs", "rpm:N", "lcf", "round-robin", "drr", "vtc", "vtc-predict", "vtc-oracle", "vtc-oracle:N"]


def make_order(name: str, weights: Mapping[str, int], *, kv_tokens: int, seed: int) -> Order:
    """The order of that name: `rpm:N` takes N requests per minute of each client, `vtc-oracle:N` errs by up to N %.

    Raises:
        UnknownSchedulerError: there is none of that name.
    """
    kind, colon, argument = name.partition(":")
    number = int(argument) if argument.isascii() and argument.isdigit() and len(argument) < 7 else None
    makers: dict[str, Callable[[], Order]] = {
        "fcfs": Fcfs,
        "round-robin": RoundRobin,
        "drr": lambda: DeficitRoundRobin(kv_tokens * DRR_QUANTUM, weights),
        "lcf": lambda: VirtualTokenCounter(weights, lifts=False),
        "vtc": lambda: VirtualTokenCounter(weights),
        "vtc-predict": lambda: PredictedVtc(weights),
        "vtc-oracle": lambda: VirtualTokenCounter(weights, predict=_oracle(0, seed)),
    }
    if not colon and kind in makers:
        return makers[kind]()
    if kind == "rpm" and number:
        return RequestsPerMinute(number)
    if kind == "vtc-oracle" and number is not None and number <= 100:
        return VirtualTokenCounter(weights, predict=_oracle(number, seed))
    raise UnknownSchedulerError(f"there is no such scheduler: take one of {', '.join(['fairqueue', *order_names()])}")
