"""The orders inside the engine, each by its definition, on queues of a few requests."""

import pytest

from fairqueue_sim import FinishReason, Generation, Step
from fairqueue_sim.lab.orders import Order, UnknownSchedulerError, make_order, order_names


class Bench:
    """Puts requests in, takes them out, and lets them make tokens."""

    def __init__(self, name: str, **weights: int) -> None:
        self.order: Order = make_order(name, weights, kv_tokens=10_000, seed=0)
        self._number = 0

    def add(self, client: str, count: int = 1, prompt: int = 100, output: int = 100) -> None:
        for _ in range(count):
            self._number += 1
            generation = Generation(self._number, prompt, output, client=client)
            generation.wanted_tokens = output
            self.order.append(generation)

    def take(self) -> Generation:
        head = self.order.head()
        assert head is self.order.take()
        assert head is not None
        return head

    def clients(self, count: int) -> list[str]:
        return [self.take().client for _ in range(count)]

    def make(self, *generations: Generation, tokens: int) -> None:
        for _ in range(tokens):
            step = Step(0.01)
            for generation in generations:
                generation.generated_tokens += 1
                step.tokens.append((generation, generation.generated_tokens))
                if generation.generated_tokens == generation.wanted_tokens:
                    step.finished.append((generation, FinishReason.LENGTH))
            self.order.over(step)

    def serve(self, count: int, output: int = 100) -> list[str]:
        """One after the other, each to its end."""
        served = []
        for _ in range(count):
            generation = self.take()
            self.make(generation, tokens=output)
            served.append(generation.client)
        return served


def test_fcfs_takes_whoever_came_first() -> None:
    bench = Bench("fcfs")
    for client in "aababb":
        bench.add(client)
    assert bench.clients(6) == list("aababb")
    assert bench.order.head() is None


def test_who_had_to_give_way_is_next_of_its_client() -> None:
    for name in ("fcfs", "vtc", "round-robin", "drr"):
        bench = Bench(name)
        bench.add("a", 2)
        first = bench.take()
        bench.order.put_back(first)
        assert bench.take() is first, name
        assert len(bench.order) == len(list(bench.order)) == 1


@pytest.mark.parametrize("name", ["vtc", "lcf", "vtc-predict", "vtc-oracle", "drr"])
def test_who_gave_way_before_it_made_anything_is_not_charged_its_prompt_again(name: str) -> None:
    bench = Bench(name)
    bench.add("a", 2, prompt=300)
    bench.add("b", 9, prompt=100)
    bench.order.put_back(bench.take())
    # Charged twice, `a` would have to let `b` go first when the one that gave way has joined again.
    assert "aa" in "".join(bench.clients(8))


def test_rpm_takes_so_many_requests_of_each_client_in_any_minute() -> None:
    order = make_order("rpm:2", {}, kv_tokens=1000, seed=0)
    assert [order.refuses("a", at) for at in (0, 1, 2, 59.9)] == [False, False, True, True]
    assert not order.refuses("b", 2)
    assert [order.refuses("a", at) for at in (60.5, 60.6, 61.5)] == [False, True, False]


def test_round_robin_goes_round_whatever_the_lengths() -> None:
    bench = Bench("round-robin")
    bench.add("a", 4, prompt=1000)
    bench.add("b", 2)
    bench.add("c", 1)
    assert bench.clients(7) == list("abcabaa")


def test_vtc_takes_the_smallest_counter_and_charges_input_at_once() -> None:
    bench = Bench("vtc")
    bench.add("a", 3, prompt=300)
    bench.add("b", 5, prompt=100)
    assert bench.clients(5) == list("abbba")


def test_vtc_charges_two_for_each_token_as_it_is_made() -> None:
    bench = Bench("vtc")
    bench.add("a", 2, prompt=10)
    bench.add("b", 8, prompt=10)
    bench.make(bench.take(), tokens=20)
    assert bench.clients(6) == list("bbbbba")


def test_vtc_divides_by_weight() -> None:
    bench = Bench("vtc", heavy=3)
    bench.add("light", 40)
    bench.add("heavy", 40)
    assert bench.serve(40).count("heavy") == 30


@pytest.mark.parametrize(("name", "of_next_ten"), [("vtc", 5), ("lcf", 10)])
def test_a_client_that_comes_back_has_saved_nothing_up_but_with_lcf(name: str, of_next_ten: int) -> None:
    bench = Bench(name)
    bench.add("a", 30)
    bench.serve(20)
    bench.add("b", 20)
    assert bench.serve(10).count("b") == pytest.approx(of_next_ten, abs=1)


