"""Step changes, bursts and light load: the stage on which they are played, and what is made of what is seen."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from fairqueue_proxy.scheduler import State
from fairqueue_sim.generation import Generation
from fairqueue_sim.lab import bursts, changes
from fairqueue_sim.lab.bursts import BurstFigure, LightFigure
from fairqueue_sim.lab.changes import CHANGES, RULES, Change, ChangeFigure, Run, arrival_of, lab_engine, run_change
from fairqueue_sim.lab.engines import RulesName
from fairqueue_sim.lab.fronts import Inside
from fairqueue_sim.lab.metrics import Array
from fairqueue_sim.lab.orders import make_order
from fairqueue_sim.lab.outside import Outside
from fairqueue_sim.lab.policies import open_policy
from fairqueue_sim.lab.simulation import Clock, simulate
from fairqueue_sim.lab.staged import BYPASS, Agenda, FarEngine, Staged
from fairqueue_sim.lab.trace import Arrival

PROCESSES = 2
TRANSIT_SECONDS = 0.01
both_ways = pytest.mark.parametrize("direct", [True, False], ids=["direct", "product"])
any_rules = pytest.mark.parametrize("rules", RULES)


class Stage:
    """An engine with a front, ready for a few requests."""

    def __init__(
        self,
        *,
        rules: RulesName = "vllm",
        slots: int | None = 4,
        direct: bool = False,
        plain: Callable[[Arrival], bool] = lambda _: False,
    ) -> None:
        self.clock = Clock()
        engine = lab_engine(rules, slots)
        order = make_order("fcfs", {}, kv_tokens=10_000, seed=0)
        self.batch = engine.batch(order if direct else None)
        self.far = FarEngine(self.batch, self.clock, TRANSIT_SECONDS)
        document = open_policy(engine.kind, ["one"], {})
        inside, outside = (
            Inside(order, self.batch, 1),
            Outside(document, engine.report(), self.far, self.clock, 0, plain),
        )
        self.staged = Staged(inside if direct else outside, self.far, self.clock)

    @property
    def product(self) -> Outside:
        assert self.staged.product is not None
        return self.staged.product

    def run(self, arrivals: Sequence[Arrival], until: float = float("inf")) -> Run:
        return Run(simulate(arrivals, self.batch, self.staged, self.clock, until=until), self.staged)


def some(count: int, at: float = 0.0, tenant: str = "one") -> list[Arrival]:
    source = Random(count)
    return [arrival_of(at, tenant, (64, 64), "vllm", source) for _ in range(count)]


def test_an_agenda_is_worked_off_in_the_order_of_time_and_then_of_entry() -> None:
    agenda, done = Agenda(), list[str]()
    for instant, name in ((2.0, "b"), (1.0, "a"), (2.0, "c"), (3.0, "d")):
        agenda.at(instant, lambda name=name: done.append(name))  # type: ignore[misc]
    assert agenda.due == 1.0
    agenda.act(until=2.0)
    assert done == ["a", "b", "c"]
    agenda.act()
    assert done == ["a", "b", "c", "d"]
    assert agenda.due == float("inf")


def test_a_request_reaches_a_far_engine_a_while_after_it_was_sent() -> None:
    stage = Stage()
    course = stage.run(some(1, at=1.0)).course
    (generation,) = stage.far.sent_at
    assert stage.far.sent_at[generation] == 1.0
    assert course.fates[0].started_at == 1.0 + TRANSIT_SECONDS


def test_after_a_crash_an_engine_is_empty_and_takes_the_same_requests_again() -> None:
    batch = lab_engine("vllm", 2).batch()
    requests = [Generation(number, 64, 8) for number in range(5)]
    for request in requests:
        batch.submit(request)
    assert batch.step() is not None
    batch.cancel(requests[4])
    assert batch.crash() == requests[:4]
    batch.check()
    assert (batch.running, batch.waiting, batch.kv_used_tokens, batch.step()) == (0, 0, 0, None)
    batch.submit(requests[0])
    step = batch.step()
    assert step is not None
    assert step.tokens == [(requests[0], 1)]


def test_nothing_would_fit_into_a_batch_that_is_above_its_limit() -> None:
    batch = lab_engine("vllm", 4).batch()
    for number in range(6):
        batch.submit(Generation(number, 64, 8))
    batch.step()
    batch.limits = replace(batch.limits, slots=2)
    assert batch.waiting_that_fit() == 0
    assert not batch.would_fit(Generation(9, 64, 8))


def test_of_a_plain_reply_nothing_is_known_before_its_end() -> None:
    stage = Stage(plain=lambda _: True)
    known: list[tuple[int, int]] = []
    intake = stage.product.policy.dispatcher.capacity.intake
    stage.staged.agenda.at(0.5, lambda: known.append((intake.plain, stage.batch.running)))
    fate = stage.run(some(1)).course.fates[0]
    assert known == [(1, 1)]
    assert fate.ended_at is not None
    assert fate.ended_at > 0.5
    assert intake.plain == 0
    tenant = stage.product.policy.tenants.by_name["one"]
    assert tenant.output_tokens == fate.arrival.output_tokens


@any_rules
def test_when_the_engine_dies_only_what_has_answered_breaks_and_all_else_is_served(rules: RulesName) -> None:
    stage = Stage(rules=rules)
    had_answered: list[bool] = []

    def die() -> None:
        had_answered.extend(fate.first_token_at is not None and fate.ended_at is None for fate in fates)
        stage.staged.engine_dies()
        assert stage.batch.running == stage.batch.waiting == 0

    stage.staged.agenda.at(3.0, die)
    stage.staged.agenda.at(8.0, stage.staged.engine_is_back)
    fates = stage.staged._fates.values()
    run = stage.run(some(40))
    broken = [fate.refused == "engine_error" for fate in run.course.fates]
    assert any(had_answered)
    assert all(breaks for breaks, answered in zip(broken, had_answered, strict=True) if answered)
    # Of the step that never ended the product has, in the lab, counted the tokens.
    assert sum(broken) <= sum(had_answered) + 4
    assert all((fate.ended_at is None) == (fate.refused is not None) for fate in run.course.fates)
    assert not any(3.1 < (fate.started_at or 0) < 8 for fate in run.course.fates)
    assert stage.product.unended == set()


def test_without_the_product_all_that_was_in_the_engine_breaks_and_newcomers_are_refused() -> None:
    stage = Stage(direct=True)
    stage.staged.agenda.at(1.0, stage.staged.engine_dies)
    stage.staged.agenda.at(6.0, stage.staged.engine_is_back)
    run = stage.run([*some(8), *some(1, at=5.0), *some(1, at=7.0)])
    refused = [fate.refused for fate in run.course.fates]
    assert refused == ["engine_error"] * 8 + ["engine_unavailable", None]


@both_ways
def test_what_goes_past_the_product_is_served_beside_it(direct: bool) -> None:
    stage = Stage(direct=direct)
    run = stage.run([*some(10), *some(10, tenant=BYPASS)])
    assert all(fate.ended_at is not None for fate in run.course.fates)
    if not direct:
        assert len(stage.far.sent_at) == 10


@both_ways
def test_when_everybody_leaves_only_what_runs_goes_on(direct: bool) -> None:
    stage = Stage(direct=direct)
    stage.staged.agenda.at(1.0, stage.staged.everybody_leaves)
    run = stage.run([*some(80), *some(2, at=2.0)])
    gone = [fate for fate in run.course.fates if fate.refused == "client_gone"]
    assert 30 <= len(gone) <= 76
    assert all(fate.started_at is None for fate in gone)
    assert all(fate.ended_at is not None for fate in run.course.fates if fate.refused is None)
    assert run.course.fates[-1].ended_at is not None


def test_all_tokens_are_counted_once_by_the_end() -> None:
    stage = Stage()
    arrivals = some(9)
    run = stage.run(arrivals)
    asked = sum(it.prompt_tokens + it.output_tokens for it in arrivals)
    assert stage.staged.tokens_between([0.0], 1000.0)[0] == pytest.approx(asked)
    assert run.rate(0.0, 1000.0) == pytest.approx(asked / 1000)


@both_ways
def test_the_engine_is_seen_full_the_first_time_that_no_more_fits(direct: bool) -> None:
    stage = Stage(direct=direct)
    sample = Generation(-1, 64, 64, wanted_tokens=64)
    stage.staged.agenda.at(0.5, lambda: stage.staged.watch_for_full(sample))
    stage.run([*some(3, at=1.0), *some(2, at=1.5)])
    assert stage.staged.first_full_at == pytest.approx(1.5, abs=0.1)
    assert list(stage.staged.found_room.values())[:1] == [True]
    assert list(stage.staged.found_room.values())[-1] is not direct


def test_a_request_that_nobody_has_any_more_is_found() -> None:
    stage = Stage()
    run = stage.run(some(40), until=0.5)
    assert changes.lost_of(run) == []
    request, flight = next(it for it in stage.product._waiting.items() if it[0].state is State.QUEUED)
    del stage.product._waiting[request]
    assert changes.lost_of(run) == [flight.fate]


class _Seen(Staged):
    """Has seen this many tokens in each second since the change."""

    def __init__(self, *rates: float) -> None:
        self.rates = np.array([100.0] * int(changes.BEFORE_SECONDS) + list(rates) + [100.0] * 400)

    def tokens_between(self, starts: Sequence[float] | Array, seconds: float) -> Array:
        return np.array([self.rates[int(start) : int(start + seconds)].sum() for start in starts])


@pytest.mark.parametrize(
    ("rates", "back"),
    [
        pytest.param([], 0, id="never away"),
        pytest.param([0.0] * 30, 29, id="away for half a minute"),
        pytest.param([100.0] * 40 + [0.0] * 10, 49, id="away later"),
        pytest.param([80.0] * 400, None, id="never back"),
        pytest.param([96.0] * 400, 0, id="never quite back"),
    ],
)
def test_back_is_when_all_windows_that_begin_later_are_good(rates: list[float], back: float | None) -> None:
    run = Run(course=None, staged=_Seen(*rates))  # type: ignore[arg-type]
    assert changes.back_seconds_of([run, run], least=95.0, window=20.0) == back


def _figure(change: str = "any", **changed: object) -> ChangeFigure:
    figure = ChangeFigure(change, "tgi", 100.0, 99.0, 3.0, 0.0, 20.0, 0, 10, 1, 0)
    return replace(figure, **changed)  # type: ignore[arg-type]


def test_a_change_is_kept_when_it_is_back_in_time_and_nothing_is_lost() -> None:
    assert _figure().kept
    assert not _figure(back_seconds=21.0).kept
    assert not _figure(back_seconds=None).kept
    assert not _figure(lost=1).kept


class _Here:
    """Runs what a pool of processes would; a change's figures are made up."""

    def map(self, function: Callable[..., object], *arguments: Sequence[object]) -> list[object]:
        if function is changes._figure:
            return [_figure(CHANGES[number].name) for number in arguments[0][::3]]  # type: ignore[call-overload]
        if function is bursts.burst_figure:
            return [BurstFigure("nothing", "tgi", 1.0, 1.1, 0), BurstFigure("nothing", "tgi", None, None, 0)]
        return [LightFigure("tgi", 1000, 950, 0.00012)]


