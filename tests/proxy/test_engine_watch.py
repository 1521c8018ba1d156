"""The watch over the engine goes on whatever the engine says, and tells all who wait what became of it."""

import asyncio
import random
from collections import deque
from collections.abc import Iterable

import pytest

from fairqueue_proxy import engine_watch, look_rate
from fairqueue_proxy.engine_watch import EngineWatch
from fairqueue_proxy.outcome import Outcome, Refused
from fairqueue_proxy.upstream import EngineUnreachable, Upstream
from proxy.conftest import Until
from proxy.desk import Desk

INFO = b'{"max_concurrent_requests": 5, "max_total_tokens": 100}'


class ToldUpstream(Upstream):
    """Answers as it was told, or raises; then always with health. Without a word to the contrary it is not found."""

    def __init__(self, answers: Iterable[bytes | Exception]) -> None:
        super().__init__("127.0.0.1", 1, clock=lambda: 0.0)
        self.answers = deque(answers)
        self.asked: list[str] = []
        self.searches: deque[bool | Exception] = deque()

    async def get(
        self, path: str, *, timeout_seconds: float, headers: Iterable[tuple[str, str]] = ()
    ) -> tuple[int, bytes]:
        self.asked.append(path)
        answer = self.answers.popleft() if self.answers else b""
        if isinstance(answer, Exception):
            raise answer
        return 200, answer

    async def reachable(self) -> bool:
        found = self.searches.popleft() if self.searches else False
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_watch, "UNHEALTHY_SECONDS", 0)
    monkeypatch.setattr(engine_watch, "PROBE_SECONDS", 0)
    monkeypatch.setattr(look_rate, "IDLE_SECONDS", 0)


async def test_an_exception_that_nobody_has_thought_of_does_not_end_the_watch(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk("alice")
    upstream = ToldUpstream([ZeroDivisionError("odd"), b"", OverflowError("limits"), b"", INFO])
    watch = EngineWatch("TGI", upstream, desk.dispatcher, desk.clock)
    watching = asyncio.create_task(watch.run())
    await until(lambda: desk.dispatcher.capacity.context_tokens == 100)
    assert watch.healthy
    assert upstream.asked[:5] == ["/health", "/health", "/info", "/health", "/info"]
    assert [record.getMessage() for record in caplog.records] == ["looking at the engine failed"] * 2
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_an_engine_that_cannot_be_asked_is_not_healthy_and_is_asked_again(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk("alice")
    watch = EngineWatch("TGI", ToldUpstream([EngineUnreachable("gone"), OSError("gone")]), desk.dispatcher, desk.clock)
    healthy = []
    for _ in range(3):
        await watch.look()
        healthy.append(watch.healthy)
    assert healthy == [False, False, True]
    assert caplog.records == []


async def test_all_who_wait_for_an_engine_that_stays_away_are_refused_each_in_its_own_name(until: Until) -> None:
    """One exception raised in several places would gather the traces of all of them, and be changed by each."""
    desk = Desk("alice", "bob")
    upstream = ToldUpstream([])
    watch = EngineWatch("TGI", upstream, desk.dispatcher, desk.clock)
    watch.unreachable()
    jobs = [desk.submit("alice"), desk.submit("bob"), desk.submit("bob")]
    sending = desk.receiving("alice", size_bytes=10)
    loop = asyncio.get_running_loop()
    for job in jobs:
        job.admitted = loop.create_future()
    desk.clock.now_seconds += engine_watch.UNAVAILABLE_SECONDS + 0.1
    raised = []
    for job in jobs:
        assert job.admitted is not None
        with pytest.raises(Refused) as refused:
            await asyncio.wait_for(job.admitted, 5)
        raised.append(refused.value)
    assert [each.outcome for each in raised] == [Outcome.ENGINE_UNAVAILABLE] * 3
    assert len(set(map(id, raised))) == 3
    # Who still sends may find it back.
    assert sending.refused is None
    desk.dispatcher.leave(sending)
    upstream.searches.append(True)
    await until(lambda: not desk.dispatcher.capacity.paused)


async def test_an_exception_that_nobody_has_thought_of_does_not_end_the_search_for_the_engine(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk("alice")
    upstream = ToldUpstream([])
    upstream.searches.extend([ZeroDivisionError("odd"), False, True])
    watch = EngineWatch("TGI", upstream, desk.dispatcher, desk.clock)
    watch.unreachable()
    waiting = desk.submit("alice")
    assert desk.dispatcher.capacity.paused
    await until(lambda: waiting.dispatched_at is not None)
    assert "looking for the engine failed" in caplog.messages
    desk.finish(waiting)


async def test_the_engine_is_never_looked_at_more_often_than_the_policys_scrape_interval() -> None:
    """`backpressure.scrapeInterval`: the shortest time between two looks."""
    desk = Desk("alice")
    watch = EngineWatch("TGI", ToldUpstream([]), desk.dispatcher, desk.clock)
    job = desk.submit("alice")
    for interval_seconds in (0.05, 0.5, 30.0, 60.0):
        watch.engine_is("TGI", None, interval_seconds)
        for watch.healthy in (False, True):
            assert watch.interval_seconds == interval_seconds
    desk.finish(job)


async def test_work_that_begins_brings_the_next_look_forward(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_rate, "IDLE_SECONDS", 100.0)
    monkeypatch.setattr(engine_watch, "NOTICE_SECONDS", 0.001)
    desk = Desk("alice")
    upstream = ToldUpstream([])
    watch = EngineWatch("OpenAI", upstream, desk.dispatcher, desk.clock)
    watch.engine_is("OpenAI", None, 0.5)
    watching = asyncio.create_task(watch.run())
    await until(lambda: len(upstream.asked) == 1)
    desk.clock.now_seconds += 5
    await asyncio.sleep(0.02)
    assert len(upstream.asked) == 1
    job = desk.submit("alice")
    await until(lambda: len(upstream.asked) == 2)
    desk.finish(job)
    watching.cancel()


async def test_however_long_an_engine_takes_to_answer_that_is_a_hundredth_of_its_time() -> None:
    desk = Desk("alice")
    answers = random.Random(7)
    took: list[float] = []

    class SlowUpstream(ToldUpstream):
        async def get(
            self, path: str, *, timeout_seconds: float, headers: Iterable[tuple[str, str]] = ()
        ) -> tuple[int, bytes]:
            took.append(answers.choice([0.001, 0.02, 0.1]))
            desk.clock.now_seconds += took[-1]
            return await super().get(path, timeout_seconds=timeout_seconds, headers=headers)

    watch = EngineWatch("TGI", SlowUpstream([]), desk.dispatcher, desk.clock)
    watch.engine_is("TGI", None, 0.05)
    job = desk.submit("alice")
    started = desk.clock.now_seconds
    for _ in range(500):
        await watch.look()
        desk.clock.now_seconds += watch.interval_seconds
    share = sum(took) / (desk.clock.now_seconds - started)
    # As much as it may be, too: it is looked at as often as it can bear.
    assert 0.009 < share <= 0.0101
    desk.finish(job)
