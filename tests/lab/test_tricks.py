"""Who fools the prediction takes nothing from the others."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from fairqueue_sim import load_profile
from fairqueue_sim.lab import tricks
from fairqueue_sim.lab.engines import LabEngine, RulesName
from fairqueue_sim.lab.experiment import Experiment, run_scheduler
from fairqueue_sim.lab.tricks import HONEST, RULES, SECONDS, TRICKS, Figure, Play, Trick, crowd, figure_of, tricks_table
from fairqueue_sim.lab.workloads import Workload

by_trick = pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.name)
ROW = "| {} | `tgi` | 350.0 | 343.1 | -6.9 (-2.0 %) | yes |"


@by_trick
def test_cheat_and_twin_ask_for_as_much_work(trick: Trick) -> None:
    cheat, twin = (sum(it.service for it in play(0)) for play in (trick.cheat, trick.twin))
    assert cheat == pytest.approx(twin, rel=0.01)
    # More than a third of what such an engine does.
    assert cheat / SECONDS > 650


@by_trick
def test_all_three_have_something_to_do_at_any_time_and_are_in_order(trick: Trick) -> None:
    arrivals = crowd(trick.cheat, seed=1)
    assert [it.seconds for it in arrivals] == sorted(it.seconds for it in arrivals)
    assert {it.tenant for it in arrivals} - set(HONEST)
    assert arrivals[-1].seconds > SECONDS - 3


def test_requests_are_by_the_seed_alone() -> None:
    assert TRICKS[0].twin(3) == TRICKS[0].twin(3) != TRICKS[0].twin(4)


def test_lengths_come_in_blocks_with_the_trick_and_mixed_with_the_twin() -> None:
    trick = TRICKS[0]
    blocks, mixed = ([it.output_tokens for it in play(0)][:104] for play in (trick.cheat, trick.twin))
    assert blocks[:27] == [16] * 6 + [512] * 20 + [16]
    assert mixed[:27] != blocks[:27]
    assert {16, 512} == set(mixed)


def test_who_hangs_up_shows_short_outputs_first_and_none_ever_again() -> None:
    trick = next(it for it in TRICKS if it.name == "hanging up")
    shown = [it.output_tokens for it in trick.cheat(0) if not it.hangs_up]
    assert shown == [1] * 6
    assert not any(it.hangs_up for it in trick.twin(0))


@pytest.mark.parametrize(
    ("trick", "twin", "harmless"),
    [
        pytest.param((343.1, 350.0), (350.0, 350.0), True, id="2 % less"),
        pytest.param((342.9, 350.0), (350.0, 350.0), False, id="more than 2 % less"),
        pytest.param((350.0, 357.1), (350.0, 350.0), False, id="more than 2 % more"),
        pytest.param((48.1, 50.0), (50.0, 50.0), True, id="no 2 units less"),
        pytest.param((47.9, 50.0), (50.0, 50.0), False, id="more than 2 units less"),
    ],
)
def test_harmless_is_within_2_percent_or_2_units_for_each(
    trick: tuple[float, ...], twin: tuple[float, ...], harmless: bool
) -> None:
    assert Figure("", "tgi", trick, twin).harmless is harmless


class _Here:
    """Runs what a pool of processes would."""

    def map(self, _function: object, numbers: list[int], _rules: object) -> list[Figure]:
        return [Figure(TRICKS[number].name, "tgi", (343.1, 351.0), (350.0, 350.0)) for number in numbers[::2]]


def test_the_table_has_a_line_for_each_trick_with_the_one_who_loses_most() -> None:
    _, _, *lines = tricks_table(_Here()).splitlines()  # type: ignore[arg-type]
    assert lines == [ROW.format(trick.name) for trick in TRICKS]


def test_the_names_that_one_tenant_uses_are_its_own_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as in the table, in little time."""
    monkeypatch.setattr(tricks, "SECONDS", 30.0)
    monkeypatch.setattr(tricks, "WARM_UP_SECONDS", 10.0)
    monkeypatch.setattr(tricks, "DRAIN_SECONDS", 15.0)
    figure = figure_of(TRICKS[-1], "vllm", seeds=1)
    for with_trick, with_twin in zip(figure.with_trick, figure.with_twin, strict=True):
        assert with_trick == pytest.approx(with_twin, rel=0.1)


@pytest.mark.long
def test_no_trick_takes_anything_from_the_others() -> None:
    with ProcessPoolExecutor(tricks.PROCESSES) as pool:
        figures = tricks.figures(pool)
    assert len(figures) == len(TRICKS) * len(RULES)
    by_memory = [trick.name for trick in TRICKS if trick.by_memory]
    assert [it for it in figures if not it.harmless and (it.rules, it.trick) != ("tgi", by_memory[0])] == []


@pytest.mark.long
@pytest.mark.parametrize("scheduler", ["vtc", "vtc-oracle"])
def test_memory_that_the_engine_sets_aside_is_lost_in_any_order(scheduler: str) -> None:
    """Also where the order is decided inside the engine, and by one who knows all lengths."""
    trick = next(trick for trick in TRICKS if trick.by_memory)
    with_trick, with_twin = (_inside(scheduler, play, "tgi") for play in (trick.cheat, trick.twin))
    for cheated, honestly in zip(with_trick, with_twin, strict=True):
        assert cheated / honestly == pytest.approx(0.8, abs=0.03)


def _inside(scheduler: str, play: Play, rules: RulesName) -> list[float]:
    arrivals = Workload("crowd", crowd(play, seed=0), SECONDS)
    engine = LabEngine(load_profile(tricks.PROFILE), rules)
    series = run_scheduler(Experiment(arrivals, engine), scheduler).series
    service = series.service(tricks.WARM_UP_SECONDS, SECONDS)
    return [float(service[series.tenants.index(tenant)]) for tenant in HONEST]
