"""The step log: a line for each step with what it began with, one for each request that was queued."""

import io
import json
from itertools import count
from random import Random
from typing import Any

import pytest

from fairqueue_sim import BatchLimits, ContinuousBatch, Generation, StepLog, load_profile
from fairqueue_sim.scheduling_rules import SGLANG_RULES, TGI_RULES, VLLM_RULES, SchedulingRules


class Logged:
    """A batch of the tiny profile that is told to a log, with a clock that moves by one at each look."""

    def __init__(self, *, kv_tokens: int = 101, slots: int | None = None, rules: SchedulingRules = TGI_RULES) -> None:
        limits = BatchLimits(kv_tokens, 64, 99, 100, slots=slots, rules=rules)
        self.batch = ContinuousBatch(load_profile("tiny"), limits)
        self.file = io.BytesIO()
        ticks = count(1)
        self.log = StepLog(self.file, clock=lambda: float(next(ticks)))

    def submit(self, number: int, prompt_tokens: int, max_new_tokens: int) -> list[float]:
        """The looks at which it would have joined."""
        generation = Generation(number, prompt_tokens, max_new_tokens)
        self.batch.submit(generation)
        self.log.queued(generation)
        return list(json.loads(self.log._lines[-1])["would_have_joined"])

    def step(self) -> dict[str, Any]:
        step = self.batch.step()
        if step is None:
            self.log.emptied()
        else:
            self.log.began(step, self.batch)
            self.log.over(step)
        return self.lines[-1]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]


def test_a_step_says_what_it_began_with_and_what_it_brought() -> None:
    it = Logged()
    it.submit(1, 30, 10)
    it.submit(2, 30, 10)
    it.submit(3, 30, 10)
    step = it.step()
    assert it.lines[0] == {"event": "queued", "at": 1.0, "need_tokens": 39, "would_have_joined": []}
    assert (step["began"], step["ended"]) == (4.0, 5.0)
    assert (step["looked"], step["joined"], step["running"], step["waiting"]) == (True, 2, 2, 1)
    assert (step["room_tokens"], step["room_requests"], step["room_prefill_tokens"]) == (100 - 2 * 39, None, 4)
    assert (step["prompt_tokens"], step["output_tokens"], step["waiting_that_fit"]) == (60, 2, 0)


def test_who_would_have_fitted_and_was_not_let_in_is_counted() -> None:
    it = Logged(kv_tokens=301)
    for number in range(4):
        it.submit(number, 40, 10)
    step = it.step()
    assert (step["joined"], step["waiting"], step["waiting_that_fit"]) == (2, 2, 2)


def test_room_of_slots_is_said_where_there_are_slots() -> None:
    it = Logged(slots=3)
    it.submit(1, 10, 5)
    assert it.step()["room_requests"] == 2


def test_a_step_that_does_not_look_at_the_queue_says_so() -> None:
    it = Logged()
    it.submit(1, 10, 5)
    it.step()
    it.submit(2, 10, 5)
    joined, after = it.step(), it.step()
    assert (joined["looked"], joined["joined"]) == (True, 1)
    assert (after["looked"], after["joined"]) == (False, 0)


def test_the_end_of_all_work_is_noted() -> None:
    it = Logged()
    it.submit(1, 10, 1)
    it.step()
    assert it.step() == {"event": "emptied", "at": 4.0}


def test_the_next_to_come_names_the_looks_at_which_it_would_have_joined() -> None:
    it = Logged(slots=2)
    it.submit(1, 10, 9)
    first, second = it.step(), it.step()
    assert it.submit(2, 10, 9) == [first["began"], second["began"]]
    it.step()
    assert it.submit(3, 10, 9) == []


def test_one_that_is_too_large_for_what_was_left_would_not_have_joined() -> None:
    it = Logged()
    it.submit(1, 60, 21)
    first = it.step()
    assert it.submit(2, 20, 9) == []
    it = Logged()
    it.submit(1, 60, 21)
    it.step()
    assert it.submit(2, 10, 9) == [first["began"]]


@pytest.mark.parametrize("rules", [TGI_RULES, VLLM_RULES, SGLANG_RULES], ids=["tgi", "vllm", "sglang"])
def test_it_says_what_the_batch_itself_would_have_said_at_the_look(rules: SchedulingRules) -> None:
    random = Random(1)
    it = Logged(kv_tokens=208, slots=5, rules=rules)
    answers = []
    for number in range(300):
        step = it.step() if it.batch.running or it.batch.waiting else {}
        prompt, output = random.randint(5, 60), random.randint(1, 30)
        would = bool(step.get("looked")) and it.batch.would_join(
            Generation(number, prompt, output, wanted_tokens=output)
        )
        if random.random() < 0.3:
            answers.append(step.get("began") in it.submit(number, prompt, output))
            assert answers[-1] == would
    assert {True, False} == set(answers)
