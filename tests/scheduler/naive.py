"""A second scheduler, to test the first against: the definitions of VTC on a weighted tree, and nothing clever.

No heaps and no caches: what is queued or in flight is one plain list, and every sum, order and limit is worked out
from it when asked for. Remembered is only what the definitions remember: charges, lifts, who left last, largest
values so far, token buckets. Slow, quadratic in everything; single-threaded.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MICRO = 1_000_000
CostFunction = Callable[[int, int, int, int], int]
"""Prompt, output and cached tokens, sequences: millionths of a cost unit."""


@dataclass(eq=False)
class NaiveNode:
    """A node of the tree, the root included."""

    name: str
    parent: "NaiveNode | None"
    weight: int = 1
    max_in_flight: int | None = None
    tokens_per_minute: int | None = None
    # A user's leaf: it learns output lengths together with all users of its tenant.
    learns_with_parent: bool = False
    children: list["NaiveNode"] = field(default_factory=list)
    base: float = 0.0
    charged: int = 0
    served: int = 0
    active: bool = False
    last_left: "NaiveNode | None" = None
    outputs: list[int] = field(default_factory=list)
    level: float = 0.0
    level_at: float = 0.0
    in_debt: bool = False
    largest_course: int = 0
    course_at_dispatch: int = 0
    leaving: bool = False
    # Lightest weights that there were, until all are within the bound.
    old_weights: list[int] = field(default_factory=list)

    @property
    def settled(self) -> float:
        """Charges over weight, on top of the last lift."""
        return self.base + self.charged / (self.weight * MICRO)

    def up(self) -> Iterator["NaiveNode"]:
        """The node and its ancestors below the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent

    def below(self) -> Iterator["NaiveNode"]:
        """The node and everything below it."""
        yield self
        for child in self.children:
            yield from child.below()


@dataclass(eq=False)
class NaiveRequest:
    """A request and all that was ever said of it."""

    leaf: NaiveNode
    prompt: int
    longest_output: int
    sequences: int
    prompt_known: bool
    arrival: int = -1
    place: str = "outside"
    cached: int = 0
    cached_known: bool = False
    output: int = 0
    counted_output: int = 0
    predicted: int = 0
    taken_by_engine: bool = False
    charged: int = 0
    held: int = 0
    metered: int = 0
    course: int = 0
    path: tuple[NaiveNode, ...] = ()


