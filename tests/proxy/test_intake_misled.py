"""What would mislead an `Intake`: streams that show nothing, show all at once, or are many in one."""

from fairqueue_proxy.intake import FIRST_LIMIT, PACE_IS_LOST_SECONDS, SHORTEST_STEP_SECONDS, Amount
from proxy.stepped_engine import STEP_SECONDS, SteppedEngine, full


def test_a_stream_that_shows_nothing_has_started_when_one_sent_later_has() -> None:
    engine = SteppedEngine()
    engine.send(2)
    engine.step()
    (silent,) = engine.send()
    engine.queue.remove(silent)
    for _ in range(4):
        engine.step(0)
    assert engine.intake.streams == 1
    (later,) = engine.send()
    engine.step()
    assert later not in engine.queue
    assert engine.intake.streams == 0


def test_a_stream_that_was_sent_just_before_one_that_has_started_may_be_about_to_show_it() -> None:
    engine = SteppedEngine()
    engine.send(2)
    engine.step()
    for _ in range(4):
        engine.step(0)
    first, second = engine.send(2)
    engine.clock.now_seconds += STEP_SECONDS
    engine.answer(second)
    assert engine.intake.streams == 1
    engine.answer(first)
    assert engine.intake.streams == 0
    # Also where both have stood for long.
    first, second = engine.send(2)
    for _ in range(4):
        engine.step(0)
    engine.answer(second)
    assert engine.intake.streams == 1


def test_a_reply_that_is_only_seen_as_a_whole_tells_of_no_step() -> None:
    engine = full()
    before = (engine.intake.limit, engine.intake.level, engine.intake.probe)
    for _ in range(50):
        (request,) = engine.send()
        engine.queue.remove(request)
        engine.clock.now_seconds += STEP_SECONDS
        engine.intake.answered(request, Amount(1, 1), somebody_waits=True, whole=True)
        assert request not in engine.queue
    assert (engine.intake.limit, engine.intake.level, engine.intake.probe) == before


def test_several_tokens_of_one_step_are_one_step() -> None:
    engine = SteppedEngine()
    engine.send(4)
    engine.step()
    for _ in range(40):
        engine.send(8)
        for _ in range(4):
            for request in engine.running:
                if request is engine.intake.pacemaker:
                    engine.intake.paced()
            engine.clock.now_seconds += SHORTEST_STEP_SECONDS / 10
        # Those that start with a step answer one after the other.
        for request in engine.queue[:8]:
            engine.clock.now_seconds += STEP_SECONDS / 100
            engine.answer(request)
        for request in engine.running[:8]:
            engine.end(request)
        engine.clock.now_seconds += STEP_SECONDS
    assert engine.intake.limit >= 8


def test_a_pacemaker_that_says_nothing_any_more_is_replaced() -> None:
    engine = full()
    (pacemaker,) = [it for it in engine.running if it is engine.intake.pacemaker]
    engine.clock.now_seconds += PACE_IS_LOST_SECONDS + 0.1
    (other,) = engine.send()
    engine.running.remove(pacemaker)
    engine.answer(engine.queue[0])
    assert engine.intake.pacemaker is not pacemaker
    engine.running.append(pacemaker)
    assert other in engine.queue + engine.running


def test_a_request_of_many_sequences_doubles_the_limit_at_most() -> None:
    engine = SteppedEngine()
    for _ in range(3):
        engine.send(sequences=128)
        engine.step()
    assert engine.intake.limit <= FIRST_LIMIT * 2**3


def test_an_engine_that_has_run_empty_is_not_sent_what_it_took_of_other_requests() -> None:
    engine = SteppedEngine()
    for _ in range(5):
        engine.fill()
        engine.step(ends=10**6)
    assert engine.intake.limit > 10 * FIRST_LIMIT
    engine.intake.begin_anew()
    assert (engine.intake.limit, engine.intake.level) == (FIRST_LIMIT, None)


def test_an_engine_that_counts_nobody_waiting_is_sent_more_whatever_first_tokens_told() -> None:
    engine = full()
    probe = engine.intake.probe
    engine.intake.engine_counts(0, somebody_waits=True)
    assert engine.intake.probe > probe
    while engine.intake.free:
        engine.send()
    limit = engine.intake.limit
    engine.intake.engine_counts(0, somebody_waits=True)
    assert engine.intake.limit == limit + 1
    engine.intake.engine_counts(0, somebody_waits=False)
    engine.intake.engine_counts(1, somebody_waits=True)
    assert engine.intake.limit == limit + 1
