"""The matrix of backpressure: its cells, what is measured in them, and that the page has what the code gives."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from fairqueue_sim.lab.backpressure_page import cell_line, matrix
from fairqueue_sim.lab.cells import CELLS, Cell, Figures, Judgement, judge, run_direct, run_product
from fairqueue_sim.lab.marks import between

PAGE = (Path(__file__).parents[2] / "docs" / "backpressure.md").read_text(encoding="utf-8")
SMALL = Cell("vllm", 2_000, 4, "64/64")


class Brief(Cell):
    """A cell that is not run for long."""

    seconds = 180.0  # type: ignore[assignment]


def named(name: str) -> Cell:
    (cell,) = (cell for cell in CELLS if cell.name == name)
    return cell


def test_lengths_that_do_not_fit_and_slots_that_can_not_be_filled_are_no_cells() -> None:
    names = {cell.name for cell in CELLS}
    assert "tgi 2000 4 2048/512" not in names
    # Seven prompts fit, so 32 slots are as 8.
    assert {"tgi 2000 8 256/256"} <= names
    assert "tgi 2000 32 256/256" not in names
    assert {cell.kv_tokens for cell in CELLS} == {2_000, 10_000, 35_000, 65_000}
    assert {cell.slots for cell in CELLS} == {4, 8, 32, 256}


def test_in_any_stretch_of_a_tenants_requests_there_are_as_many_of_each_length() -> None:
    arrivals = named("tgi 10000 8 mixed").arrivals(1)
    assert arrivals == named("tgi 10000 8 mixed").arrivals(1) != named("tgi 10000 8 mixed").arrivals(2)
    lengths = [(it.prompt_tokens, it.output_tokens) for it in arrivals if it.tenant == "two"]
    for first in range(0, 100, 5):
        assert len(set(lengths[first : first + 5])) == 5
    assert all(one.seconds <= other.seconds for one, other in pairwise(arrivals))


def test_two_want_more_than_there_is_and_one_wants_little() -> None:
    cell = named("vllm 10000 8 64/64")
    counts = Counter(it.tenant for it in cell.arrivals(0))
    done = run_direct(cell).tokens_per_second / 128 * cell.seconds
    assert counts["one"] > 0.5 * done
    assert counts["two"] > done
    assert counts["light"] < 0.1 * done


def test_an_engine_that_is_given_too_little_is_idle_and_one_that_is_given_all_is_not() -> None:
    cell = Brief("vllm", 2_000, 4, "64/64")
    direct, held, product = run_direct(cell), run_product(cell, 2), run_product(cell)
    assert held.idle_part > 0.95
    assert held.tokens_per_second < 0.7 * direct.tokens_per_second
    assert product.idle_part < 0.01
    assert product.tokens_per_second > 0.97 * direct.tokens_per_second


def test_what_waits_in_the_engine_is_seen_if_it_would_have_fitted() -> None:
    # Sixteen prompts are read in a step, and all places become free together.
    cell = Brief("sglang", 10_000, 32, "256/256")
    assert run_product(cell, 40).waiting_p95 > 10
    assert run_product(cell, 1).waiting_p95 == 0


GOOD = Figures(100.0, 10.0, 2, 0.01, 8.0)
AS_IT_SHOULD_BE = Judgement(SMALL, GOOD, replace(GOOD, tokens_per_second=98.0), 8, 20.0, 22.0)


@pytest.mark.parametrize(
    ("judgement", "misses"),
    [
        pytest.param(AS_IT_SHOULD_BE, (), id="as it should be"),
        pytest.param(replace(AS_IT_SHOULD_BE, product=replace(GOOD, tokens_per_second=97.9)), ("tokens",), id="tokens"),
        pytest.param(replace(AS_IT_SHOULD_BE, product=replace(GOOD, waiting_p95=3)), ("waiting",), id="waiting"),
        pytest.param(replace(AS_IT_SHOULD_BE, product=replace(GOOD, idle_part=0.011)), ("idle",), id="idle"),
        pytest.param(replace(AS_IT_SHOULD_BE, difference=22.1), ("difference",), id="difference"),
        pytest.param(replace(AS_IT_SHOULD_BE, best_difference=5.0, difference=7.0), (), id="two units"),
        pytest.param(replace(AS_IT_SHOULD_BE, best=None, difference=1000.0), (), id="no fixed limit is good"),
    ],
)
def test_a_cell_misses_what_is_not_as_it_should_be(judgement: Judgement, misses: tuple[str, ...]) -> None:
    assert judgement.misses == misses


def test_the_page_counts_what_was_missed() -> None:
    text = matrix([AS_IT_SHOULD_BE, replace(AS_IT_SHOULD_BE, product=replace(GOOD, idle_part=0.5))])
    assert text.startswith(
        "1 of 2 cells are as they should be in all four. Missed: tokens in 0, waiting in 0, idle in 1,"
    )
    assert text.splitlines()[-1].endswith("| 50.0 % | 22.0 | 8 | 20.0 | idle |")


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["sglang 10000 8 64/64", "vllm 10000 32 mixed", "tgi 10000 8 256/256", "tgi 35000 32 2048/512"]
)
def test_the_page_has_the_figures_of_a_cell(name: str) -> None:
    before, after = between(PAGE, "cells")
    assert cell_line(judge(named(name))) in PAGE[before:after]
