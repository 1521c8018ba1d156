"""What is learned of an engine from the first tokens of its streams, on a clock that the test moves."""

from collections.abc import Sized

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.intake import FIRST_LIMIT, STANDING, Amount, Intake
from proxy.stepped_engine import ALL, TOKENS, SteppedEngine, full


@pytest.fixture
def engine() -> SteppedEngine:
    return SteppedEngine()


def test_the_limit_doubles_while_each_step_starts_all_that_is_allowed(engine: SteppedEngine) -> None:
    limits = []
    for _ in range(5):
        limits.append(engine.intake.limit)
        engine.fill()
        assert engine.step() == limits[-1]
    assert limits == [FIRST_LIMIT * 2**doublings for doublings in range(5)]


def test_a_step_that_starts_less_than_is_allowed_raises_no_limit(engine: SteppedEngine) -> None:
    for _ in range(10):
        engine.send(FIRST_LIMIT - 1)
        engine.step()
    assert engine.intake.limit == FIRST_LIMIT


def test_the_limit_is_raised_only_for_those_who_wait(engine: SteppedEngine) -> None:
    engine.fill()
    engine.step(somebody_waits=False)
    assert engine.intake.limit == FIRST_LIMIT


@given(per_step=st.integers(1, 2 * FIRST_LIMIT), later=st.integers(1, 2 * FIRST_LIMIT))
def test_the_limit_comes_to_what_the_engine_starts_in_one_step(per_step: int, later: int) -> None:
    engine = SteppedEngine()
    for starts in (per_step, later):
        for _ in range(40):
            engine.fill()
            engine.step(starts)
        # What was sent as a step began may have come too late for it, so as many again stand unseen.
        assert starts <= engine.intake.limit <= 2 * starts + STANDING


def test_nothing_is_doubled_any_more_once_something_stood(engine: SteppedEngine) -> None:
    for _ in range(6):
        engine.fill()
        engine.step(4)
    limit = engine.intake.limit
    engine.fill()
    engine.step()
    engine.fill()
    engine.step()
    assert limit < engine.intake.limit < 2 * limit


@pytest.mark.parametrize(
    ("starts", "shrinks"),
    [
        pytest.param([4, ALL], False, id="came when the step began"),
        pytest.param([4, 4], True, id="saw a whole step"),
        pytest.param([0, 4], True, id="saw a whole step that started nothing"),
    ],
)
def test_only_what_has_seen_a_whole_step_stands(engine: SteppedEngine, starts: list[int], shrinks: bool) -> None:
    engine.fill()
    engine.step()
    engine.fill()
    allowed = engine.intake.limit
    for count in starts:
        engine.step(count)
    engine.step()
    engine.step()
    assert (engine.intake.limit < allowed) == shrinks


def test_what_shrinks_the_limit_is_more_than_the_one_that_shall_stand(engine: SteppedEngine) -> None:
    engine.send(5)
    engine.step(4)
    for _ in range(5):
        engine.send(4)
        # Always the same number is left, and sees the next step.
        engine.step(0)
        engine.step(4)
    assert engine.intake.limit == FIRST_LIMIT


def test_an_engine_that_leaves_nothing_is_not_known_to_be_full(engine: SteppedEngine) -> None:
    engine.send(8)
    for _ in range(100):
        engine.step(ends=1)
        engine.send()
    assert len(engine.running) == 7
    assert engine.intake.level is None


def test_an_engine_that_runs_more_after_each_step_is_not_known_to_be_full(engine: SteppedEngine) -> None:
    for _ in range(30):
        engine.fill()
        engine.step(2)
    assert engine.intake.level is None


def test_one_step_that_left_something_does_not_make_an_engine_full(engine: SteppedEngine) -> None:
    (first,) = engine.send()
    engine.step()
    for _ in range(20):
        engine.send(3)
        engine.step(0)
        # One step leaves two, the next nothing.
        for starts in (1, 2):
            engine.step(starts)
            for request in engine.running[1:]:
                engine.end(request)
    assert engine.running == [first]
    assert engine.intake.level is None


@pytest.mark.parametrize("places", [2, 8, 100])
def test_the_level_is_what_runs_while_something_stands_in_requests_and_tokens(places: int) -> None:
    engine = SteppedEngine()
    engine.steps(60, places=places)
    assert engine.intake.level == Amount(places, TOKENS * places)


