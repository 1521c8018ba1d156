"""Events of the operator: that each transition is told, to whom it belongs, in time, and whatever fails meanwhile."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from fairqueue_operator.cluster_model import ClusterError, Forbidden, Unreachable
from fairqueue_operator.event_notes import INJECTOR, OPERATOR, Note, Reporter
from fairqueue_operator.event_poster import EventPoster
from fairqueue_operator.event_queue import MOST_WAITING
from operating.virtual_time import run

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def note(number: int = 0, namespace: str = "team", reason: str = "Ready") -> Note:
    return Note(namespace, ("v1", "Pod", f"llm-{number}", "uid"), reason, "It is.")


class Cluster:
    """Takes Events, or refuses them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, float]] = []
        self.refusal: ClusterError | None = None
        self.asked = 0

    async def create_event(self, namespace: str, event: dict[str, Any]) -> None:
        self.asked += 1
        await asyncio.sleep(0.005)
        if self.refusal is not None:
            raise self.refusal
        self.events.append((namespace, event["reason"], asyncio.get_running_loop().time()))


class Posting:
    """A poster that runs."""

    def __init__(self, reporter: Reporter = OPERATOR) -> None:
        self.cluster = Cluster()
        self.poster = EventPoster(self.cluster, reporter, "operator-0", lambda: NOW, asyncio.get_running_loop().time)

    async def __aenter__(self) -> "Posting":
        self._task = asyncio.create_task(self.poster.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def test_of_a_thousand_notes_none_is_lost_and_others_do_not_wait_for_them() -> None:
    async def main() -> None:
        async with Posting() as posting:
            posting.poster.tell(note(number) for number in range(1000))
            await asyncio.sleep(20)
            posting.poster.tell([note(namespace="victim")])
            told_at = asyncio.get_running_loop().time()
            await asyncio.sleep(1000)
            assert len(posting.cluster.events) == 1001
            (victim,) = (at for namespace, _, at in posting.cluster.events if namespace == "victim")
            assert victim - told_at < 1

    run(main())


def test_a_second_transition_is_told_however_soon_it_comes() -> None:
    async def main() -> None:
        async with Posting() as posting:
            for reason in ("Ready", "Invalid", "Ready"):
                posting.poster.tell([note(reason=reason)])
                await asyncio.sleep(1)
            assert [reason for _, reason, _ in posting.cluster.events] == ["Ready", "Invalid", "Ready"]

    run(main())


def test_denials_that_repeat_themselves_are_told_once_in_ten_minutes() -> None:
    async def main() -> None:
        async with Posting(INJECTOR) as posting:
            for _ in range(1201):
                posting.poster.tell([note()])
                await asyncio.sleep(1)
            assert len(posting.cluster.events) == 3

    run(main())


@pytest.mark.parametrize("reporter", [OPERATOR, INJECTOR])
def test_while_the_api_server_does_not_answer_events_wait(reporter: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Posting(reporter) as posting:
            posting.cluster.refusal = Unreachable("no answer in time")
            posting.poster.tell(note(number) for number in range(20))
            await asyncio.sleep(600)
            assert posting.cluster.asked < 130
            posting.cluster.refusal = None
            await asyncio.sleep(10)
            assert len(posting.cluster.events) == 20

    run(main())
    assert [record.getMessage() for record in caplog.records] == ["Events cannot be written: they wait"]


def test_what_is_older_than_events_are_kept_is_not_told_any_more() -> None:
    async def main() -> None:
        async with Posting() as posting:
            posting.cluster.refusal = Unreachable("no answer in time")
            posting.poster.tell([note()])
            await asyncio.sleep(3700)
            asked = posting.cluster.asked
            posting.cluster.refusal = None
            await asyncio.sleep(100)
            assert (posting.cluster.asked, posting.cluster.events) == (asked, [])

    run(main())


def test_what_is_refused_is_not_tried_again() -> None:
    async def main() -> None:
        async with Posting() as posting:
            posting.cluster.refusal = Forbidden("the namespace is being terminated")
            posting.poster.tell([note()])
            await asyncio.sleep(100)
            assert posting.cluster.asked == 1

    run(main())


def test_that_events_are_dropped_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Posting() as posting:
            posting.poster.tell(note(number) for number in range(10_100))
            await asyncio.sleep(10_000)
            posting.poster.tell(note(number) for number in range(10_100))
            await asyncio.sleep(1)

    run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "Events wait that are too many: the oldest are dropped"
    ] * 2


def test_a_denial_that_was_dropped_unwritten_does_not_count_as_told() -> None:
    async def main() -> None:
        async with Posting(INJECTOR) as posting:
            posting.cluster.refusal = Unreachable("no answer in time")
            posting.poster.tell([note()])
            await asyncio.sleep(1)
            posting.poster.tell(note(number) for number in range(1, MOST_WAITING + 1))
            posting.cluster.refusal = None
            posting.poster.tell([note(namespace="other")])
            await asyncio.sleep(5)
            posting.poster.tell([note()])
            await asyncio.sleep(1)
            assert len(posting.poster._queue) + len(posting.cluster.events) == MOST_WAITING + 1

    run(main())
