"""The batch under the rules of vLLM and SGLang: KV cache on demand, preemption, prefills beside or before decodes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_sim import BatchLimits, ContinuousBatch, FinishReason, Generation, GenerationState, Step, load_profile
from fairqueue_sim.scheduling_rules import SGLANG_RULES, VLLM_RULES, SchedulingRules

TINY = load_profile("tiny")
RULES = [pytest.param(VLLM_RULES, id="vllm"), pytest.param(SGLANG_RULES, id="sglang")]


def batch(rules: SchedulingRules, **limits: Any) -> ContinuousBatch:
    given = {"kv_tokens": 1600, "prefill_budget_tokens": 100, "max_input_tokens": 999, "max_total_tokens": 1000}
    return ContinuousBatch(TINY, BatchLimits(**given | {"piece_tokens": 1000, "rules": rules} | limits))


def generation(number: int, prompt_tokens: int = 20, max_new_tokens: int = 5, **more: Any) -> Generation:
    return Generation(number=number, prompt_tokens=prompt_tokens, max_new_tokens=max_new_tokens, **more)


def step(model: ContinuousBatch) -> Step:
    found = model.step()
    model.check()
    assert found is not None
    return found


def numbers(found: Step) -> list[int]:
    return [each.number for each, _ in found.tokens]


@pytest.mark.parametrize(("rules", "first", "second"), [(VLLM_RULES, 32, 48), (SGLANG_RULES, 31, 33)])
def test_cache_is_taken_as_the_output_grows(rules: SchedulingRules, first: int, second: int) -> None:
    model = batch(rules)
    model.submit(generation(1, prompt_tokens=31, max_new_tokens=50))
    step(model)
    assert model.kv_used_tokens == first
    step(model)
    step(model)
    assert model.kv_used_tokens == second


def test_the_newest_gives_way_when_nothing_is_left_and_goes_on_where_it_was() -> None:
    model = batch(VLLM_RULES, kv_tokens=16 * 5)
    old, new = (generation(number, prompt_tokens=15, max_new_tokens=40) for number in (1, 2))
    model.submit(old)
    model.submit(new)
    while not model.preemptions:
        step(model)
    made = new.generated_tokens
    assert (new.state, model.waiting, model.kv_used_tokens) == (GenerationState.WAITING, 1, old.held_tokens)
    rest = []
    while (found := model.step()) is not None:
        model.check()
        rest.append(found)
    assert made > 0
    assert [number for found in rest for each, number in found.tokens if each is new] == list(range(made + 1, 41))
    # Its prompt is read anew, but it counts once.
    assert [found.prefilled for found in rest if found.prefilled] == []


def test_one_that_is_cancelled_while_it_has_given_way_is_gone() -> None:
    model = batch(VLLM_RULES, kv_tokens=16 * 5)
    old, new = generation(1, 15, 40), generation(2, 15, 40)
    model.submit(old)
    model.submit(new)
    while not model.preemptions:
        step(model)
    model.cancel(new)
    assert model.waiting == 0
    while model.step() is not None:
        model.check()
    assert (old.state, new.state) == (GenerationState.FINISHED, GenerationState.CANCELLED)


def test_in_vllm_others_go_on_while_a_long_prompt_is_read_piece_by_piece() -> None:
    model = batch(VLLM_RULES)
    model.submit(generation(1, max_new_tokens=50))
    step(model)
    model.submit(generation(2, prompt_tokens=250))
    assert [numbers(step(model)) for _ in range(4)] == [[1], [1], [1, 2], [1, 2]]


def test_in_sglang_nobody_decodes_while_a_prompt_is_read() -> None:
    model = batch(SGLANG_RULES)
    model.submit(generation(1, max_new_tokens=50))
    step(model)
    model.submit(generation(2, prompt_tokens=250))
    assert [numbers(step(model)) for _ in range(4)] == [[], [], [2], [1, 2]]


@pytest.mark.parametrize("rules", RULES)
def test_newcomers_get_in_at_every_step_and_slots_bound_the_batch(rules: SchedulingRules) -> None:
    model = batch(rules, slots=2)
    joined = []
    for number in (1, 2, 3):
        model.submit(generation(number))
        joined.append([each.number for each in step(model).joined])
    assert joined == [[1], [2], []]


@pytest.mark.parametrize("rules", RULES)
def test_what_makes_no_token_ends_with_its_prefill(rules: SchedulingRules) -> None:
    model = batch(rules)
    reads = generation(1, max_new_tokens=0)
    model.submit(reads)
    found = step(model)
    assert (found.prefilled, found.tokens, found.finished) == ([reads], [], [(reads, FinishReason.LENGTH)])
    assert model.step() is None
    assert model.kv_used_tokens == 0


@pytest.mark.parametrize(("rules", "reason"), [(VLLM_RULES, FinishReason.STOP), (SGLANG_RULES, FinishReason.LENGTH)])
def test_an_end_at_the_limit_is_an_end_or_the_limit(rules: SchedulingRules, reason: FinishReason) -> None:
    model = batch(rules)
    model.submit(generation(1, max_new_tokens=1, end_at=1, end_reason=FinishReason.STOP))
    ((_, found),) = step(model).finished
    assert found is reason


@pytest.mark.parametrize("rules", RULES)
def test_what_can_never_fit_is_refused_at_once(rules: SchedulingRules) -> None:
    with pytest.raises(ValueError, match="KV tokens"):
        batch(rules, kv_tokens=160).submit(generation(1, prompt_tokens=100, max_new_tokens=100))


@given(
    rules=st.sampled_from([VLLM_RULES, SGLANG_RULES]),
    sizes=st.lists(st.tuples(st.integers(1, 120), st.integers(1, 60), st.integers(1, 4)), min_size=1, max_size=12),
    slots=st.one_of(st.none(), st.integers(1, 4)),
    kv_tokens=st.integers(13, 30),
)
def test_everything_that_fits_is_made_in_full_whatever_comes_together(
    rules: SchedulingRules, sizes: list[tuple[int, int, int]], slots: int | None, kv_tokens: int
) -> None:
    model = batch(rules, kv_tokens=16 * kv_tokens, slots=slots)
    made: dict[int, int] = {}
    asked = {}
    for number, (prompt, tokens, at_once) in enumerate(sizes):
        asked[number] = tokens
        model.submit(generation(number, prompt, tokens, tokens_per_step=at_once))
    for _ in range(5000):
        found = model.step()
        model.check()
        if found is None:
            break
        for each, number in found.tokens:
            assert number == made.get(each.number, 0) + 1
            made[each.number] = number
    assert made == asked
    assert model.kv_used_tokens == 0
