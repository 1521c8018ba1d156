"""The cost function: what a request costs, in exact integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.scheduler import MICRO, Cost

TOKENS = st.integers(0, 100_000)
COSTS = st.builds(
    Cost,
    input_token=st.integers(0, 5),
    output_token=st.integers(1, 5),
    request=st.integers(0, 50),
    cached_input_percent=st.integers(0, 100),
    input_input_per_million=st.integers(0, 10_000),
    input_output_per_million=st.integers(0, 10_000),
    output_output_per_million=st.integers(0, 10_000),
)


def test_by_default_an_output_token_costs_two_input_tokens() -> None:
    assert Cost()(10, 100) == (10 + 2 * 100) * MICRO


def test_by_default_a_request_without_tokens_costs_nothing() -> None:
    assert Cost()(0, 0, sequences=3) == 0


@pytest.mark.parametrize(
    ("cost", "units"),
    [
        pytest.param(Cost(input_token=3), 3 * 10 + 2 * 100, id="input"),
        pytest.param(Cost(output_token=5), 10 + 5 * 100, id="output"),
        pytest.param(Cost(request=7), 7 + 10 + 2 * 100, id="request"),
        pytest.param(Cost(input_input_per_million=20_000), 10 + 2 * 100 + 2, id="input-input"),
        pytest.param(Cost(input_output_per_million=3_000), 10 + 2 * 100 + 3, id="input-output"),
        pytest.param(Cost(output_output_per_million=400), 10 + 2 * 100 + 4, id="output-output"),
    ],
)
def test_each_coefficient_weighs_its_own_tokens(cost: Cost, units: int) -> None:
    assert cost(10, 100) == units * MICRO


def test_the_price_of_a_request_is_paid_for_each_sequence() -> None:
    assert Cost(request=7)(10, 100, sequences=3) == (3 * 7 + 10 + 2 * 100) * MICRO


def test_a_cached_prompt_token_costs_its_percentage() -> None:
    assert Cost(input_token=2, cached_input_percent=10)(10, 0, cached_tokens=4) == 12_800_000


def test_a_cached_prompt_costs_nothing_at_zero_percent() -> None:
    assert Cost(cached_input_percent=0)(10, 0, cached_tokens=10) == 0


def test_a_cached_prompt_token_costs_the_same_without_a_discount() -> None:
    assert Cost()(10, 0, cached_tokens=4) == 10 * MICRO


def test_no_more_than_the_prompt_is_discounted() -> None:
    assert Cost(cached_input_percent=50)(10, 5, cached_tokens=400) == (5 + 2 * 5) * MICRO


def test_the_quadratic_part_takes_sequences_to_be_of_equal_length() -> None:
    cost = Cost(input_token=0, output_token=0, input_input_per_million=1, input_output_per_million=1)
    assert cost(40, 80, sequences=4) == 4 * cost(10, 20)


@given(cost=COSTS, prompt=TOKENS, output=TOKENS, cached=TOKENS, sequences=st.integers(1, 8))
def test_a_further_token_never_makes_a_request_cheaper(
    cost: Cost, prompt: int, output: int, cached: int, sequences: int
) -> None:
    now = cost(prompt, output, cached_tokens=cached, sequences=sequences)
    assert now >= 0
    assert cost(prompt, output + 1, cached_tokens=cached, sequences=sequences) >= now
    assert cost(prompt + 1, output, cached_tokens=cached, sequences=sequences) >= now


@given(cost=COSTS, prompt=TOKENS, counts=st.lists(TOKENS, min_size=1), sequences=st.integers(1, 8))
def test_charges_by_differences_add_up_to_the_cost_of_the_whole(
    cost: Cost, prompt: int, counts: list[int], sequences: int
) -> None:
    counts.sort()
    charged = cost(prompt, 0, sequences=sequences)
    for before, after in zip([0, *counts], counts, strict=False):
        charged += cost(prompt, after, sequences=sequences) - cost(prompt, before, sequences=sequences)
    assert charged == cost(prompt, counts[-1], sequences=sequences)
