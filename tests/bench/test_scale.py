"""The command measures what it is asked to, and says it as tables, as JSON and on a page. No time is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.refused_input import exit_code
from scale_bench.decisions import CoreCosts
from scale_bench.scrapes import Population, ScrapeCosts
from scale_bench.spread import Spread, spread_of
from scale_bench.tables import markdown

COMMAND = Path(__file__).resolve().parents[2] / "bench" / "scale.py"
TINY = ["--repetitions", "2", "--steps", "5", "--scrapes", "2", "--population", "3,4,5"]
SMALL = Population(3, 4, 5)


def scale(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, COMMAND, *options], capture_output=True, text=True, timeout=120)


def assert_in_order(spread: dict[str, float]) -> None:
    assert 0 < spread["best"] <= spread["median"] <= spread["worst"]


def test_everything_is_measured_for_each_number_of_tenants_and_each_population() -> None:
    done = scale("--tenants", "2,6", "--json", *TINY)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert [it["tenants"] for it in figures["core"]] == [2, 6]
    for it in figures["core"]:
        for name in ("backlogged", "passing", "token"):
            assert_in_order(it[name])
    assert [it["population"]["gone"] for it in figures["scrapes"]] == [0, 5]
    for it in figures["scrapes"]:
        assert it["size_bytes"] > 3_000
        for name in ("scrape", "stall", "own_stall", "quiet"):
            assert_in_order(it[name])
    sizes = [it["size_bytes"] for it in figures["scrapes"]]
    # One label more, however many are behind it.
    assert sizes[0] < sizes[1] < 2 * sizes[0]


def test_tables_are_written_into_the_page_and_nothing_else_of_it_is_touched(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- scale: made by `make bench` -->\nold\n<!-- end of scale -->\nafter\n")
    done = scale("--tenants", "2", "--page", str(page), *TINY[:4], "--scrapes", "0")
    assert done.returncode == 0, done.stderr
    before, _, rest = page.read_text().partition("<!-- scale: made by `make bench` -->\n")
    written, _, after = rest.partition("\n<!-- end of scale -->")
    assert (before, after) == ("before\n", "\nafter\n")
    assert written == done.stdout.strip()
    assert written.startswith("| in µs")


def test_a_page_without_a_place_for_them_is_left_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    done = scale("--tenants", "0", "--scrapes", "0", "--page", str(page))
    assert done.returncode == 1
    assert "page.md has no" in done.stderr
    assert page.read_text() == "nothing\n"


@pytest.mark.parametrize(
    "options",
    [["--tenants", "ten"], ["--tenants", "1"], ["--population", "1,2"], ["--population", "257,0,0"], ["--steps", "0"]],
)
def test_what_cannot_be_measured_is_refused_in_a_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(COMMAND, *options) == 2
    assert options[0] in capsys.readouterr().err.splitlines()[-1]


def test_a_spread_has_the_best_the_median_and_the_worst() -> None:
    assert spread_of([3.0, 1.0, 9.0, 2.0]) == Spread(1.0, 2.5, 9.0)


def test_the_tables_name_the_goals_that_are_missed() -> None:
    good, bad = Spread(0.5, 0.75, 2.0), Spread(21.0, 22.0, 23.0)
    core = [CoreCosts(10, good, bad, bad), CoreCosts(100_000, good, good, good), CoreCosts(1_000_000, bad, bad, bad)]
    quick, slow = Spread(0.001, 0.0015, 0.002), Spread(0.002, 0.003, 0.004)
    scrapes = [
        ScrapeCosts(SMALL, 5_000, quick, quick, quick, quick),
        ScrapeCosts(SMALL, 1_500_000, quick, quick, slow, quick),
    ]
    rows = [line.strip("|").split("|") for line in markdown(core, scrapes).splitlines() if line.startswith("|")]
    assert [[cell.strip() for cell in row] for row in rows[2:5]] == [
        ["10 tenants", "0.50 [0.75, 2.00]", "21.00 [22.00, 23.00] (goal: 5)", "21.00 [22.00, 23.00] (goal: 1)"],
        ["100,000 tenants", *["0.50 [0.75, 2.00]"] * 3],
        ["1,000,000 tenants", *["21.00 [22.00, 23.00]"] * 3],
    ]
    assert [cell.strip() for cell in rows[7]] == [
        "3 tenants, 4 identities, 5 tenants that went",
        "5 kB",
        *["1.50 ms [1.00, 2.00]"] * 4,
    ]
    assert "1,500 kB (goal: 1 MB)" in rows[8][1]
    assert "3.00 ms [2.00, 4.00] (goal: 2 ms)" in rows[8][4]


def test_what_was_not_measured_has_no_table() -> None:
    assert markdown([], []) == ""
