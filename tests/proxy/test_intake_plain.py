"""Replies that are not streamed, which show no first token: what is known of them, and how many may be unstarted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy.intake import COUNT_IS_OLD_SECONDS, COUNT_LAG_SECONDS, FIRST_LIMIT, FIRST_PLAIN_LIMIT, STANDING
from proxy.stepped_engine import SteppedEngine


@pytest.fixture
def engine() -> SteppedEngine:
    return SteppedEngine()


def test_plain_replies_never_stand(engine: SteppedEngine) -> None:
    engine.send()
    engine.step()
    for _ in range(20):
        engine.send()
        plain = engine.send(3, streamed=False)
        # These have seen whole steps when the stream before them begins.
        for starts in (0, 0, 1):
            engine.step(starts)
        for request in plain:
            engine.queue.remove(request)
            engine.intake.gone(request)
    assert (engine.intake.limit, engine.intake.level) == (FIRST_LIMIT, None)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "plain"])
def test_a_plain_reply_has_started_when_a_later_one_answers(engine: SteppedEngine, streamed: bool) -> None:
    engine.send(3, streamed=False)
    (later,) = engine.send(streamed=streamed)
    engine.send(2, streamed=False)
    assert engine.intake.plain == (5 if streamed else 6)
    engine.answer(later)
    # Those that came after it may wait.
    assert (engine.intake.plain, engine.intake.streams) == (2, 0)


def test_a_stream_has_not_started_though_a_later_one_answers(engine: SteppedEngine) -> None:
    engine.send(2)
    engine.answer(engine.send()[0])
    assert engine.intake.streams == 2


@pytest.mark.parametrize(
    ("waiting", "unstarted"), [(0, (0, 1)), (1, (0, 1)), (2, (1, 1)), (3, (2, 1)), (4, (3, 1)), (9, (3, 1))]
)
def test_the_engines_own_count_tells_which_plain_replies_have_started(
    engine: SteppedEngine, waiting: int, unstarted: tuple[int, int]
) -> None:
    engine.send(3, streamed=False)
    # Streams are in the count, but tell themselves when they have started.
    engine.send(1)
    engine.clock.now_seconds += COUNT_LAG_SECONDS + 0.01
    engine.intake.engine_counts(waiting, somebody_waits=True)
    assert (engine.intake.plain, engine.intake.streams) == unstarted


def test_of_what_was_sent_just_now_the_engines_count_tells_nothing(engine: SteppedEngine) -> None:
    engine.send(2, streamed=False)
    engine.clock.now_seconds += COUNT_LAG_SECONDS - 0.01
    engine.send(1, streamed=False)
    engine.intake.engine_counts(0, somebody_waits=True)
    assert engine.intake.plain == 3
    engine.clock.now_seconds += 0.02
    engine.intake.engine_counts(0, somebody_waits=True)
    assert engine.intake.plain == 1


def count_of_plain(engine: SteppedEngine, waiting: int, *, somebody_waits: bool = True) -> int:
    """The limit after the engine has told so many, as many as may be being unstarted."""
    while engine.intake.free:
        engine.send(streamed=False)
    engine.intake.engine_counts(waiting, somebody_waits=somebody_waits)
    return engine.intake.plain_limit


@pytest.mark.parametrize(("waiting", "fewer"), [(2 * STANDING, 0), (16, 16 - STANDING), (1000, FIRST_PLAIN_LIMIT - 1)])
def test_plain_replies_that_wait_in_the_engine_lower_their_limit_at_least_to_one(
    engine: SteppedEngine, waiting: int, fewer: int
) -> None:
    assert count_of_plain(engine, waiting) == FIRST_PLAIN_LIMIT - fewer
    assert engine.intake.limit == FIRST_LIMIT


def test_a_plain_reply_that_nothing_tells_of_is_taken_to_have_started_after_a_while(engine: SteppedEngine) -> None:
    engine.send(8)
    engine.step()
    engine.send(2, streamed=False)
    engine.step(0)
    assert engine.intake.plain == 2
    engine.clock.now_seconds += COUNT_LAG_SECONDS
    engine.step(0)
    assert engine.intake.plain == 0


def test_the_limit_on_plain_replies_grows_while_it_binds_and_none_waits_in_the_engine(engine: SteppedEngine) -> None:
    limits = [engine.intake.plain_limit, *(count_of_plain(engine, 0) for _ in range(10))]
    assert limits == sorted(set(limits))
    assert count_of_plain(engine, 0, somebody_waits=False) == limits[-1]
    assert count_of_plain(engine, 1) == limits[-1]
    engine.intake.gone(engine.queue[-1])
    engine.intake.engine_counts(0, somebody_waits=True)
    assert engine.intake.plain_limit == limits[-1]


def test_a_plain_replys_limit_is_in_nobodys_way_but_theirs(engine: SteppedEngine) -> None:
    engine.intake.plain_limit = 1
    engine.send(FIRST_LIMIT - 1)
    assert engine.intake.free
    engine.send()
    assert not engine.intake.free
    assert engine.intake.present_limit == FIRST_LIMIT


def test_the_same_count_told_twice_lowers_the_limit_on_plain_replies_once(engine: SteppedEngine) -> None:
    engine.intake.plain_limit = 32
    lowered = count_of_plain(engine, 10)
    assert lowered == 32 - 10 + STANDING
    # What waits is what was sent before.
    engine.intake.engine_counts(10, somebody_waits=True)
    assert engine.intake.plain_limit == lowered


ACTIONS = st.tuples(
    st.sampled_from(["stream", "plain", "answer", "token", "end", "count", "refuse", "forget", "wait"]),
    st.integers(0, 20),
    st.booleans(),
)


@given(actions=st.lists(ACTIONS, max_size=120))
def test_whatever_happens_counts_are_those_of_what_is_there_and_in_the_end_nothing_is(
    actions: list[tuple[str, int, bool]],
) -> None:
    engine = SteppedEngine()
    intake = engine.intake
    for action, number, somebody_waits in actions:
        queue, running = engine.queue, engine.running
        if action in ("stream", "plain"):
            engine.send(streamed=action == "stream", sequences=1 + number % 3)
        elif action == "answer" and queue:
            engine.answer(queue[number % len(queue)], somebody_waits=somebody_waits)
        elif action == "token" and running:
            if running[number % len(running)] is intake.pacemaker:
                intake.paced()
        elif action == "end" and queue + running:
            request = (queue + running)[number % len(queue + running)]
            (queue if request in queue else running).remove(request)
            intake.gone(request)
        elif action == "count":
            intake.engine_counts(number, somebody_waits=somebody_waits)
        elif action == "refuse":
            intake.refused()
        elif action == "forget":
            intake.forget()
        else:
            engine.clock.now_seconds += number * 0.1
        assert intake.streams == sum(request.sequences for request in queue if request.streamed)
        assert 0 <= intake.plain <= sum(request.sequences for request in queue if not request.streamed)
        assert min(intake.limit, intake.plain_limit, intake.probe) >= 1
        # Else nothing would ever be sent again.
        assert intake.free or intake.unstarted
    for request in engine.queue + engine.running:
        intake.gone(request)
    assert (intake.streams, intake.plain, intake.unstarted) == (0, 0, 0)
    assert intake.free


def test_once_the_counts_stop_a_limit_that_they_had_made_small_grows_again(engine: SteppedEngine) -> None:
    engine.send()
    engine.step()
    for _ in range(20):
        count_of_plain(engine, 40)
    assert engine.intake.plain_limit == 1
    limits = []
    for _ in range(2 * FIRST_PLAIN_LIMIT):
        engine.clock.now_seconds += COUNT_IS_OLD_SECONDS
        engine.send(streamed=False)
        # Only a token's time passes: nothing tells that the plain reply has started.
        engine.step(0)
        engine.clock.now_seconds += COUNT_IS_OLD_SECONDS
        engine.step(0)
        while engine.intake.plain < engine.intake.plain_limit:
            engine.send(streamed=False)
        limits.append(engine.intake.plain_limit)
    assert limits == sorted(limits)
    assert limits[-1] == FIRST_PLAIN_LIMIT
