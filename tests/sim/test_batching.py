"""The batching core against the recorded router, and its rules one by one, in engine time."""

from typing import Any

import pytest

from fairqueue_sim import BatchLimits, ContinuousBatch, FinishReason, Generation, GenerationState, Step, load_profile
from sim.replay import recording

TINY = load_profile("tiny")


def batch(**limits: Any) -> ContinuousBatch:
    given = {"kv_tokens": 10_000, "prefill_budget_tokens": 4096, "max_input_tokens": 4095, "max_total_tokens": 4096}
    return ContinuousBatch(TINY, BatchLimits(**given | limits))


def generation(number: int, prompt_tokens: int = 10, max_new_tokens: int | None = 5, **more: Any) -> Generation:
    return Generation(number=number, prompt_tokens=prompt_tokens, max_new_tokens=max_new_tokens, **more)


def submitted(model: ContinuousBatch, *generations: Generation) -> tuple[Generation, ...]:
    for each in generations:
        model.submit(each)
    return generations


def step(model: ContinuousBatch) -> Step:
    found = model.step()
    model.check()
    assert found is not None
    return found


def joined(found: Step) -> list[int]:
    return [each.number for each in found.joined]


def run_out(model: ContinuousBatch) -> list[Step]:
    steps = []
    while (found := model.step()) is not None:
        model.check()
        steps.append(found)
    return steps


@pytest.mark.parametrize(
    ("case", "limits", "arrivals"),
    [
        pytest.param("15-batching-plenty", {}, {0: 1, 1: 9}, id="plenty"),
        pytest.param("15-batching-kv-full", {"kv_tokens": 121}, {0: 1, 1: 9}, id="kv full"),
        pytest.param("15-batching-prefill-budget", {"prefill_budget_tokens": 20}, {0: 1, 1: 9}, id="budget"),
        pytest.param("15-batching-long-prompts", {"prefill_budget_tokens": 128}, {0: 1, 3: 3}, id="long prompts"),
    ],
)
def test_the_steps_are_those_of_the_recorded_router(
    case: str, limits: dict[str, int], arrivals: dict[int, int]
) -> None:
    calls = [(rpc, detail) for _, rpc, detail in recording(case)["engine_rpcs"] if rpc in ("Prefill", "Decode")]
    recorded = [(rpc, detail["ids"]) for rpc, detail in calls for _ in range(detail.get("times", 1))]
    prompts = [each for rpc, detail in calls if rpc == "Prefill" for each in detail["detail"]]
    waiting = [generation(each["id"], each["in"], each["max_new"]) for each in prompts]

    model = batch(**limits)
    running: list[int] = []
    steps: list[tuple[str, list[int]]] = []
    while steps or arrivals:
        for _ in range(arrivals.pop(len(steps), 0)):
            model.submit(waiting.pop(0))
        found = model.step()
        if found is None:
            break
        running += joined(found)
        steps.append(("Prefill", joined(found)) if found.joined else ("Decode", list(running)))
        ended = [each.number for each, _ in found.finished]
        running = [number for number in running if number not in ended]
    assert steps == recorded


def test_the_need_is_prompt_and_new_tokens_less_one_of_all_blocks_but_one() -> None:
    # Two of 12 + 27 - 1 = 38 fit into 77 tokens, but not into 76.
    for kv_tokens, running in ((77, 2), (76, 1)):
        model = batch(kv_tokens=kv_tokens)
        submitted(model, generation(1, 12, 27), generation(2, 12, 27))
        step(model)
        assert (model.running, model.kv_used_tokens) == (running, running * 38)


def test_a_head_that_does_not_fit_holds_back_small_ones_behind_it() -> None:
    model = batch(kv_tokens=100)
    submitted(model, generation(1, 10, 50), generation(2, 10, 60), generation(3, 1, 1))
    assert joined(step(model)) == [1]
    steps = run_out(model)
    order = [number for found in steps for number in joined(found)]
    assert order == [2, 3]
    assert joined(next(found for found in steps if found.joined)) == [2, 3]


