"""How many are to stand in the engine's queue, told what steps leave."""

import pytest

from fairqueue_proxy.standing import ANSWERS_REMEMBERED, IN_TIME_AT_LEAST, LESS, PART_OF_LEVEL, Standing
from proxy.stepped_engine import full

LEVEL = 80


@pytest.fixture
def late() -> Standing:
    """What is sent comes too late for the next step."""
    standing = Standing()
    for _ in range(ANSWERS_REMEMBERED):
        standing.answered(in_time=False)
    return standing


def test_one_more_stands_after_each_step_that_left_nothing_up_to_a_part_of_what_runs(late: Standing) -> None:
    found = []
    for _ in range(LEVEL):
        late.step_is_over(left=0, level=LEVEL)
        found.append(late.wanted)
    most = LEVEL // PART_OF_LEVEL
    assert found == [*range(1, most), *[most] * (LEVEL - most + 1)]


def test_one_fewer_stands_after_many_steps_that_left_some(late: Standing) -> None:
    for _ in range(3):
        late.step_is_over(left=0, level=LEVEL)
    for _ in range(round(1 / LESS)):
        late.step_is_over(left=2, level=LEVEL)
    assert late.wanted == 2
    for _ in range(round(5 / LESS)):
        late.step_is_over(left=2, level=LEVEL)
    assert late.wanted == 0


@pytest.mark.parametrize("in_time", range(ANSWERS_REMEMBERED))
def test_nothing_need_stand_where_what_is_sent_comes_in_time_now_and_then(late: Standing, in_time: int) -> None:
    late.step_is_over(left=0, level=LEVEL)
    for _ in range(in_time):
        late.answered(in_time=True)
    late.step_is_over(left=0, level=LEVEL)
    assert late.wanted == (2 if in_time < IN_TIME_AT_LEAST else 0)


def test_nothing_is_known_before_enough_has_answered_and_the_engine_was_seen_full(late: Standing) -> None:
    late.step_is_over(left=0, level=None)
    assert late.wanted == 0
    fresh = Standing()
    for _ in range(ANSWERS_REMEMBERED - 1):
        fresh.answered(in_time=False)
        fresh.step_is_over(left=0, level=LEVEL)
    assert fresh.wanted == 0


@pytest.mark.parametrize("late", [False, True], ids=["in time", "a step late"])
def test_an_engine_that_has_begun_its_step_when_the_next_comes_has_more_standing(late: bool) -> None:
    engine = full(32)
    for _ in range(200):
        if not late:
            engine.fill()
        engine.step(places=32, ends=3)
        if late:
            # What ended is seen only when the engine has already looked for the next.
            engine.fill()
    assert (len(engine.queue) >= 3) == late