def test_the_table_of_changes_has_a_line_for_each() -> None:
    _, _, *lines = changes.changes_table(_Here()).splitlines()  # type: ignore[arg-type]
    row = "| {} | `tgi` | 100 | 99 (-1.0 %) | 3 s | 0 s | 20 s | 0 | 10 | 1 | 0 | yes |"
    assert lines == [row.format(change.name) for change in CHANGES]


def test_the_table_of_bursts_has_those_and_then_light_load() -> None:
    lines = bursts.burst_table(_Here()).splitlines()  # type: ignore[arg-type]
    assert lines[2] == "| nothing | `tgi` | 1.00 s | 1.10 s | 1.10 | 0 | yes |"
    assert lines[3] == "| nothing | `tgi` | never | never |  | 0 | no |"
    assert lines[-1] == "| `tgi` | 1,000 | 950 | 0.12 ms |"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"BEFORE": 8.0, "AFTER": 30.0, "STEADY": 12.0, "END": 38.0}.items():
        monkeypatch.setattr(changes, f"{name}_SECONDS", seconds)
    monkeypatch.setattr(changes, "SHORTEST_WINDOW_SECONDS", 8.0)
    monkeypatch.setattr(changes, "OUTAGE_SECONDS", 5.0)
    # Measured over half a minute, it takes longer than all the rest.
    monkeypatch.setattr(changes, "requests_per_second", lambda _rules, slots, lengths: (slots or 24) / lengths[1] * 22)