def test_joiners_get_in_at_most_every_second_step_but_two_prefills_may_begin_a_batch() -> None:
    model = batch()
    order = []
    for number in range(1, 8):
        submitted(model, generation(number, max_new_tokens=50))
        order.append(joined(step(model)))
    assert order == [[1], [2], [], [3, 4], [], [5, 6], []]


def test_running_sequences_go_on_during_a_prefill_that_lasts_as_long_as_both() -> None:
    profile = load_profile("a10g-llama2-7b")
    model = ContinuousBatch(profile, BatchLimits(10_000, 4096, 4095, 4096))
    first, second = generation(1, 100, 10), generation(2, 200, 10)
    submitted(model, first)
    assert step(model).duration_seconds == pytest.approx(profile.overhead_seconds + 100 * 0.000214)
    submitted(model, second)
    both = step(model)
    assert both.tokens == [(first, 2), (second, 1)]
    overhead = profile.overhead_seconds
    assert both.duration_seconds == pytest.approx(overhead + 200 * 0.000214 + 0.023 + 0.000129 + 101 * 1.558e-6)
    assert step(model).duration_seconds == pytest.approx(overhead + 0.023 + 2 * 0.000129 + 303 * 1.558e-6)


def test_slots_bound_the_batch_at_all_times() -> None:
    model = batch(slots=2)
    submitted(model, *(generation(number) for number in range(1, 6)))
    sizes = []
    while model.step() is not None:
        model.check()
        sizes.append(model.running)
    assert max(sizes) == 2


def test_a_cancelled_sequence_gives_its_kv_back_at_the_end_of_the_step() -> None:
    model = batch(kv_tokens=50)
    first, second = submitted(model, generation(1, 10, 30), generation(2, 10, 30))
    step(model)
    model.cancel(first)
    assert (model.running, model.kv_used_tokens, model.waiting) == (1, 39, 1)
    assert joined(step(model)) == [2]
    assert second.state is GenerationState.RUNNING
    assert (model.running, model.kv_used_tokens, model.dropped) == (1, 39, 1)


def test_a_cancelled_entry_stays_in_the_queue_gauge_until_it_reaches_the_head() -> None:
    model = batch(kv_tokens=50)
    _, second, third = submitted(model, generation(1, 10, 3), generation(2, 10, 35), generation(3, 10, 5))
    step(model)
    model.cancel(third)
    assert (model.waiting, model.gauges.queue_size, model.dropped) == (1, 2, 0)
    run_out(model)
    assert second.state is GenerationState.FINISHED
    assert (model.gauges.queue_size, model.dropped, third.generated_tokens) == (0, 1, 0)


def test_cancelling_what_has_ended_changes_nothing() -> None:
    model = batch()
    (only,) = submitted(model, generation(1, max_new_tokens=1))
    run_out(model)
    model.cancel(only)
    assert only.state is GenerationState.FINISHED
    assert model.dropped == 0


@pytest.mark.parametrize(
    ("wanted", "made"), [(1024, 1024), (1025, 2048), (1500, 2048), (3000, 3072), (None, 3996)], ids=str
)
def test_long_outputs_are_made_in_pieces_of_1024(wanted: int | None, made: int) -> None:
    model = batch()
    (only,) = submitted(model, generation(1, 100, wanted))
    steps = run_out(model)
    assert only.generated_tokens == made
    assert [number for found in steps for _, number in found.tokens] == list(range(1, made + 1))
    assert steps[-1].finished == [(only, FinishReason.LENGTH)]


def test_a_small_input_limit_ends_a_long_output_after_its_first_piece() -> None:
    model = batch(max_input_tokens=1000, max_total_tokens=2200)
    (only,) = submitted(model, generation(1, 13, 1500))
    run_out(model)
    assert only.generated_tokens == 1024


