"""Exact output that costs the same token after token: charged without a look at prices, and to the same digit."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.scheduler import Cost, Limits, Node, Prediction, Request, Scheduler
from scheduler.scenario import Clock, send, start_next
from scheduler.test_against_naive import COST, TOKENS


@dataclass(frozen=True)
class CountingCost(Cost):
    """A price list that counts how often it is read."""

    reads: list[int] = field(default_factory=list)

    def of(self, prompt_tokens: int, output_tokens: int, *, cached_tokens: int = 0, sequences: int = 1) -> int:
        self.reads.append(output_tokens)
        return super().of(prompt_tokens, output_tokens, cached_tokens=cached_tokens, sequences=sequences)


def streaming(cost: Cost, *, predicted: int, longest: int) -> tuple[Scheduler, Request]:
    """A request in flight of which one token has been counted."""
    core = Scheduler(cost, clock=Clock())
    tenant = core.add_node("a")
    tenant.outputs.add(predicted)
    send(core, tenant, longest=longest)
    request = start_next(core)
    assert request.predicted_tokens == predicted
    core.output(request, 1, exact=True)
    return core, request


@pytest.mark.parametrize(
    ("predicted", "tokens"),
    [pytest.param(50, range(2, 51), id="within the prediction"), pytest.param(1, range(2, 101), id="beyond it")],
)
def test_a_further_token_reads_no_price(predicted: int, tokens: range) -> None:
    cost = CountingCost()
    core, request = streaming(cost, predicted=predicted, longest=100)
    cost.reads.clear()
    for count in tokens:
        core.output(request, count, exact=True)
    assert not cost.reads
    assert request.charged == cost(10, tokens[-1])


def test_the_price_is_read_where_the_prediction_ends_and_where_the_longest_output_does() -> None:
    cost = CountingCost()
    core, request = streaming(cost, predicted=50, longest=100)
    cost.reads.clear()
    for count in range(2, 104):
        core.output(request, count, exact=True)
    assert sorted(set(cost.reads)) == [51, 100, 101, 102, 103]
    assert request.worst == cost(10, 103)


@pytest.mark.parametrize("pairs", ["input_output_per_million", "output_output_per_million"])
def test_where_later_tokens_cost_more_each_is_worked_out(pairs: str) -> None:
    cost = CountingCost(**{pairs: 900})
    core, request = streaming(cost, predicted=50, longest=100)
    for count in range(2, 60):
        core.output(request, count, exact=True)
        assert request.charged == cost(10, count)
    assert cost.each_output_token is None


def test_a_quadratic_prompt_leaves_output_even() -> None:
    assert Cost(output_token=3, input_input_per_million=900).each_output_token == 3_000_000


@pytest.mark.parametrize("end", ["finish", "requeue"])
def test_what_was_foreseen_ends_with_the_flight(end: str) -> None:
    core, request = streaming(Cost(), predicted=50, longest=100)
    if end == "requeue":
        # Not possible for a request that the engine took; this one forgets that it was.
        request.confirmed = False
    getattr(core, end)(request)
    with pytest.raises(AssertionError, match=r"^request is (ended|queued), not in flight$"):
        core.output(request, 2, exact=True)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("exact"), st.integers(-3, 40)),
        st.tuples(st.just("guessed"), st.integers(-3, 40)),
        st.tuples(st.just("prompt"), TOKENS),
        st.tuples(st.just("confirm"), st.just(0)),
    ),
    max_size=30,
)


@dataclass(slots=True)
class Life:
    """A request in flight of a tenant in a group, both of which may have a rate; `foresees` as it should, or never."""

    core: Scheduler
    request: Request
    foresees: bool

    def step(self, what: str, number: int) -> None:
        core, request = self.core, self.request
        if not self.foresees:
            request.even_until = -1
        if what in ("exact", "guessed"):
            core.output(request, max(request.output_tokens + number, 0), exact=what == "exact")
        elif what == "prompt":
            core.prompt(request, number, number // 2)
        else:
            getattr(core, what)(request)
        core.check()

    @property
    def account(self) -> list[object]:
        request = self.request
        nodes = (self.core.root, *request.path)
        return [
            (request.charged, request.held, request.worst, request.metered_tokens, request.output_exact_tokens),
            *((node.settled, node.key, node.served, node.worst, node.peak_worst, node.active) for node in nodes),
            self.core.next_change(),
        ]


def life(cost: Cost, prediction: Prediction, longest: int, sequences: int, exact: bool, foresees: bool) -> Life:
    core = Scheduler(cost, prediction=prediction, clock=Clock())
    group = core.add_node("group", limits=Limits(tokens_per_minute=100))
    tenant: Node = core.add_node("tenant", group, weight=3, limits=Limits(tokens_per_minute=60))
    request = Request(tenant, 20, longest, sequences=sequences, prompt_exact=exact)
    core.enqueue(request)
    core.start_out_of_turn(request)
    # Somebody waits whom a rate may hold up.
    core.enqueue(Request(tenant, 5, 5))
    return Life(core, request, foresees)


def assert_the_same(
    steps: list[tuple[str, int]],
    *,
    cost: Cost = Cost(request=3),  # noqa: B008 (frozen)
    prediction: Prediction = Prediction.MEAN,
    longest: int = 100,
    sequences: int = 1,
    exact: bool = True,
) -> None:
    quick, slow = (life(cost, prediction, longest, sequences, exact, foresees) for foresees in (True, False))
    for what, number in [*steps, ("finish", 0)]:
        for each in (quick, slow):
            each.step(what, number)
        assert quick.account == slow.account


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([("confirm", 0), ("guessed", 10), ("exact", 5)], id="guessed before"),
        pytest.param([("exact", 50), ("guessed", -30), ("exact", 5), ("exact", 40)], id="fewer than were counted"),
        pytest.param([("exact", 5), ("prompt", 0), ("exact", 1), ("exact", 30)], id="a prompt that was shorter"),
        pytest.param([("exact", 5), ("exact", 150), ("exact", 1)], id="more than the longest"),
        pytest.param([("exact", 5), ("exact", 0), ("exact", -2), ("exact", 4)], id="none, or fewer"),
        pytest.param([("confirm", 0), ("exact", 1), ("exact", 1), ("guessed", 1), ("exact", 1)], id="one by one"),
    ],
)
@pytest.mark.parametrize("prediction", Prediction)
def test_what_can_come_between_two_even_tokens(steps: list[tuple[str, int]], prediction: Prediction) -> None:
    for exact in (True, False):
        assert_the_same(steps, prediction=prediction, exact=exact)


@given(
    cost=COST,
    prediction=st.sampled_from(Prediction),
    longest=TOKENS,
    sequences=st.integers(1, 3),
    exact=st.booleans(),
    steps=STEPS,
)
def test_foreseen_or_not_each_step_leaves_the_same_accounts(
    cost: Cost, prediction: Prediction, longest: int, sequences: int, exact: bool, steps: list[tuple[str, int]]
) -> None:
    assert_the_same(steps, cost=cost, prediction=prediction, longest=longest, sequences=sequences, exact=exact)