@pytest.mark.parametrize(("before", "after"), [(8, 20), (20, 8)], ids=["more", "less"])
def test_the_level_follows_an_engine_that_runs_more_or_less_than_before(before: int, after: int) -> None:
    engine = full(before)
    while len(engine.running) > after:
        engine.end(engine.running[0])
    engine.steps(400, places=after)
    assert engine.intake.level == Amount(after, TOKENS * after)


def test_the_probe_doubles_while_nothing_stands_and_more_run_each_time() -> None:
    engine = full()
    while engine.queue:
        engine.step(places=8, ends=1)
    engine.fill()
    engine.step()
    for _ in range(8):
        before = engine.intake.probe
        engine.fill()
        engine.step()
        assert engine.intake.probe <= engine.intake.limit
        assert before < engine.intake.probe <= min(2 * before, engine.intake.limit) or before + 1 >= engine.intake.limit
    assert engine.intake.probe >= 8


def test_of_places_that_have_become_free_all_are_soon_taken() -> None:
    engine = full(8)
    for _ in range(30):
        engine.fill()
        engine.step(places=100)
    assert len(engine.running) == 100


@pytest.mark.parametrize(("standing", "probe"), [(STANDING, 4), (STANDING + 2, 1)], ids=["one", "more"])
def test_the_probe_stays_while_one_stands_and_falls_to_one_while_more_do(standing: int, probe: int) -> None:
    engine = full()
    engine.intake.probe = 4
    for request in list(engine.queue):
        engine.queue.remove(request)
        engine.intake.gone(request)
    engine.send(standing)
    for _ in range(8):
        engine.send()
        engine.step(0)
        engine.step(1, ends=1)
    assert engine.intake.probe == probe


def test_no_probe_grows_while_nobody_waits() -> None:
    engine = full()
    while engine.queue:
        engine.step(places=8, ends=1)
    probes = []
    for _ in range(6):
        engine.send()
        engine.step(somebody_waits=False)
        probes.append(engine.intake.probe)
    assert len(set(probes[1:])) == 1


def test_the_limit_does_not_fall_for_what_stands_before_a_full_engine() -> None:
    engine = full()
    limit = engine.intake.limit
    engine.send(50)
    for _ in range(20):
        engine.step(places=8, ends=1)
    assert engine.intake.limit == limit
    assert engine.intake.probe == 1


def test_the_limit_falls_for_what_stands_though_the_engine_ran_more_before() -> None:
    engine = full(20)
    limit = engine.intake.limit
    for _ in range(15):
        engine.end(engine.running[0])
    engine.send(50)
    for _ in range(6):
        engine.step(1, ends=1)
    assert 1 <= engine.intake.limit <= 1 + STANDING < limit


def test_while_nobody_waits_a_small_limit_comes_back_to_where_it_began(engine: SteppedEngine) -> None:
    engine.intake.limit = 1
    limits = []
    for _ in range(2 * FIRST_LIMIT):
        engine.send()
        engine.step(somebody_waits=False)
        limits.append(engine.intake.limit)
    assert limits == sorted(limits)
    assert limits[-1] == FIRST_LIMIT


def test_another_engine_is_learned_anew() -> None:
    engine = full()
    engine.send(3, streamed=False)
    engine.intake.engine_counts(100, somebody_waits=True)
    engine.intake.forget()
    fresh = Intake(engine.clock)
    for intake in (engine.intake, fresh):
        assert (intake.limit, intake.probe, intake.level) == (FIRST_LIMIT, 1, None)
    assert engine.intake.plain_limit == fresh.plain_limit
    # What is in it still is counted, until it has gone.
    assert engine.intake.unstarted == len(engine.queue)


def test_what_is_remembered_does_not_grow() -> None:
    def remembered(engine: SteppedEngine) -> int:
        return sum(len(each) for each in vars(engine.intake).values() if isinstance(each, Sized))

    engine = full()
    engine.steps(100, places=8)
    before = remembered(engine)
    engine.steps(1000, places=8)
    assert remembered(engine) <= before + engine.intake.limit < 500


def test_the_limit_comes_to_what_is_started_though_each_makes_one_token_only(engine: SteppedEngine) -> None:
    for _ in range(100):
        engine.fill()
        engine.step(8, ends=8)
    assert engine.intake.limit <= 2 * FIRST_LIMIT


def test_few_stand_before_a_full_engine_in_which_one_ends_with_each_step() -> None:
    engine = full()
    most = 0
    for _ in range(100):
        engine.step(places=8, ends=1)
        engine.fill()
        most = max(most, len(engine.queue))
    assert most <= 4