def test_the_next_piece_queues_behind_those_who_wait() -> None:
    model = batch(kv_tokens=2200)
    first, *_ = submitted(model, generation(1, 13, 1100))
    step(model)
    submitted(model, generation(2, 13, 1020), generation(3, 14, 900))
    order = [number for found in run_out(model) for number in joined(found)]
    assert order == [2, 3, 1]
    assert first.generated_tokens == 2048


def test_an_output_ends_by_itself_with_its_reason() -> None:
    model = batch()
    eos, stop, late = submitted(
        model,
        generation(1, end_at=2),
        generation(2, end_at=3, end_reason=FinishReason.STOP),
        generation(3, end_at=9),
    )
    ended = [pair for found in run_out(model) for pair in found.finished]
    assert ended == [(eos, FinishReason.EOS), (stop, FinishReason.STOP), (late, FinishReason.LENGTH)]
    assert [each.generated_tokens for each in (eos, stop, late)] == [2, 3, 5]


def test_the_length_is_looked_at_before_the_end_token() -> None:
    model = batch()
    (only,) = submitted(model, generation(1, max_new_tokens=4, end_at=4))
    assert run_out(model)[-1].finished == [(only, FinishReason.LENGTH)]


def test_speculation_makes_several_tokens_a_step_but_never_too_many() -> None:
    model = batch()
    (only,) = submitted(model, generation(1, max_new_tokens=7, tokens_per_step=3))
    assert [[number for _, number in found.tokens] for found in run_out(model)] == [[1, 2, 3], [4, 5, 6], [7]]
    assert only.state is GenerationState.FINISHED


def test_a_failure_takes_the_whole_batch_and_no_token_of_that_step_is_made() -> None:
    model = batch()
    good, _ = submitted(model, generation(1), generation(2, fail_at=2))
    step(model)
    failed = step(model)
    assert (len(failed.failed), failed.tokens, good.generated_tokens) == (2, [], 1)
    assert model.step() is None
    assert model.kv_used_tokens == 0


def test_a_newcomer_that_fails_in_its_prefill_takes_those_who_run() -> None:
    model = batch()
    submitted(model, generation(1))
    step(model)
    submitted(model, generation(2, fail_at=1))
    assert len(step(model).failed) == 2


def test_steered_durations_are_floors_for_the_whole_step() -> None:
    model = batch()
    submitted(model, generation(1, step_seconds=0.1, prefill_seconds=0.5), generation(2))
    assert [found.duration_seconds for found in run_out(model)] == [0.5, 0.1, 0.1, 0.1, 0.1]


@pytest.mark.parametrize("impossible", [generation(1, 50, 60), generation(1, 10, -1)], ids=["too big", "no token"])
def test_what_can_never_run_is_refused_at_once(impossible: Generation) -> None:
    with pytest.raises(ValueError, match=r"KV tokens|at least one token"):
        batch(kv_tokens=100).submit(impossible)


def test_gauges_are_absent_at_first_and_lag_behind_a_prefill() -> None:
    model = batch()
    gauges = model.gauges
    assert (gauges.queue_size, gauges.current_size, gauges.current_max_tokens) == (None, None, None)
    submitted(model, generation(1, 10, 29))
    assert gauges.queue_size == 1
    step(model)
    assert (gauges.queue_size, gauges.current_size) == (0, None)
    submitted(model, generation(2, 10, 29))
    step(model)
    step(model)
    assert (gauges.current_size, gauges.current_max_tokens) == (1, 38)
    step(model)
    assert (gauges.current_size, gauges.current_max_tokens) == (2, 76)
    run_out(model)
    assert (gauges.current_size, gauges.current_max_tokens) == (0, 0)


def test_waiting_that_fit_counts_from_the_head_on() -> None:
    model = batch(kv_tokens=100, slots=3)
    submitted(model, generation(1, 10, 11))
    step(model)
    submitted(model, generation(2, 10, 21), generation(3, 10, 61), generation(4, 1, 1))
    assert (model.waiting, model.waiting_that_fit()) == (3, 1)
