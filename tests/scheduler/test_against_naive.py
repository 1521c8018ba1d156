"""Two implementations, one order: the scheduler against the naive one, over random trees and random operations.

After every step both must agree on every counter and on the next choice, and what users rely on must hold: the
bound on the gap, work conservation, first come first served within a leaf, no slot leaked, no credit brought back.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fairqueue_proxy.scheduler import MICRO, Cost, Limits, Node, Prediction, Request, Scheduler
from scheduler.naive import Naive, NaiveNode, NaiveRequest

TOKENS = st.integers(0, 200)


@dataclass(frozen=True)
class Sketch:
    """A node to be made."""

    weight: int
    max_in_flight: int | None
    tokens_per_minute: int | None
    children: tuple["Sketch", ...] = ()
    users: int = 0


def sketches(
    children: st.SearchStrategy[tuple[Sketch, ...]], users: st.SearchStrategy[int]
) -> st.SearchStrategy[Sketch]:
    return st.builds(
        Sketch,
        weight=st.sampled_from([1, 1, 2, 3, 7]),
        max_in_flight=st.sampled_from([None, None, None, 1, 2, 4]),
        # Rates and clock steps are such that every instant is an exact binary fraction.
        tokens_per_minute=st.sampled_from([None, None, None, 60, 480, 3840]),
        children=children,
        users=users,
    )


def several(strategy: st.SearchStrategy[Sketch], most: int) -> st.SearchStrategy[tuple[Sketch, ...]]:
    return st.lists(strategy, min_size=1, max_size=most).map(tuple)


TENANT = sketches(st.just(()), st.sampled_from([0, 0, 2, 3]))
TEAM = sketches(several(TENANT, 2), st.just(0))
ORGANISATION = sketches(several(TENANT | TEAM, 3), st.just(0))
TREE = several(TENANT | TENANT | ORGANISATION, 4)
COST = st.builds(
    Cost,
    input_token=st.sampled_from([0, 1, 1, 3]),
    output_token=st.sampled_from([1, 2, 2]),
    request=st.sampled_from([0, 0, 5]),
    cached_input_percent=st.sampled_from([0, 10, 100]),
    input_input_per_million=st.sampled_from([0, 0, 7000]),
    input_output_per_million=st.sampled_from([0, 0, 3000]),
    output_output_per_million=st.sampled_from([0, 0, 20000]),
)


def naive_cost(cost: Cost) -> Callable[[int, int, int, int], int]:
    """The price list once more, read as it is documented: what one sequence costs, in fractions of a cost unit."""

    def cost_of(prompt: int, output: int, cached: int, sequences: int) -> int:
        prompt_each, output_each = Fraction(prompt, sequences), Fraction(output, sequences)
        cached_each = Fraction(min(cached, prompt), sequences)
        one = cost.request + cost.output_token * output_each
        one += cost.input_token * (prompt_each - cached_each)
        one += cost.input_token * Fraction(cost.cached_input_percent, 100) * cached_each
        pairs = cost.input_input_per_million * prompt_each**2
        pairs += cost.input_output_per_million * prompt_each * output_each
        pairs += cost.output_output_per_million * output_each**2
        return math.floor(sequences * (one * MICRO + pairs))

    return cost_of


@dataclass(eq=False)
class Pair:
    """One request in both schedulers."""

    core: Request
    naive: NaiveRequest


class Comparison(RuleBasedStateMachine):
    """Drives both with the same operations."""

    now = 0.0
    moves = 0

    @initialize(
        tree=TREE,
        cost=COST,
        prediction=st.sampled_from(Prediction),
        keeps_order=st.sampled_from([True, True, True, False]),
    )
    def build(self, tree: tuple[Sketch, ...], cost: Cost, prediction: Prediction, keeps_order: bool) -> None:
        self.keeps_order = keeps_order
        self.core = Scheduler(cost, prediction=prediction, clock=lambda: self.now)
        self.naive = Naive(naive_cost(cost), prediction.value)
        self.nodes: dict[NaiveNode, Node] = {}
        self.leaves: list[NaiveNode] = []
        self.pairs: list[Pair] = []
        self.settled: dict[NaiveNode, float] = {}
        self.was_active: set[NaiveNode] = set()
        self.grow(tree, self.naive.root, self.core.root)

    def grow(self, tree: tuple[Sketch, ...], naive_parent: NaiveNode, parent: Node) -> None:
        for number, sketch in enumerate(tree):
            limits = Limits(sketch.max_in_flight, sketch.tokens_per_minute)
            name = f"{number}"
            naive = self.naive.add(
                NaiveNode(name, naive_parent, sketch.weight, sketch.max_in_flight, sketch.tokens_per_minute)
            )
            self.nodes[naive] = self.core.add_node(name, parent, weight=sketch.weight, limits=limits)
            self.grow(sketch.children, naive, self.nodes[naive])
            for user in range(sketch.users):
                leaf = NaiveNode(f"user {user}", naive, learns_with_parent=True)
                self.leaves.append(self.naive.add(leaf))
            if not naive.children:
                self.leaves.append(naive)

    def core_leaf(self, leaf: NaiveNode) -> Node:
        """The node that stands for it, made afresh if it was forgotten."""
        if not leaf.learns_with_parent:
            return self.nodes[leaf]
        parent = self.parent(leaf)
        if leaf.name not in parent.children:
            # The lift will bring it back as one sum; so that both round alike, it is one sum here too.
            leaf.base, leaf.charged = leaf.settled, 0
            self.core.add_node(leaf.name, parent, transient=True)
        return parent.children[leaf.name]

    def parent(self, leaf: NaiveNode) -> Node:
        assert leaf.parent is not None
        return self.nodes[leaf.parent]

    def core_nodes(self) -> dict[NaiveNode, Node]:
        """Every node that both have now."""
        users = {leaf: self.parent(leaf).children.get(leaf.name) for leaf in self.leaves if leaf.learns_with_parent}
        return self.nodes | {leaf: node for leaf, node in users.items() if node is not None}

    def queued(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.naive.place == "queue"]

    def flying(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.naive.place == "engine"]

    def untaken(self) -> list[Pair]:
        return [pair for pair in self.flying() if not pair.naive.taken_by_engine]

    @rule(
        which=st.integers(0, 99),
        prompt=TOKENS,
        longest=TOKENS,
        sequences=st.sampled_from([1, 1, 1, 1, 2, 3]),
        exact=st.booleans(),
        copies=st.sampled_from([1, 1, 2, 4]),
    )
    def enqueue(self, which: int, prompt: int, longest: int, sequences: int, exact: bool, copies: int) -> None:
        leaves = [leaf for leaf in self.leaves if not leaf.leaving]
        leaf = leaves[which % len(leaves)]
        for _ in range(copies):
            core = Request(self.core_leaf(leaf), prompt, longest, sequences=sequences, prompt_exact=exact)
            naive = NaiveRequest(leaf, prompt, longest, sequences, exact)
            self.core.enqueue(core)
            self.naive.enqueue(naive)
            self.pairs.append(Pair(core, naive))

    def dispatch_one(self, fits: Callable[[int, int], bool]) -> Pair | None:
        """Dispatches in both; `fits` is told the request's sequences and tokens."""
        oldest = {leaf: queue[0] for leaf in self.leaves if (queue := self.naive.queued(leaf))}
        eligible = self.naive.eligible()
        naive = self.naive.dispatch(lambda r: fits(r.sequences, r.prompt + r.longest_output))
        core = self.core.dispatch(lambda r: fits(r.sequences, r.prompt_tokens + r.max_output_tokens))
        if naive is None:
            assert core is None
            assert not eligible or not all(fits(r.sequences, r.prompt + r.longest_output) for r in eligible)
            return None
        pair = next(pair for pair in self.pairs if pair.naive is naive)
        assert core is pair.core
        assert naive is oldest[naive.leaf]
        assert naive in eligible
        assert core.predicted_tokens == naive.predicted
        return pair

    @rule(slots=st.integers(1, 8))
    def dispatch_into_slots(self, slots: int) -> None:
        while self.dispatch_one(lambda sequences, _tokens: self.core.root.in_flight + sequences <= slots):
            pass

    @rule(budget=st.integers(0, 1000))
    def dispatch_into_a_token_budget(self, budget: int) -> None:
        used = sum(pair.naive.prompt + pair.naive.longest_output for pair in self.flying())
        self.dispatch_one(lambda _sequences, tokens: used + tokens <= budget or used == 0)

    @rule()
    def dispatch_whatever_there_is(self) -> None:
        self.dispatch_one(lambda _sequences, _tokens: True)

    @precondition(lambda self: not self.keeps_order and self.queued())
    @rule(which=st.integers(0, 99))
    def start_out_of_turn(self, which: int) -> None:
        pair = self.queued()[which % len(self.queued())]
        self.core.start_out_of_turn(pair.core)
        self.naive.start(pair.naive)
        assert pair.core.predicted_tokens == pair.naive.predicted

    @precondition(lambda self: self.flying())
    @rule(which=st.integers(0, 99), more=st.integers(-3, 120), exact=st.booleans())
    def output(self, which: int, more: int, exact: bool) -> None:
        pair = self.flying()[which % len(self.flying())]
        tokens = max(pair.naive.output + more, 0)
        self.core.output(pair.core, tokens, exact=exact)
        self.naive.output(pair.naive, tokens, exact=exact)

    @precondition(lambda self: self.flying())
    @rule(which=st.integers(0, 99), tokens=TOKENS, cached=st.sampled_from([0, 0, 8, 300]))
    def prompt(self, which: int, tokens: int, cached: int) -> None:
        pair = self.flying()[which % len(self.flying())]
        self.core.prompt(pair.core, tokens, cached)
        self.naive.prompt(pair.naive, tokens, cached)

    @precondition(lambda self: self.flying())
    @rule(which=st.integers(0, 99))
    def confirm(self, which: int) -> None:
        pair = self.flying()[which % len(self.flying())]
        self.core.confirm(pair.core)
        self.naive.confirm(pair.naive)

    @precondition(lambda self: self.flying())
    @rule(which=st.integers(0, 99), complete=st.booleans())
    def finish(self, which: int, complete: bool) -> None:
        pair = self.flying()[which % len(self.flying())]
        self.core.finish(pair.core, complete=complete)
        self.naive.finish(pair.naive, complete=complete)

    @precondition(lambda self: self.untaken())
    @rule(which=st.integers(0, 99), again=st.booleans())
    def take_back(self, which: int, again: bool) -> None:
        pair = self.untaken()[which % len(self.untaken())]
        (self.core.requeue if again else self.core.drop)(pair.core)
        self.naive.take_back(pair.naive, again=again)

    @precondition(lambda self: self.queued())
    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        pair = self.queued()[which % len(self.queued())]
        self.core.cancel(pair.core)
        self.naive.cancel(pair.naive)

    @rule(which=st.integers(0, 99), weight=st.sampled_from([1, 2, 5]))
    def reweigh(self, which: int, weight: int) -> None:
        naive = list(self.nodes)[which % len(self.nodes)]
        self.core.reweigh(self.nodes[naive], weight)
        self.naive.reweigh(naive, weight)

    @rule(which=st.integers(0, 99), most=st.sampled_from([None, 1, 3]))
    def limit(self, which: int, most: int | None) -> None:
        naive = list(self.nodes)[which % len(self.nodes)]
        self.core.limit(self.nodes[naive], Limits(most, naive.tokens_per_minute))
        naive.max_in_flight = most
        self.naive.look_again()

    def tenants(self) -> list[NaiveNode]:
        return [leaf for leaf in self.leaves if not leaf.learns_with_parent and not leaf.leaving]

    @precondition(lambda self: len(self.tenants()) > 1)
    @rule(which=st.integers(0, 99))
    def remove(self, which: int) -> None:
        naive = self.tenants()[which % len(self.tenants())]
        self.core.retire(self.nodes[naive])
        self.naive.retire(naive)
        self.note_gone()

    @precondition(lambda self: self.tenants())
    @rule(which=st.integers(0, 99), where=st.integers(0, 99), weight=st.sampled_from([1, 4]))
    def move(self, which: int, where: int, weight: int) -> None:
        old = self.tenants()[which % len(self.tenants())]
        parents = [self.naive.root, *(node for node in self.nodes if self.may_hold_tenants(node))]
        parent = parents[where % len(parents)]
        self.moves += 1
        name = f"moved {self.moves} {old.name}"
        new = self.naive.add(NaiveNode(name, parent, weight))
        parent_node = self.core.root if parent is self.naive.root else self.nodes[parent]
        self.nodes[new] = self.core.add_node(name, parent_node, weight=weight)
        self.leaves.append(new)
        pairs = [pair for pair in self.queued() if pair.naive.leaf is old]
        self.core.transfer((pair.core, self.nodes[new]) for pair in pairs)
        self.naive.transfer([pair.naive for pair in pairs], new)
        # It was lifted while its old self was still there: not to the mark that stands afterwards.
        self.was_active |= {node for node in new.up() if node.active}
        self.core.retire(self.nodes[old])
        self.naive.retire(old)
        self.note_gone()

    def may_hold_tenants(self, node: NaiveNode) -> bool:
        return bool(node.children) and not node.leaving and not any(child.learns_with_parent for child in node.children)

    def note_gone(self) -> None:
        for naive in self.naive.gone():
            node = self.nodes.pop(naive)
            assert node not in set(self.core.nodes())
            self.leaves = [leaf for leaf in self.leaves if leaf is not naive]

    @rule(quarter_seconds=st.integers(1, 250))
    def let_time_pass(self, quarter_seconds: int) -> None:
        target = self.now + quarter_seconds / 4
        while (change := self.core.next_change()) is not None and change <= target:
            assert change > self.now
            self.be_at(change)
        self.be_at(target)

    @precondition(lambda self: self.core.next_change() is not None)
    @rule()
    def wait_for_the_next_change(self) -> None:
        change = self.core.next_change()
        assert change is not None
        self.be_at(change)

    def be_at(self, instant: float) -> None:
        self.now = instant
        self.core.head()
        self.naive.advance(instant)

    @invariant()
    def both_agree(self) -> None:
        self.note_gone()
        self.pairs = [pair for pair in self.pairs if pair.naive.place != "over"]
        self.core.check()
        assert self.core.next_change() == self.naive.next_change()
        head, naive_head = self.core.head(), self.naive.head()
        assert next((pair.naive for pair in self.pairs if pair.core is head), None) is naive_head
        assert self.core.root.in_flight == sum(pair.core.sequences for pair in self.flying())
        assert self.core.root.served == self.naive.root.served
        for naive, node in self.core_nodes().items():
            assert node.settled == naive.settled
            assert node.key == self.naive.key(naive)
            assert node.reserved == self.naive.reserved(naive)
            assert node.active == naive.active
            assert node.in_flight == self.naive.in_flight(naive)
            assert [request.arrival for request in node.queue.values()] == [
                request.arrival for request in self.naive.queued(naive) if not naive.children
            ]

    @invariant()
    def the_gap_is_within_the_bound(self) -> None:
        for naive, node in {self.naive.root: self.core.root, **self.nodes}.items():
            if not naive.children:
                continue
            gap = self.core.gap(node)
            assert gap.gap == self.naive.gap(naive)
            assert gap.bound == self.naive.bound(naive)
            assert gap.bound >= node.peak_worst / (node.lightest * MICRO)
            assert gap.gap <= gap.bound * (1 + 1e-9) or not self.keeps_order

    @invariant()
    def no_credit_comes_back(self) -> None:
        nodes = self.core_nodes()
        for naive, node in nodes.items():
            assert node.settled >= self.settled.get(naive, 0.0)
            self.settled[naive] = node.settled
            if node.active and naive not in self.was_active:
                assert node.settled >= self.naive.mark(naive)
        self.was_active = {naive for naive, node in nodes.items() if node.active}

    @invariant()
    def only_what_a_lift_restores_is_forgotten(self) -> None:
        for leaf in self.leaves:
            if leaf not in self.core_nodes():
                assert not self.naive.queued(leaf)
                assert not self.naive.in_flight(leaf)
                assert leaf.settled <= max(self.naive.mark(leaf), 0.0)

    def teardown(self) -> None:
        for pair in getattr(self, "pairs", []):
            if pair.naive.place == "queue":
                self.core.cancel(pair.core)
            elif pair.naive.place == "engine":
                self.core.finish(pair.core, complete=False)
        for node in (self.core.root, *self.core.nodes()) if hasattr(self, "core") else ():
            assert (node.in_flight, node.reserved, node.worst, node.active) == (0, 0, 0, False)