@pytest.mark.usefixtures("short")
def test_halved_slots_make_no_lasting_difference() -> None:
    figure = changes.change_figure(replace(CHANGES[2], slots=(8, 4)), "vllm")
    assert figure.best == pytest.approx(figure.steady, rel=0.12)
    assert figure.kept


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "change", [CHANGES[0], replace(CHANGES[3], slots=(4, 8)), *CHANGES[4:6], CHANGES[7]], ids=lambda it: it.name
)
def test_a_run_with_a_change_in_its_middle_loses_nothing(change: Change) -> None:
    run = run_change(change, "vllm", 0, direct=False)
    assert changes.lost_of(run) == []
    assert run.rate(changes.BEFORE_SECONDS, changes.AFTER_SECONDS) > 250


def test_what_an_engine_can_do_is_about_what_it_is_measured_to_do() -> None:
    assert 10 < changes.requests_per_second("tgi", 32, (64, 64)) < 14


@pytest.mark.parametrize(
    ("behind", "standing", "kept"),
    [(1.2, 2, True), (1.21, 0, False), (0.9, 3, False), (None, 0, False)],
    ids=["in time", "too late", "a queue", "never"],
)
def test_a_burst_is_to_fill_the_engine_in_time_and_without_a_queue(
    behind: float | None, standing: int, kept: bool
) -> None:
    assert BurstFigure("nothing", "tgi", 1.0, behind, standing).kept is kept


def test_a_burst_at_an_idle_engine_fills_it_as_soon_as_without_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "BURST", 60)
    assert bursts.burst_figure("nothing", "tgi").kept


def test_nobody_waits_for_a_place_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "LIGHT_SECONDS", 40.0)
    monkeypatch.setattr(bursts, "requests_per_second", lambda *_: 6.0)
    figure = bursts.light_figure("vllm")
    assert figure.kept
    assert 40 < figure.found_room <= figure.requests < 110


@pytest.mark.long
def test_the_product_is_back_in_time_after_each_change_and_loses_nothing() -> None:
    with ProcessPoolExecutor(PROCESSES) as pool:
        figures = changes.change_figures(pool)
    assert len(figures) == len(CHANGES) * len(RULES)
    assert [it for it in figures if not it.kept] == []


@pytest.mark.long
def test_bursts_are_let_in_at_once_and_light_load_does_not_wait() -> None:
    with ProcessPoolExecutor(PROCESSES) as pool:
        figures, light = bursts.burst_figures(pool), bursts.light_figures(pool)
    assert [it for it in figures if not it.kept] == []
    assert [it for it in light if not it.kept] == []