class Naive:
    """The same operations as the scheduler under test, each followed by a fresh look at the whole tree."""

    def __init__(self, cost: CostFunction, prediction: str) -> None:
        self.cost = cost
        self.prediction = prediction
        self.root = NaiveNode("", None)
        self.requests: list[NaiveRequest] = []
        self.pod_outputs: list[int] = []
        self.now = 0.0
        self.arrivals = 0

    def add(self, node: NaiveNode) -> NaiveNode:
        assert node.parent is not None
        node.parent.children.append(node)
        node.level, node.level_at = float(node.tokens_per_minute or 0), self.now
        return node

    def queued(self, node: NaiveNode) -> list[NaiveRequest]:
        """What waits in the subtree, oldest first."""
        leaves = set(node.below())
        return sorted((r for r in self.requests if r.place == "queue" and r.leaf in leaves), key=lambda r: r.arrival)

    def flying(self, node: NaiveNode) -> list[NaiveRequest]:
        leaves = set(node.below())
        return [r for r in self.requests if r.place == "engine" and r.leaf in leaves]

    def gone(self) -> list[NaiveNode]:
        """Takes out the nodes that have left the policy and have nothing to do any more."""
        done = [n for n in self.root.below() if n.leaving and not n.children and not self.queued(n) + self.flying(n)]
        for node in done:
            assert node.parent is not None
            lightest = self.lightest(node.parent)
            node.parent.children.remove(node)
            if self.lightest(node.parent) > lightest:
                node.parent.old_weights.append(lightest)
        return done + self.gone() if done else []

    def reweigh(self, node: NaiveNode, weight: int) -> None:
        """What was charged stays as it is; only new charges count by the new weight."""
        assert node.parent is not None
        if weight == node.weight:
            return
        node.parent.old_weights.append(self.lightest(node.parent))
        node.base, node.charged, node.weight = node.settled, 0, weight

    def retire(self, node: NaiveNode) -> None:
        for each in node.below():
            each.leaving = True

    def transfer(self, requests: list[NaiveRequest], leaf: NaiveNode) -> None:
        for request in requests:
            request.leaf = leaf
        self.look_again()

    def in_flight(self, node: NaiveNode) -> int:
        return sum(r.sequences for r in self.flying(node))

    def reserved(self, node: NaiveNode) -> int:
        return sum(r.held for r in self.flying(node))

    def key(self, node: NaiveNode) -> float:
        return node.base + (node.charged + self.reserved(node)) / (node.weight * MICRO)

    def course(self, node: NaiveNode) -> int:
        """Cost of the longest course that everything in flight below may take."""
        return sum(r.course for r in self.flying(node))

    def may_be_active(self, node: NaiveNode) -> bool:
        """Holds queued work that its own limits, and those of the nodes below, allow now."""
        return not node.in_debt and self.wants_and_has_room(node)

    def wants_and_has_room(self, node: NaiveNode) -> bool:
        if node.children:
            # The request to come is not known here, so an inner node asks for room for one sequence.
            wanted = 1
            if not any(self.may_be_active(child) for child in node.children):
                return False
        else:
            queue = self.queued(node)
            if not queue:
                return False
            wanted = queue[0].sequences
        running = self.in_flight(node)
        return node.max_in_flight is None or running == 0 or running + wanted <= node.max_in_flight

    def eligible(self) -> list[NaiveRequest]:
        """What may be dispatched now, as far as limits go."""
        heads = [self.queued(leaf)[0] for leaf in self.root.below() if not leaf.children and self.queued(leaf)]
        return [head for head in heads if all(self.may_be_active(node) for node in head.leaf.up())]

    def active_children(self, node: NaiveNode) -> list[NaiveNode]:
        return [child for child in node.children if child.active]

    def oldest_head(self, node: NaiveNode) -> int:
        if not node.children:
            return self.queued(node)[0].arrival
        return min(self.oldest_head(child) for child in self.active_children(node))

    def mark(self, node: NaiveNode) -> float:
        """What a lift would raise the node to."""
        parent = node.parent
        assert parent is not None
        others = [child.settled for child in self.active_children(parent) if child is not node]
        if others:
            return min(others)
        return parent.last_left.settled if parent.last_left is not None else -math.inf

    def look_again(self) -> None:
        """Nodes become active and are lifted, then others stop being active."""
        nodes = list(self.root.below())[1:]
        for node in nodes:
            if not node.active and self.may_be_active(node):
                lifted = self.mark(node)
                if lifted > node.settled:
                    node.base, node.charged = lifted, 0
                node.active = True
        for node in nodes:
            if node.active and not self.may_be_active(node):
                assert node.parent is not None
                node.parent.last_left = node
                node.active = False

    def head(self) -> NaiveRequest | None:
        node = self.root
        while node.children:
            choice = self.active_children(node)
            if not choice:
                return None
            node = min(choice, key=lambda child: (self.key(child), self.oldest_head(child), child.name))
        return self.queued(node)[0]

    def enqueue(self, request: NaiveRequest) -> None:
        request.arrival, request.place = self.arrivals, "queue"
        self.arrivals += 1
        self.requests.append(request)
        self.look_again()

    def dispatch(self, fits: Callable[[NaiveRequest], bool]) -> NaiveRequest | None:
        request = self.head()
        if request is None or not fits(request):
            return None
        return self.start(request)

    def start(self, request: NaiveRequest) -> NaiveRequest:
        request.place = "engine"
        request.predicted = self.predict(request)
        self.account(request, starts=True)
        self.look_again()
        return request

    def predict(self, request: NaiveRequest) -> int:
        if self.prediction == "None":
            return 0
        each = math.ceil(request.longest_output / request.sequences)
        if self.prediction == "Mean":
            recent = self.teacher(request.leaf).outputs[-5:] or self.pod_outputs[-100:]
            each = min(each, math.ceil(sum(recent) / len(recent)) if recent else 256)
        return min(each * request.sequences, request.longest_output)

    @staticmethod
    def teacher(leaf: NaiveNode) -> NaiveNode:
        assert leaf.parent is not None
        return leaf.parent if leaf.learns_with_parent else leaf

    def h(self, request: NaiveRequest, prompt: int, output: int) -> int:
        return self.cost(prompt, output, request.cached, request.sequences)

    def account(self, request: NaiveRequest, *, starts: bool = False) -> None:
        """Charges what is certain, holds what is expected beyond it."""
        certain = 0
        if request.taken_by_engine:
            prompt = request.prompt if request.prompt_known else 0
            # Until the engine has told, all of it may turn out to have been cached.
            cached = request.cached if request.cached_known else prompt
            certain = self.cost(prompt, request.counted_output, cached, request.sequences)
        expected = self.h(request, request.prompt, max(request.output, request.predicted))
        charge = max(certain - request.charged, 0)
        request.charged += charge
        request.held = max(expected - request.charged, 0)
        for node in request.leaf.up():
            node.charged += charge
            node.served += charge
        self.root.served += charge
        self.meter(request, request.prompt + request.output)
        self.note_course(request, starts)

    def meter(self, request: NaiveRequest, tokens: int) -> None:
        """Takes tokens out of the buckets on the path, each refilled for the time since it was last touched."""
        used, request.metered = tokens - request.metered, tokens
        for node in request.leaf.up():
            rate = node.tokens_per_minute
            if rate is not None and used:
                full_again = node.level + (self.now - node.level_at) * rate / 60
                node.level, node.level_at = min(float(rate), full_again) - used, self.now
                node.in_debt = node.level < 0

    def note_course(self, request: NaiveRequest, starts: bool) -> None:
        """The largest cost so far of all that was in flight at once, each at its longest.

        A node may gain all that was in flight when it was last chosen, so what turns out longer counts from then.
        """
        longest = max(request.longest_output, request.output, request.predicted)
        longer = -request.course
        request.course = self.cost(request.prompt, longest, 0, request.sequences)
        longer += request.course
        for node in (*request.leaf.up(), self.root):
            node.largest_course = max(node.largest_course, self.course(node))
        for node in request.leaf.up():
            assert node.parent is not None
            if starts:
                node.course_at_dispatch = self.course(node.parent)
            else:
                node.course_at_dispatch += max(longer, 0)
            node.parent.largest_course = max(node.parent.largest_course, node.course_at_dispatch)

    def confirm(self, request: NaiveRequest) -> None:
        request.taken_by_engine = True
        self.account(request)
        self.look_again()

    def prompt(self, request: NaiveRequest, tokens: int, cached: int) -> None:
        request.prompt, request.cached, request.cached_known = tokens, cached, True
        request.prompt_known = request.taken_by_engine = True
        self.account(request)
        self.look_again()

    def output(self, request: NaiveRequest, tokens: int, *, exact: bool) -> None:
        request.output = tokens
        if exact:
            request.counted_output, request.taken_by_engine = tokens, True
        self.account(request)
        self.look_again()

    def finish(self, request: NaiveRequest, *, complete: bool) -> None:
        request.prompt_known = request.taken_by_engine = request.cached_known = True
        request.counted_output, request.predicted = request.output, 0
        self.account(request)
        self.end(request)
        if complete:
            each = math.ceil(request.output / request.sequences)
            self.teacher(request.leaf).outputs.append(each)
            self.pod_outputs.append(each)
        self.look_again()

    def take_back(self, request: NaiveRequest, *, again: bool) -> None:
        """The engine did nothing for it: back to the queue, or out."""
        assert not request.taken_by_engine
        self.meter(request, 0)
        request.held = request.output = request.predicted = request.course = 0
        request.place = "queue"
        if not again:
            self.end(request)
        self.look_again()

    def cancel(self, request: NaiveRequest) -> None:
        self.end(request)
        self.look_again()

    def end(self, request: NaiveRequest) -> None:
        request.place = "over"
        self.requests.remove(request)

    def free_at(self, node: NaiveNode) -> float:
        assert node.tokens_per_minute is not None
        return node.level_at - node.level * 60 / node.tokens_per_minute

    def next_change(self) -> float | None:
        """The first instant at which a debt ends that alone keeps a node from being active."""
        waiting = [node for node in self.root.below() if node.in_debt and self.wants_and_has_room(node)]
        return min((self.free_at(node) for node in waiting), default=None)

    def advance(self, now: float) -> None:
        """Lets time pass; debts end one after the other, each followed by a look at the tree."""
        self.now = now
        debtors = [node for node in self.root.below() if node.in_debt and self.free_at(node) <= now]
        for node in sorted(debtors, key=self.free_at):
            node.in_debt = False
            self.look_again()

    def gap(self, node: NaiveNode) -> float:
        keys = [self.key(child) for child in self.active_children(node)]
        return max(keys) - min(keys) if keys else 0.0

    def bound(self, node: NaiveNode) -> float:
        """What stood before a change of weights stands until all children are within the new one, whatever becomes of
        what they have in flight, and of weights above the lightest."""
        per_unit = self.lightest(node) * MICRO
        settled = [child.settled for child in self.active_children(node)]
        if node.old_weights and settled:
            ahead = {it: math.ceil((it.settled - min(settled)) * per_unit) + self.course(it) for it in node.children}
            if max(ahead.values()) <= node.largest_course:
                node.old_weights = []
                for child, course in ahead.items():
                    child.course_at_dispatch = max(child.course_at_dispatch, course)
        return node.largest_course / (min([*node.old_weights, self.lightest(node)]) * MICRO)

    @staticmethod
    def lightest(node: NaiveNode) -> int:
        return min((child.weight for child in node.children), default=1)
