"""How pods without the label are counted, and that a policy which cannot be counted for is in nobody's way."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fairqueue_api.models import Selector
from fairqueue_operator.cluster_model import ClusterError, Unreachable
from fairqueue_operator.store import PolicyKey
from fairqueue_operator.unlabelled_pods import COUNT_SECONDS, UnlabelledPods
from operating.resources import pod, policy
from operating.virtual_time import run
from operating.world import OperatorInMemory, World

BAD, GOOD = PolicyKey("team", "bad"), PolicyKey("victim", "good")


def selector(app: str) -> Selector:
    return Selector.model_validate({"matchLabels": {"app": app}})


class Counter:
    """Counts by app; an error in place of a count is raised."""

    def __init__(self) -> None:
        self.counts: dict[str, int | ClusterError] = {"engine": 7, "other": 1, "a b": ClusterError("400 label value")}
        self.asked: list[str] = []
        self.wanted = {BAD: selector("a b"), GOOD: selector("engine")}
        self.changed: list[PolicyKey] = []
        self.pods = UnlabelledPods(self, lambda: self.wanted.items(), self.changed.append, random.Random(1))

    async def count_unlabelled_pods(self, namespace: str, selector: Selector) -> int:
        app = selector.match_labels["app"]
        self.asked.append(app)
        found = self.counts[app]
        if isinstance(found, ClusterError):
            raise found
        return found

    def of(self, key: PolicyKey) -> int | None:
        return self.pods.of(key, self.wanted[key])


def counted(story: Callable[[Counter], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        counter = Counter()
        task = asyncio.create_task(counter.pods.run())
        await asyncio.sleep(1)
        await story(counter)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())


def test_a_selector_that_the_api_server_refuses_concerns_its_policy_only() -> None:
    async def story(counter: Counter) -> None:
        assert (counter.of(BAD), counter.of(GOOD)) == (None, 7)
        assert (counter.pods.has_failed(BAD), counter.pods.has_failed(GOOD)) == (True, False)
        # Whose status waited for a count learns that there will be none.
        assert counter.changed == [BAD, GOOD]
        counter.counts["engine"] = 8
        await asyncio.sleep(2 * COUNT_SECONDS)
        assert counter.of(GOOD) == 8

    counted(story)


def test_what_was_refused_is_tried_again_each_minute_and_no_more_often(caplog: pytest.LogCaptureFixture) -> None:
    async def story(counter: Counter) -> None:
        for _ in range(600):
            counter.of(BAD)
            await asyncio.sleep(1)
        assert 10 <= counter.asked.count("a b") <= 12
        counter.counts["a b"] = 3
        await asyncio.sleep(2 * COUNT_SECONDS)
        assert (counter.of(BAD), counter.pods.has_failed(BAD)) == (3, False)

    counted(story)
    assert [record.getMessage() for record in caplog.records] == ["a policy's pods without the label cannot be counted"]


def test_a_selector_that_is_mended_is_counted_by_at_once() -> None:
    async def story(counter: Counter) -> None:
        counter.wanted[BAD] = selector("other")
        assert (counter.of(BAD), counter.pods.has_failed(BAD)) == (None, False)
        await asyncio.sleep(1)
        assert counter.of(BAD) == 1
        # The others are not counted again for that.
        assert counter.asked == ["a b", "engine", "other"]

    counted(story)


def test_while_the_api_server_does_not_answer_it_is_asked_once_a_minute_and_counts_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(counter: Counter) -> None:
        caplog.clear()
        counter.counts = dict.fromkeys(counter.counts, Unreachable("no answer in time"))
        counter.asked.clear()
        await asyncio.sleep(10 * COUNT_SECONDS)
        assert 9 <= len(counter.asked) <= 11
        assert counter.of(GOOD) == 7
        assert counter.pods.has_failed(GOOD)
        counter.counts = {"a b": 1, "engine": 9}
        await asyncio.sleep(2 * COUNT_SECONDS)
        assert (counter.of(GOOD), counter.pods.has_failed(GOOD)) == (9, False)

    counted(story)
    assert [record.getMessage() for record in caplog.records] == ["pods without the label cannot be counted"]


def test_of_a_policy_that_is_gone_nothing_is_remembered() -> None:
    async def story(counter: Counter) -> None:
        wanted, counter.wanted = counter.wanted, {}
        await asyncio.sleep(2 * COUNT_SECONDS)
        counter.wanted = wanted
        assert (counter.of(GOOD), counter.pods.has_failed(BAD)) == (None, False)

    counted(story)


class Picky(World):
    """An API server that reads selectors."""

    async def count_unlabelled_pods(self, namespace: str, selector: Selector) -> int:
        if {"a b", "refused"} & set(selector.match_labels.values()):
            raise ClusterError("GET pods: 400 unable to parse requirement: invalid label value")
        return await super().count_unlabelled_pods(namespace, selector)


def test_a_tenants_unparsable_selector_is_told_to_it_and_nobody_else_is_concerned() -> None:
    async def main() -> None:
        world = Picky(granted={"team", "victim"}, unlabelled=7)
        bad = world.apply_policy(policy("bad", labels={"app": "a b"}))
        operator = OperatorInMemory(world)
        operator.start()
        await asyncio.sleep(5)
        good = world.apply_policy(policy("good", namespace="victim"))
        world.apply_pod(pod(namespace="victim", bound="good"))
        await asyncio.sleep(300)
        assert world.policies[good]["status"]["pods"]["unlabelled"] == 7
        assert world.status(bad)["Accepted"] == "False Invalid"
        assert operator.errors == []
        await operator.stop()

    run(main())


def test_whatever_the_api_server_has_against_a_selector_its_policys_status_does_not_wait_for_a_count() -> None:
    async def main() -> None:
        world = Picky(granted={"team"})
        operator = OperatorInMemory(world)
        operator.start()
        key = world.apply_policy(policy(labels={"app": "refused"}))
        await asyncio.sleep(5)
        world.apply_pod(pod(labels={"app": "refused"}))
        await asyncio.sleep(10)
        assert world.status(key)["Ready"] == "True Ready"
        assert world.policies[key]["status"]["pods"] == {"injected": 1, "started": 1, "current": 1}
        await operator.stop()

    run(main())
