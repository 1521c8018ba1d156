"""A step log read back: tokens of a span, who waited, what stood idle, when the engine was full."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from socket_bench.step_view import StepView


class Log:
    """A log of steps that last a second each, on an engine of twice the speed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "steps.jsonl"
        self.path.touch()
        self.view = StepView(self.path, speed=2)

    def write(self, **fields: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(fields) + "\n")

    def queued(self, at: float, need_tokens: int = 10, would_have_joined: Sequence[float] = ()) -> None:
        self.write(event="queued", at=at, need_tokens=need_tokens, would_have_joined=would_have_joined)

    def emptied(self, at: float) -> None:
        self.write(event="emptied", at=at)

    def step(self, began: float, **fields: Any) -> None:
        full = {"looked": True, "joined": 0, "running": 4, "waiting": 0, "waiting_that_fit": 0}
        full |= {"room_tokens": 0, "room_requests": None, "room_prefill_tokens": 50}
        full |= {"prompt_tokens": 0, "output_tokens": 4, "seconds": 2.0}
        self.write(event="step", began=began, ended=began + 1, **(full | fields))

    def read(self) -> StepView:
        self.view.read()
        return self.view


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_tokens_are_of_the_steps_that_ended_in_the_span(log: Log) -> None:
    for began in range(6):
        log.step(began, prompt_tokens=began)
    seen = log.read().seen(2, 5)
    assert (seen.output_tokens, seen.prompt_tokens) == (12, 2 + 3 + 4)
    assert seen.running_mean == 4


def test_who_waits_is_counted_only_with_newcomers(log: Log) -> None:
    log.step(0, joined=1, waiting=3, waiting_that_fit=2)
    log.step(1, waiting=9, waiting_that_fit=9)
    log.step(2, joined=2, waiting=1)
    seen = log.read().seen(0, 3)
    assert (seen.waiting, seen.fitting) == ([3, 1], [2, 0])


def test_room_that_the_next_one_would_have_taken_stands_idle_until_the_next_look(log: Log) -> None:
    log.step(0)
    log.step(1, looked=False)
    log.queued(1.5, would_have_joined=[0.0])
    log.step(2)
    log.step(3)
    assert log.read().seen(0, 4).idle_share == pytest.approx(0.5)


def test_an_engine_without_a_batch_is_idle_until_it_has_one(log: Log) -> None:
    log.step(0)
    log.emptied(1)
    log.queued(2)
    log.step(2)
    log.step(3)
    seen = log.read().seen(0, 4)
    assert seen.idle_share == pytest.approx(0.25)
    assert seen.behind == 0


def test_time_that_is_idle_twice_counts_once(log: Log) -> None:
    log.step(0)
    log.emptied(1)
    log.queued(2, would_have_joined=[0.0])
    log.step(2)
    log.step(3)
    assert log.read().seen(0, 4).idle_share == pytest.approx(0.5)


def test_steps_that_take_longer_than_they_should_are_behind(log: Log) -> None:
    for began in range(4):
        log.step(began, seconds=1.0)
    assert log.read().seen(0, 4).behind == pytest.approx(0.5)


def test_half_a_line_is_left_for_the_next_time(log: Log) -> None:
    log.step(0)
    whole = log.path.read_text()
    log.path.write_text(whole + whole[:30])
    assert len(log.read().steps) == 1
    log.path.write_text(whole + whole)
    assert len(log.read().steps) == 2


def test_the_engine_is_full_at_the_first_look_without_room_for_the_largest(log: Log) -> None:
    log.step(0, room_tokens=0)
    log.queued(1, need_tokens=10)
    log.queued(1, need_tokens=30)
    log.step(1, room_tokens=40)
    log.step(2, looked=False, room_tokens=20)
    log.step(3, room_tokens=20)
    view = log.read()
    assert view.first_full(0.5) == 3
    assert view.first_full(3.5) is None
    assert view.last_queued(0.5) == 1


def test_what_was_read_is_forgotten_but_not_whether_the_engine_is_empty(log: Log) -> None:
    log.step(0)
    view = log.read()
    view.forget()
    assert (view.steps, view.is_empty) == ([], False)
    log.emptied(1)
    assert log.read().is_empty
