"""The queue of keys: what is given out when, against a plain model; and how it waits, in virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fairqueue_operator.work_queue import FIRST_SECONDS, LONGEST_SECONDS, WorkQueue
from operating import virtual_time

KEYS = st.sampled_from("abc")


def taken(queue: WorkQueue[str]) -> str | None:
    """What `get` gives if it need not wait."""
    getting = queue.get()
    try:
        getting.send(None)
    except StopIteration as stop:
        return str(stop.value)
    getting.close()
    return None


class QueueMachine(RuleBasedStateMachine):
    """The model is two lists, waiting and in work, and a table of what comes later."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.queue: WorkQueue[str] = WorkQueue(lambda: self.now, random.Random(1))
        self.loop = asyncio.new_event_loop()
        self.waiting: list[str] = []
        self.in_work: list[str] = []
        self.again: set[str] = set()
        # When, and the number of that wish: of those due at the same time, who asked first comes first.
        self.later: dict[str, tuple[float, int]] = {}
        self.wishes = 0

    def teardown(self) -> None:
        self.loop.close()

    def _expect(self, key: str) -> None:
        if key in self.in_work:
            self.again.add(key)
        elif key not in self.waiting:
            self.waiting.append(key)

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self._expect(key)

    @rule(key=KEYS, seconds=st.sampled_from([0.0, 1.0, 1.0, 2.5, 4.0]))
    def add_after(self, key: str, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        if seconds == 0:
            self._expect(key)
        else:
            self.wishes += 1
            wish = self.now + seconds, self.wishes
            self.later[key] = min(self.later.get(key, wish), wish)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def get(self) -> None:
        due = {key: wish for key, wish in self.later.items() if wish[0] <= self.now}
        before = list(self.waiting)
        for key in due:
            del self.later[key]
            self._expect(key)
        key = self.loop.run_until_complete(self._taken())
        if not self.waiting:
            assert key is None
            return
        # Those that were waiting come in their order; of those just due, the earliest first.
        self.waiting = before + sorted((it for it in self.waiting if it not in before), key=lambda it: due[it])
        assert key == self.waiting[0]
        assert key is not None
        self.waiting.remove(key)
        self.in_work.append(key)

    async def _taken(self) -> str | None:
        return taken(self.queue)

    @precondition(lambda self: self.in_work)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.in_work))
        self.queue.done(key)
        self.in_work.remove(key)
        if key in self.again:
            self.again.discard(key)
            self._expect(key)

    @invariant()
    def length_is_what_waits(self) -> None:
        assert len(self.queue) == len(self.waiting) + len(self.again)


TestAgainstTheModel = QueueMachine.TestCase
TestAgainstTheModel.settings = settings(stateful_step_count=40, deadline=None)


def in_virtual_time(test: Callable[[WorkQueue[str]], Awaitable[None]]) -> Callable[[], None]:
    """Runs it with a queue whose clock is the loop's."""

    async def with_queue() -> None:
        await test(WorkQueue(asyncio.get_running_loop().time, random.Random(1)))

    def run() -> None:
        virtual_time.run(with_queue())

    run.__name__ = test.__name__
    return run


async def got_after(queue: WorkQueue[str]) -> tuple[str, float]:
    """A key that is got and done, and how long that took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    key = await queue.get()
    queue.done(key)
    return key, loop.time() - begun


@in_virtual_time
async def test_who_waits_for_a_key_gets_it_when_it_comes(queue: WorkQueue[str]) -> None:
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(5)
    queue.add("a")
    assert await getting == "a"


@in_virtual_time
async def test_a_key_that_is_to_come_later_comes_then(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 7)
    key, seconds = await got_after(queue)
    assert (key, round(seconds, 3)) == ("a", 7)


@in_virtual_time
async def test_a_wait_is_cut_short_by_an_earlier_time(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 60)
    getting = asyncio.create_task(got_after(queue))
    await asyncio.sleep(1)
    queue.add_after("b", 2)
    assert (await getting)[0] == "b"
    queue.add_after("a", 90)
    assert 56 < (await got_after(queue))[1] < 58


@in_virtual_time
async def test_of_two_times_only_the_earlier_one_counts(queue: WorkQueue[str]) -> None:
    for seconds in (60, 2, 90):
        queue.add_after("a", seconds)
    assert round((await got_after(queue))[1], 3) == 2
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 1000)


@in_virtual_time
async def test_failures_wait_twice_as_long_each_time_until_forgotten(queue: WorkQueue[str]) -> None:
    waits = []
    for _ in range(10):
        queue.failed("a")
        waits.append((await got_after(queue))[1])
    expected = [min(FIRST_SECONDS * 2**number, LONGEST_SECONDS) for number in range(10)]
    assert all(longest / 2 <= wait <= longest + 0.001 for wait, longest in zip(waits, expected, strict=True))
    queue.forget("a")
    queue.failed("a")
    assert (await got_after(queue))[1] <= FIRST_SECONDS


@in_virtual_time
async def test_a_key_that_failed_is_worked_on_at_once_if_something_happens(queue: WorkQueue[str]) -> None:
    for _ in range(8):
        queue.failed("a")
    queue.add("a")
    assert (await got_after(queue))[1] == 0


@in_virtual_time
async def test_a_key_is_never_with_two_workers_at_once_and_no_addition_is_missed(queue: WorkQueue[str]) -> None:
    at_work: set[str] = set()
    seen: dict[str, float] = {}
    added: dict[str, float] = {}
    jitter, loop = random.Random(7), asyncio.get_running_loop()

    async def work() -> None:
        while True:
            key = await queue.get()
            assert key not in at_work
            at_work.add(key)
            seen[key] = loop.time()
            await asyncio.sleep(jitter.uniform(0, 3))
            at_work.discard(key)
            (queue.failed if jitter.random() < 0.3 else queue.forget)(key)
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(4)]
    for _ in range(500):
        await asyncio.sleep(jitter.uniform(0, 1))
        key = jitter.choice("abcdef")
        (queue.add if jitter.random() < 0.5 else lambda key: queue.add_after(key, 0.5))(key)
        added[key] = loop.time()
    await asyncio.sleep(600)
    assert all(seen[key] >= added[key] for key in added)
    assert len(queue) == 0
    for worker in workers:
        worker.cancel()
    assert [type(it) for it in await asyncio.gather(*workers, return_exceptions=True)] == [asyncio.CancelledError] * 4


@in_virtual_time
async def test_a_get_that_is_cancelled_has_taken_nothing(queue: WorkQueue[str]) -> None:
    for moment in ("before", "as it comes"):
        getting = asyncio.create_task(queue.get())
        await asyncio.sleep(1)
        if moment == "as it comes":
            queue.add("a")
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting
    assert len(queue) == 1
    assert await queue.get() == "a"


@in_virtual_time
async def test_thousands_that_wait_are_no_tasks(queue: WorkQueue[Any]) -> None:
    for number in range(2000):
        queue.add_after(number, 1 + number / 1000)
    assert len(asyncio.all_tasks()) == 1
    assert [await queue.get() for _ in range(2000)] == list(range(2000))