def compare(examples: int) -> None:
    run_state_machine_as_test(
        Comparison,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_the_scheduler_agrees_with_a_naive_one_on_random_trees_and_operations() -> None:
    compare(20)


@pytest.mark.long
def test_the_scheduler_agrees_with_a_naive_one_on_many_more_of_them() -> None:
    compare(4000)


def test_the_bound_before_a_change_of_weights_stands_until_reservations_can_not_come_back_either() -> None:
    """The engine counts a prompt shorter than it was estimated, after a move and a change of weights."""
    state = Comparison()
    below = Sketch(1, None, None, (Sketch(1, None, None, (), users=3),))
    slow = Sketch(1, None, 60, (below,))
    prices = Cost(input_token=1, output_token=1, cached_input_percent=0)
    state.build((slow, Sketch(1, None, None, ())), prices, Prediction.MEAN, keeps_order=True)

    def enqueue(which: int, prompt: int) -> None:
        state.enqueue(which, prompt=prompt, exact=False, longest=0, sequences=1, copies=1)

    enqueue(0, 0)
    state.dispatch_whatever_there_is()
    state.move(which=0, where=44, weight=4)
    enqueue(3, 41)
    state.dispatch_whatever_there_is()
    state.output(which=0, more=20, exact=True)
    enqueue(3, 0)
    state.reweigh(which=2, weight=5)
    state.the_gap_is_within_the_bound()
    enqueue(0, 0)
    state.prompt(which=1, tokens=0, cached=0)
    state.the_gap_is_within_the_bound()
    state.teardown()
