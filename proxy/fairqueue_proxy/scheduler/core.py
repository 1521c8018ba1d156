"""The scheduler: Virtual Token Counters (VTC, OSDI '24) on a weighted tree, outside the engine.

Pure and synchronous: no I/O, no asyncio; the clock is injected and used only for `tokens_per_minute`. All state
changes go through the methods of `Scheduler`, each of which leaves the tree consistent (`check` proves it).

The life of a request: `enqueue`, then `dispatch` (in order, while it fits), then any number of `confirm`, `prompt`
and `output` as the engine answers, then `finish`; or `cancel` while queued; or `requeue` when the engine did not
take it, which undoes the dispatch without a charge.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from fairqueue_proxy.scheduler.cost import MICRO, Cost
from fairqueue_proxy.scheduler.lazy_heap import LazyHeap
from fairqueue_proxy.scheduler.prediction import POD_SAMPLES, Prediction, RecentMean, predict
from fairqueue_proxy.scheduler.tree import ENDED, IN_FLIGHT, NEW, QUEUED, Gap, Limits, Node, Request, State


class Scheduler:
    """Decides whose request goes next, and keeps what each node was charged."""

    def __init__(
        self,
        cost: Cost | None = None,
        *,
        prediction: Prediction = Prediction.MEAN,
        clock: Callable[[], float],
        before_activity: Callable[[Node], None] | None = None,
        before_flight: Callable[[Node], None] | None = None,
        after_removal: Callable[[Node], None] | None = None,
    ) -> None:
        """`before_activity` is told each node that is about to become active or to stop being so, `before_flight` each
        one that is not active and is about to have something in flight, or nothing any more, `after_removal` each one
        that is no longer in the tree."""
        self.cost = cost or Cost()
        self.prediction = prediction
        self.root = Node("", None)
        self._clock = clock
        self._before_activity = before_activity or (lambda _node: None)
        self._before_flight = before_flight or (lambda _node: None)
        self._after_removal = after_removal or (lambda _node: None)
        self._outputs = RecentMean(POD_SAMPLES)
        self._arrivals = 0
        # Nodes with work that only wait for their token bucket, the first to be free first.
        self._overdrawn: LazyHeap[Node] = LazyHeap(
            lambda node: (node.bucket.ready_at if node.bucket else 0.0, node.serial)
        )

    def __repr__(self) -> str:
        leaves = [node for node in self.nodes() if not node.children]
        queued = sum(len(leaf.queue) for leaf in leaves)
        return f"<Scheduler {len(leaves)} leaves, {queued} queued, {self.root.in_flight} in flight>"

    def nodes(self) -> Iterator[Node]:
        """Every node below the root, parents before children."""
        pending = list(self.root.children.values())
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.children.values())

    def add_node(
        self,
        name: str,
        parent: Node | None = None,
        *,
        weight: int = 1,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        transient: bool = False,
    ) -> Node:
        """Adds a node. A transient leaf is forgotten when it is idle and a lift would recreate it as it is.

        Raises:
            ValueError: the parent has a child of this name, or holds requests itself.
        """
        parent = self.root if parent is None else parent
        if name in parent.children:
            raise ValueError(f"{parent.path_name!r} already has a child {name!r}")
        if parent.queue or (parent.in_flight and not parent.children and parent is not self.root):
            raise ValueError(f"{parent.path_name!r} holds requests and can't have children")
        node = Node(name, parent, weight=weight, limits=limits, transient=transient, now=self._clock())
        parent.children[name] = node
        return node

    def reweigh(self, node: Node, weight: int) -> None:
        """Gives a node another weight. Counters are kept; the bound that stood stands until it is met anew."""
        parent = node.parent
        if parent is None or weight == node.weight:
            return
        lightest = parent.lightest
        if node.active:
            # For who follows its share, it leaves with the old weight and comes back with the new one.
            self._before_activity(node)
            node.active = False
            node.reweigh(weight)
            self._before_activity(node)
            node.active = True
        else:
            node.reweigh(weight)
        parent.by_key.lowered(node)
        parent.keep_bound(lightest)

    def limit(self, node: Node, limits: Limits) -> None:
        """Gives a node other limits."""
        if limits != node.limits:
            self._overdrawn.discard(node)
            node.set_limits(limits, self._clock())
            self._refresh(node)

    def retire(self, node: Node) -> None:
        """Takes a node out of the policy: what is queued and in flight below it is finished under its last weight,
        then it goes. Its name is free at once; nothing new may be queued on it."""
        parent = node.parent
        if parent is None:
            raise ValueError("the root can't be retired")
        del parent.children[node.name]
        parent.idle.discard(node)
        node.name, node.leaving = f"{node.name} (leaving, {node.serial})", True
        parent.children[node.name] = node
        for order in (parent.by_key, parent.by_arrival):
            order.lowered(node)
        for child in list(node.children.values()):
            self.retire(child)
        self._forget(node)

    def transfer(self, moves: Iterable[tuple[Request, Node]]) -> None:
        """Puts queued requests on other leaves, in order of arrival. All at once: a leaf that is left with nothing must
        not join for a moment because what still waits on it fits its limits."""
        old: dict[Node, None] = {}
        new: dict[Node, None] = {}
        for request, leaf in moves:
            self._expect(request, QUEUED)
            old[request.leaf] = new[leaf] = None
            del request.leaf.queue[request.arrival]
            request.leaf = leaf
            self._insert(request)
        for leaf in new:
            if leaf.parent is not None:
                leaf.parent.idle.discard(leaf)
            self._refresh(leaf)
        for leaf in old:
            self._refresh(leaf)
            self._forget(leaf)

    def enqueue(self, request: Request) -> None:
        """Puts a new request at the end of its leaf's queue."""
        self._expect(request, NEW)
        request.arrival = self._arrivals
        self._arrivals += 1
        request.state = QUEUED
        leaf = request.leaf
        leaf.queue[request.arrival] = request
        if leaf.active:
            # It has an older one, which stays its next, and may go as before.
            return
        if leaf.parent is not None:
            leaf.parent.idle.discard(leaf)
        self._refresh(leaf)

    def abandon(self, request: Request) -> None:
        """A new request is not to be queued after all: a leaf that was made for it goes."""
        self._expect(request, NEW)
        request.state = ENDED
        self._forget(request.leaf)

    def cancel(self, request: Request) -> None:
        """Takes a queued request out; nothing is charged."""
        self._expect(request, QUEUED)
        del request.leaf.queue[request.arrival]
        request.state = ENDED
        self._refresh(request.leaf)
        self._forget(request.leaf)

    def head(self) -> Request | None:
        """The request that the order puts next: from the root down the active child with the smallest key
        (ties: the oldest head request, then the name), then that leaf's oldest request."""
        self._pay_off()
        node = self.root
        while node.children:
            child = node.by_key.first()
            if child is None:
                return None
            node = child
        return node.head

    def dispatch(self, fits: Callable[[Request], bool]) -> Request | None:
        """Starts the next request if it fits.

        If it does not, nobody overtakes it: skipping the head would break the bound (VTC, Lemma 4.3).

        Returns:
            The request, now in flight, with its input and predicted output reserved; None if none is to start.
        """
        request = self.head()
        if request is None:
            return None
        # Before the question whether it fits: engines reserve room for what is to come.
        request.predicted_tokens = self._predict(request)
        if not fits(request):
            return None
        self._start(request)
        return request

    def start_out_of_turn(self, request: Request) -> None:
        """The engine has a queued request already, whatever the order says: it is in flight from now on. What was
        started so may bring keys further apart than the bound of `gap` says."""
        self._expect(request, QUEUED)
        request.predicted_tokens = self._predict(request)
        self._start(request)

    def confirm(self, request: Request) -> None:
        """The engine has taken the request: what is known exactly turns from reservation into charge."""
        self._expect(request, IN_FLIGHT)
        request.confirmed = True
        self._post(request)

    def prompt(self, request: Request, tokens: int, cached_tokens: int = 0) -> None:
        """The engine's own count of the prompt, and how many of these tokens it had cached."""
        self._expect(request, IN_FLIGHT)
        request.prompt_tokens, request.cached_tokens = tokens, cached_tokens
        request.prompt_exact = request.cached_known = request.confirmed = True
        self._post(request)

    def output(self, request: Request, tokens: int, *, exact: bool) -> None:
        """Output tokens so far. Counts that are not `exact` stay a reservation until `finish`."""
        # Nearly all tokens are like this. Foreseen is something only in flight.
        if exact and request.output_tokens < tokens <= request.even_until:
            more = tokens - request.output_tokens
            request.output_tokens = request.output_exact_tokens = tokens
            self._post_difference(request, more * request.even_charge, more * request.even_hold, more)
            return
        self._expect(request, IN_FLIGHT)
        request.output_tokens = tokens
        if exact:
            request.output_exact_tokens = tokens
            request.confirmed = True
        self._post(request)

    def finish(
        self,
        request: Request,
        *,
        prompt_tokens: int | None = None,
        cached_tokens: int = 0,
        output_tokens: int | None = None,
        complete: bool = True,
    ) -> None:
        """The end of a request in flight, whatever the end: all that was counted is charged, the rest of the
        reservation is dropped, the slot is free. Only a `complete` output teaches the prediction. Counts are the last
        ones, where they are others than what was told so far."""
        self._expect(request, IN_FLIGHT)
        if prompt_tokens is not None:
            request.prompt_tokens, request.cached_tokens = prompt_tokens, cached_tokens
        if output_tokens is not None:
            request.output_tokens = output_tokens
        request.confirmed = request.prompt_exact = request.cached_known = True
        request.output_exact_tokens = request.output_tokens
        request.predicted_tokens = 0
        self._post(request)
        if complete:
            per_sequence = -(-request.output_tokens // request.sequences)
            request.leaf.outputs.add(per_sequence)
            self._outputs.add(per_sequence)
        self._leave_flight(request)
        request.state = ENDED
        self._refresh(request.leaf)
        self._forget(request.leaf)

    def drop(self, request: Request) -> None:
        """The engine refused the request and did nothing for it: the slot is free, nothing is charged."""
        self._undo(request)
        request.state = ENDED
        self._refresh(request.leaf)
        self._forget(request.leaf)

    def requeue(self, request: Request) -> None:
        """The engine did not take the request: back to its place at the head of its queue, uncharged."""
        self._undo(request)
        request.state = QUEUED
        self._insert(request)
        self._refresh(request.leaf)

    def next_change(self) -> float | None:
        """The instant at which a token bucket frees a node with work; None if none is waiting for that."""
        node = self._overdrawn.first()
        return node.bucket.ready_at if node is not None and node.bucket is not None else None

    def gap(self, node: Node) -> Gap:
        """How far apart the keys of a node's active children are, against the bound H / min w (after VTC, Lemma
        4.3): H is the largest value so far of the cost of the longest course of all that was in flight at once.
        """
        keys = [child.key for child in node.children.values() if child.active]
        gap = max(keys) - min(keys) if keys else 0.0
        if node.old_lightest and keys:
            self._forget_old_weights(node)
        # While an old one stands, a lighter one may come.
        lightest = min(node.lightest, node.old_lightest or node.lightest)
        return Gap(gap, node.peak_worst / (lightest * MICRO), len(keys))

    @staticmethod
    def _forget_old_weights(node: Node) -> None:
        """If all are within the new bound, whatever becomes of what they have in flight. Somebody must be active.

        Also those count that are not active now: above the mark they come back as they are. What is reserved may come
        back: then a key falls. What is in flight was let in under the old weights, and may yet take its longest course;
        under the lightest weight, as a change to no less than that changes no bound. If it turns out to be longer
        still, the bound is to grow by that, as it does after a dispatch.
        """
        children, per_unit = node.children.values(), node.lightest * MICRO
        lowest = min(child.settled for child in children if child.active)
        reached = {child: math.ceil((child.settled - lowest) * per_unit) + child.worst for child in children}
        if max(reached.values()) <= node.peak_worst:
            node.old_lightest = 0
            for child, reach in reached.items():
                child.reach = max(child.reach, reach)

    def _start(self, request: Request) -> None:
        leaf = request.leaf
        del leaf.queue[request.arrival]
        request.path, request.cost = leaf.path, self.cost
        self.root.in_flight += request.sequences
        for node in request.path:
            if not (node.in_flight or node.active):
                self._before_flight(node)
            node.in_flight += request.sequences
        self._post(request)
        request.state = IN_FLIGHT
        self._refresh(leaf)

    def _predict(self, request: Request) -> int:
        sequences, most = request.sequences, request.max_output_tokens
        guess = predict(self.prediction, request.leaf.outputs, self._outputs, -(-most // sequences)) * sequences
        return guess if guess < most else most

    def _undo(self, request: Request) -> None:
        self._expect(request, IN_FLIGHT)
        if request.confirmed:
            raise AssertionError("a request that the engine took can't be undone")
        self._post_difference(request, 0, -request.held, -request.metered_tokens)
        self._leave_flight(request)
        request.output_tokens = request.predicted_tokens = 0

    def _leave_flight(self, request: Request) -> None:
        self.root.in_flight -= request.sequences
        self.root.post_worst(-request.worst)
        for node in request.path:
            if node.in_flight == request.sequences and not node.active:
                self._before_flight(node)
            node.in_flight -= request.sequences
            node.post_worst(-request.worst)
        request.worst, request.even_until = 0, -1

    def _post(self, request: Request) -> None:
        """Brings what the request's path carries in line with what is known of it now."""
        # Written out, here and in `_post_worst`: a call of `max` takes a tenth of what all of this does.
        output, predicted = request.output_tokens, request.predicted_tokens
        if output < predicted:
            output = predicted
        cached, sequences, cost = request.cached_tokens, request.sequences, request.cost.of
        expected = cost(request.prompt_tokens, output, cached_tokens=cached, sequences=sequences)
        charge = 0
        if request.confirmed:
            # An estimated prompt is not charged yet, nor what a cached one would not cost: `settled` could not take
            # it back.
            prompt = request.prompt_tokens if request.prompt_exact else 0
            sure = cached if request.cached_known else prompt
            certain = cost(prompt, request.output_exact_tokens, cached_tokens=sure, sequences=sequences)
            charge = max(certain - request.charged, 0)
            self._foresee(request, certain)
        held = expected - request.charged - charge
        if held < 0:
            held = 0
        tokens = request.prompt_tokens + request.output_tokens
        self._post_difference(request, charge, held - request.held, tokens - request.metered_tokens)
        self._post_worst(request)

    @staticmethod
    def _foresee(request: Request, certain: int) -> None:
        """How far further exact output adds evenly to what is `certain` now: what was expected is held no more, and
        what was not adds to the key."""
        each = request.cost.each_output_token
        if each is None or certain < request.charged or request.output_exact_tokens != request.output_tokens:
            request.even_until = -1
        elif request.output_tokens < request.predicted_tokens:
            request.even_until, request.even_charge, request.even_hold = request.predicted_tokens, each, -each
        else:
            request.even_until, request.even_charge, request.even_hold = request.max_output_tokens, each, 0

    def _post_difference(self, request: Request, charge: int, hold: int, used: int) -> None:
        request.charged += charge
        request.held += hold
        request.metered_tokens += used
        self.root.served += charge
        overdrawn = False
        for node in request.path:
            node.post(charge, hold)
            if charge + hold < 0 and node.parent is not None:
                node.parent.by_key.lowered(node)
            if node.bucket is not None and used:
                node.bucket.take(used, self._clock())
                self._overdrawn.lowered(node)
                overdrawn = True
        if overdrawn:
            self._refresh(request.leaf)

    def _post_worst(self, request: Request) -> None:
        longest = request.max_output_tokens
        if longest < request.output_tokens:
            longest = request.output_tokens
        worst = request.cost.of(request.prompt_tokens, longest, sequences=request.sequences)
        starts = request.state is QUEUED
        if worst == request.worst and not starts:
            return
        change, request.worst = worst - request.worst, worst
        parent = self.root
        parent.post_worst(change)
        for node in reversed(request.path):
            node.post_worst(change)
            # A node was the smallest at its last dispatch. Since then it may have gained all that was in flight
            # below it at that time, also what was estimated too short and has ended by now.
            if starts:
                node.reach = parent.worst
            else:
                node.reach += max(change, 0)
                parent.peak_worst = max(parent.peak_worst, node.reach)
            parent = node

    def _refresh(self, leaf: Node) -> None:
        """After anything that may change the activity or the head of a leaf: itself, then its ancestors."""
        node = leaf
        while node.parent is not None:
            parent = node.parent
            oldest = self._oldest_below(node) if node.children else next(iter(node.queue), -1)
            if self._may_go(node, oldest):
                earlier = oldest < node.head_arrival
                node.head_arrival = oldest
                if not node.active:
                    self._join(node, parent)
                elif earlier:
                    parent.by_key.lowered(node)
                    parent.by_arrival.lowered(node)
            elif node.active:
                self._leave(node, parent)
            node = parent

    def _join(self, node: Node, parent: Node) -> None:
        self._before_activity(node)
        self._lift(node)
        node.active = True
        for order in parent.orders:
            order.add(node)

    def _leave(self, node: Node, parent: Node) -> None:
        self._before_activity(node)
        node.active = False
        for order in parent.orders:
            order.discard(node)
        parent.last_left = node

    @staticmethod
    def _oldest_below(node: Node) -> int:
        child = node.by_arrival.first()
        return child.head_arrival if child is not None else -1

    def _may_go(self, node: Node, oldest: int) -> bool:
        """Has queued work that its own limits allow now."""
        if node.bucket is not None:
            self._overdrawn.discard(node)
        if oldest < 0:
            return False
        limit = node.limits.max_in_flight
        if limit is not None and node.in_flight:
            # Counting more than the limit is no reason never to go: with nothing in flight it may.
            wanted = node.queue[oldest].sequences if node.queue else 1
            if node.in_flight + wanted > limit:
                return False
        if node.bucket is not None and node.bucket.ready_at > self._clock():
            self._overdrawn.add(node)
            return False
        return True

    def _lift(self, node: Node) -> None:
        """A node that joins takes no credit along from the time when it wanted nothing (VTC, Algorithm 2): up to
        the smallest settled of its active siblings, or to that of the last one that left. Settled against
        settled: measured against keys, a joiner would pay for its siblings' reservations at each return."""
        mark = self._mark(node)
        if mark is not None and mark > node.settled:
            node.lift_to(mark)

    @staticmethod
    def _mark(node: Node) -> float | None:
        siblings = node.parent
        if siblings is None:
            return None
        lowest = siblings.by_settled.first() or siblings.last_left
        return lowest.settled if lowest is not None else None

    def _pay_off(self) -> None:
        """Nodes whose token bucket is no longer overdrawn become active."""
        while (node := self._overdrawn.first()) is not None:
            if node.bucket is not None and node.bucket.ready_at > self._clock():
                break
            self._overdrawn.discard(node)
            self._refresh(node)

    def _forget(self, node: Node) -> None:
        """Drops nodes without work: those that left the policy, and transient leaves that a lift would recreate as
        they are."""
        while (parent := node.parent) is not None and not (node.queue or node.in_flight or node.children):
            if parent.children.get(node.name) is not node:
                return
            if node.leaving:
                lightest = parent.lightest
                self._remove(node, parent)
                if parent.lightest > lightest:
                    parent.keep_bound(lightest)
                node = parent
                continue
            if node.transient:
                parent.idle.add(node)
                self._forget_paid_off(parent)
            return

    def _forget_paid_off(self, parent: Node) -> None:
        while (node := parent.idle.first()) is not None:
            mark = self._mark(node)
            if mark is None or node.settled > mark:
                break
            self._remove(node, parent)

    def _remove(self, node: Node, parent: Node) -> None:
        parent.idle.discard(node)
        del parent.children[node.name]
        self._after_removal(node)

    def _insert(self, request: Request) -> None:
        """Into its leaf's queue, in order of arrival."""
        queue = request.leaf.queue
        if not queue or next(reversed(queue)) < request.arrival:
            queue[request.arrival] = request
            return
        earlier = list(self._first_arrivals(queue, request.arrival))
        queue[request.arrival] = request
        for arrival in (request.arrival, *reversed(earlier)):
            queue.move_to_end(arrival, last=False)

    @staticmethod
    def _first_arrivals(queue: OrderedDict[int, Request], before: int) -> Iterator[int]:
        for arrival in queue:
            if arrival > before:
                return
            yield arrival

    @staticmethod
    def _expect(request: Request, state: State) -> None:
        if request.state is not state:
            raise AssertionError(f"request is {request.state.value}, not {state.value}")

    def check(self) -> None:
        """Raises AssertionError if the tree contradicts itself. For tests."""
        for node in (self.root, *self.nodes()):
            children = node.children.values()
            active = {child for child in children if child.active}
            for order in node.orders:
                assert {child for child in children if child in order} == active, node
                assert len(order) == len(active), node
            if node.children:
                assert node.in_flight == sum(child.in_flight for child in children), node
                assert node.worst == sum(child.worst for child in children), node
            assert node.in_flight >= 0, node
            assert node.reserved >= 0, node
            assert (node.worst > 0) <= (node.in_flight > 0), node
            assert list(node.queue) == sorted(node.queue), node
