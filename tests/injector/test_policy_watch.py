"""The loop that keeps the cache in step: where watches go on, when everything is listed again, how long it waits."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fairqueue_operator.cluster_model import ClusterError, Gone, NotFound, ResourceEvent, Unreachable
from fairqueue_operator.policy_cache import PolicyCache
from fairqueue_operator.policy_watch import PolicyWatch
from injector.conftest import invalid_policy, policy, until
from injector.fake_cluster import FakeCluster

Lines = Callable[[str], list[dict[str, Any]]]


class Followed:
    """A watch that runs, with waits that are noted and over at once."""

    def __init__(self, jitter: random.Random) -> None:
        self.cluster = FakeCluster()
        self.cache = PolicyCache()
        self.waits: list[float] = []
        self.held = asyncio.Event()
        self.held.set()
        self._jitter = jitter

    def start(self) -> None:
        self.task = asyncio.create_task(PolicyWatch(self.cluster, self.cache).run(self._pause, self._jitter))

    async def _pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)
        await self.held.wait()

    @property
    def lists(self) -> int:
        return self.cluster.calls.count("list_policies")

    @property
    def watches(self) -> int:
        return len(self.cluster.watched_from)

    def say(self, change: ResourceEvent | ClusterError | None) -> None:
        self.cluster.changes.put_nowait(change)

    async def watching(self, times: int) -> None:
        await until(lambda: self.watches >= times)


@pytest.fixture
async def followed(jitter: random.Random) -> AsyncIterator[Followed]:
    followed = Followed(jitter)
    yield followed
    followed.task.cancel()
    await asyncio.gather(followed.task, return_exceptions=True)


def change(kind: Any, version: str, item: dict[str, Any] | None = None) -> ResourceEvent:
    return ResourceEvent(kind, item or policy(), version)


async def test_a_watch_begins_where_the_list_ended(followed: Followed) -> None:
    followed.cluster.policies = [policy("a"), invalid_policy("b")]
    followed.start()
    await followed.watching(1)
    assert followed.cluster.watched_from == ["2"]
    assert followed.cache.filled
    assert len(followed.cache) == 2


async def test_changes_are_taken_up_and_a_watch_that_ends_goes_on_from_the_last_one(followed: Followed) -> None:
    followed.start()
    followed.say(change("ADDED", "10", policy("a")))
    followed.say(change("BOOKMARK", "20"))
    followed.say(None)
    await followed.watching(2)
    assert followed.cluster.watched_from[1] == "20"
    assert followed.lists == 1
    assert [each.metadata.name for each in followed.cache.of("team").usable] == ["a"]
    assert all(0 <= wait <= 1 for wait in followed.waits)


async def test_when_the_server_has_forgotten_everything_is_listed_again(followed: Followed, lines: Lines) -> None:
    followed.start()
    await followed.watching(1)
    followed.cluster.policies = [policy("new")]
    followed.say(Gone("watch: too old"))
    await followed.watching(2)
    assert followed.lists == 2
    assert [each.metadata.name for each in followed.cache.of("team").usable] == ["new"]
    assert lines("policies are listed again") == [{"because": "watch: too old"}]


async def test_after_a_failure_the_watch_goes_on_and_after_three_in_a_row_it_lists(followed: Followed) -> None:
    followed.start()
    followed.say(change("ADDED", "10"))
    for _ in range(2):
        followed.say(Unreachable("watch: broken"))
    await followed.watching(3)
    assert (followed.lists, followed.cluster.watched_from[1:]) == (1, ["10", "10"])
    followed.say(Unreachable("watch: Too large resource version"))
    await followed.watching(4)
    assert followed.lists == 2


async def test_a_change_between_failures_makes_them_single_ones(followed: Followed) -> None:
    followed.start()
    for version in range(6):
        followed.say(change("BOOKMARK", str(version)))
        followed.say(Unreachable("watch: broken"))
    await followed.watching(7)
    assert followed.lists == 1


async def test_waits_grow_while_it_fails_and_are_short_again_afterwards(followed: Followed) -> None:
    followed.cluster.fail["list_policies"] = Unreachable("GET: no answer in time")
    followed.start()
    await until(lambda: len(followed.waits) >= 12)
    assert followed.waits[0] <= 0.5
    assert all(15 <= wait <= 30 for wait in followed.waits[7:12])
    assert not followed.cache.filled
    followed.held.clear()
    del followed.cluster.fail["list_policies"]
    followed.held.set()
    await followed.watching(1)
    seen = len(followed.waits)
    followed.say(Unreachable("watch: broken"))
    followed.say(None)
    followed.say(Unreachable("watch: broken"))
    await until(lambda: len(followed.waits) >= seen + 3)
    assert followed.waits[seen + 2] <= 0.5


async def test_old_policies_stay_while_the_server_is_away(followed: Followed) -> None:
    followed.cluster.policies = [policy("a")]
    followed.start()
    await followed.watching(1)
    followed.cluster.fail["list_policies"] = Unreachable("GET: no answer in time")
    followed.say(Gone("watch: too old"))
    await until(lambda: followed.lists >= 4)
    assert followed.cache.filled
    assert len(followed.cache) == 1


async def test_a_missing_crd_is_named(followed: Followed, lines: Lines) -> None:
    followed.cluster.fail["list_policies"] = NotFound("GET: 404")
    followed.start()
    await until(lambda: followed.lists >= 2)
    assert {"error": "GET: 404"} in lines("policies not found: is the CRD installed?")


async def test_a_defect_is_logged_and_everything_listed_again(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    followed.start()
    await followed.watching(1)
    followed.say("no change at all")  # type: ignore[arg-type]
    await followed.watching(2)
    assert followed.lists == 2
    assert "AttributeError" in caplog.text
