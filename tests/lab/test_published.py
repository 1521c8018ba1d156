"""The lab against what was measured on real engines: the VTC paper's tables 5 and 6, as far as they are stable."""

from pathlib import Path

import pytest

from fairqueue_sim.lab.fairness_page import published_figures, published_line, run
from fairqueue_sim.lab.published import PUBLISHED, Published

# The artifact's runs of one engine make 876 to 904 tokens per second, which can't be the doing of the order alone: the
# lab's engine is set to the fastest, and the run with FCFS was 3 % slower.
ITS_ENGINE_WAS_SLOWER = ("overload_600", "fcfs")


PAGE = (Path(__file__).parents[2] / "docs" / "fairness.md").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.parametrize("published", [pytest.param(it, id=f"{it.workload}, {it.scheduler}") for it in PUBLISHED])
def test_the_lab_gives_the_figures_that_were_published_and_the_page_says_so(published: Published) -> None:
    difference, tokens = published_figures(published)
    assert difference == pytest.approx(published.avg_difference, rel=0.1, abs=2)
    allowed = 0.035 if (published.workload, published.scheduler) == ITS_ENGINE_WAS_SLOWER else 0.02
    assert tokens == pytest.approx(published.tokens_per_second, rel=allowed)
    assert published_line(published, difference, tokens) in PAGE


@pytest.mark.long
@pytest.mark.parametrize(
    ("workload", "tokens_per_second"),
    [
        ("overload_s4_35000_256", 2781),
        ("overload_s4_35000_512", 1608),
        ("overload_s4_35000_768", 1099),
        ("overload_s4_65000_256", 3104),
        ("overload_s4_65000_512", 2131),
        ("overload_s4_65000_768", 1442),
    ],
)
def test_the_larger_machine_is_as_fast_as_it_was_within_six_per_cent(workload: str, tokens_per_second: float) -> None:
    result = run(workload, "vtc").result
    assert result.throughput_tokens_per_second == pytest.approx(tokens_per_second, rel=0.06)


@pytest.mark.long
def test_weighted_vtc_shares_as_published() -> None:
    """Figure 16: 136, 272, 407 and 543 units per second."""
    served = run("weighted", "vtc-predict").series.service(30, 330, per_weight=False) / 300
    assert served == pytest.approx([136, 272, 407, 543], rel=0.03)
    assert served / served.sum() == pytest.approx([0.1, 0.2, 0.3, 0.4], rel=0.02)


@pytest.mark.long
@pytest.mark.parametrize(("scheduler", "share", "tolerance"), [("vtc", 0.5, 0.01), ("lcf", 771 / (771 + 592), 0.03)])
def test_after_a_change_of_distribution_vtc_shares_evenly_and_lcf_does_not(
    scheduler: str, share: float, tolerance: float
) -> None:
    """Figure 10, at 480 s: 675 to 674 with VTC, 771 to 592 without its lift."""
    served = run("dist_shift", scheduler).series.service(450, 510)
    assert served[0] / served.sum() == pytest.approx(share, abs=tolerance)


@pytest.mark.long
def test_jain_is_as_it_was_in_the_artifacts_runs() -> None:
    assert run("overload_600", "fcfs").result.jain_index == pytest.approx(0.900, abs=0.005)
    assert run("overload_multi", "fcfs").result.jain_index == pytest.approx(0.967, abs=0.005)
    assert run("overload", "vtc").result.jain_index == pytest.approx(0.990, abs=0.005)