def test_vtc_lifts_to_the_last_one_that_left_if_nobody_waits() -> None:
    bench = Bench("vtc")
    bench.add("b", 1, prompt=1)
    bench.serve(1)
    bench.add("a", 10)
    bench.serve(10)
    # Nobody waits now. `b` has had nearly nothing, but begins where `a` left.
    bench.add("b", 6)
    bench.add("a", 6)
    assert bench.serve(10).count("b") == pytest.approx(5, abs=1)


def test_the_oracle_reserves_the_whole_output_and_gives_back_nothing_in_the_end() -> None:
    bench = Bench("vtc-oracle")
    bench.add("a", 2, prompt=100, output=100)
    bench.add("b", 4, prompt=100, output=10)
    assert bench.clients(4) == list("abbb")


def test_a_prediction_that_was_too_long_is_refunded_and_one_too_short_charged() -> None:
    bench = Bench("vtc-predict")
    bench.add("a", 1, prompt=100, output=50)
    bench.add("b", 1, prompt=100, output=50)
    bench.serve(2, output=50)
    # Both are at 200 now, and 50 tokens are expected of each.
    bench.add("a", 3, prompt=100, output=10)
    bench.add("b", 4, prompt=100, output=80)
    short, long = bench.take(), bench.take()
    assert [short.client, long.client] == ["a", "b"]
    bench.make(short, tokens=10)
    bench.make(long, tokens=80)
    counters = bench.order.counters
    assert counters == {"a": 200 + 100 + 2 * 10, "b": 200 + 100 + 2 * 80}


def reserved(seed: int) -> float:
    """Output tokens that an oracle with errors up to half reserves for the first request, whose output is 100."""
    bench = Bench("vtc-oracle:50")
    bench.order = make_order("vtc-oracle:50", {}, kv_tokens=1000, seed=seed)
    bench.add("a", 2, prompt=1, output=100)
    bench.take()
    counters = bench.order.counters
    assert counters is not None
    return (counters["a"] - 1) / 2


def test_an_oracle_that_errs_does_so_within_its_bounds_and_by_its_seed() -> None:
    assert reserved(1) == reserved(1)
    drawn = [reserved(seed) for seed in range(100)]
    assert 50 <= min(drawn) < 60
    assert 140 < max(drawn) <= 150


def test_deficit_round_robin_shares_service_and_saves_no_credit_up() -> None:
    bench = Bench("drr")
    bench.add("short", 200, prompt=10, output=20)
    bench.add("long", 60, prompt=200, output=200)
    service = {"short": 0, "long": 0}
    for _ in range(120):
        generation = bench.take()
        bench.make(generation, tokens=generation.wanted_tokens)
        service[generation.client] += generation.prompt_tokens + 2 * generation.wanted_tokens
    assert service["short"] / service["long"] == pytest.approx(1, rel=0.35)


def test_deficit_round_robin_keeps_debts_of_who_has_left() -> None:
    bench = Bench("drr")
    bench.add("a", 1, prompt=100, output=2000)
    bench.serve(1, output=2000)
    bench.add("a", 1)
    bench.add("b", 5, prompt=400, output=1)
    assert bench.serve(5, output=1) == ["b"] * 5


def test_deficit_round_robin_lets_who_has_left_pay_its_debts_off_meanwhile() -> None:
    bench = Bench("drr")
    bench.add("a", 1, prompt=100, output=2000)
    bench.serve(1, output=2000)
    bench.add("b", 45, prompt=400, output=1)
    bench.serve(40, output=1)
    # `b` has had far more than `a` since.
    bench.add("a", 1, prompt=400)
    assert "a" in bench.serve(2, output=1)


@pytest.mark.parametrize(
    "name", ["", "vcl", "rpm", "rpm:", "rpm:0", "rpm:x", "rpm:-1", "vtc:3", "vtc-oracle:101", "drr:2"]
)
def test_an_unknown_name_is_answered_with_those_that_are_known(name: str) -> None:
    with pytest.raises(UnknownSchedulerError, match=r"take one of fairqueue, fcfs, rpm:N, .*vtc-oracle:N"):
        make_order(name, {}, kv_tokens=1000, seed=0)


@pytest.mark.parametrize("name", order_names())
def test_every_name_makes_an_order(name: str) -> None:
    assert len(make_order(name.replace("N", "30"), {}, kv_tokens=1000, seed=0)) == 0
