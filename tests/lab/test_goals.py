"""What the product promises of each workload with one default configuration; and the page tells what the code gives."""

from pathlib import Path

import pytest

from fairqueue_sim import load_profile
from fairqueue_sim.lab.engines import LabEngine
from fairqueue_sim.lab.fairness_page import figures_of, goals_table
from fairqueue_sim.lab.marks import between
from fairqueue_sim.lab.workloads import workload_names

PAGE = (Path(__file__).parents[2] / "docs" / "fairness.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_goals_that_were_met_are_met_and_the_page_says_where_they_stand() -> None:
    table = goals_table()
    before, after = between(PAGE, "goals")
    assert PAGE[before:after].strip() == table
    assert table.count("| yes |") >= 4


@pytest.mark.long
@pytest.mark.parametrize("workload", workload_names())
def test_the_page_has_the_figures_of_each_workload_and_no_gap_is_above_its_bound(workload: str) -> None:
    assert figures_of(workload) in PAGE


def test_the_machine_in_the_page_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PAGE.split("```toml\n")[1].split("```")[0])
    profile = load_profile(str(path))
    assert LabEngine(profile, profile.rules).limits.kv_tokens == 120_000


def test_every_picture_of_the_page_is_there_and_no_other() -> None:
    folder = Path(__file__).parents[2] / "docs" / "pictures"
    assert sorted(path.stem for path in folder.iterdir()) == sorted(workload_names())
