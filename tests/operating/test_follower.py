"""Proxies are asked and kubelets woken while others hang, as soon as there is a reason to, and nothing is lost."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from fairqueue_operator.cluster_model import ClusterError, NotFound, Unreachable
from fairqueue_operator.follower import TOGETHER_SECONDS, Follower
from fairqueue_operator.planning.pod_facts import PodFacts, read_pod
from fairqueue_operator.planning.programming import Acknowledgement
from fairqueue_operator.store import PolicyKey
from operating.resources import pod
from operating.virtual_time import run

KEY = PolicyKey("team", "shared")


class Pods:
    """What pods say by their address, and what comes of writing to them by their name; who was asked when."""

    def __init__(self) -> None:
        self.says: dict[str, Acknowledgement] = {}
        self.refusals: dict[str, ClusterError] = {}
        self.seconds: dict[str, float] = {}
        self.asked: list[tuple[float, str]] = []
        self.nudged: list[tuple[float, str]] = []
        self.changed: list[tuple[PolicyKey, float]] = []
        self.written = 0
        clock = asyncio.get_running_loop().time
        self.began = clock()
        self.follower = Follower(self, self.ask, self._look_again, clock, random.Random(1), self._count)

    async def ask(self, address: str) -> Acknowledgement:
        self.asked.append((self.now(), address))
        await asyncio.sleep(self.seconds.get(address, 0.01))
        return self.says.get(address, Acknowledgement("team/shared", "old", ""))

    async def nudge_pod(self, namespace: str, pod: str, value: str) -> None:
        self.nudged.append((self.now(), pod))
        await asyncio.sleep(self.seconds.get(pod, 0.01))
        if pod in self.refusals:
            raise self.refusals[pod]

    def now(self) -> float:
        return asyncio.get_running_loop().time() - self.began

    def _look_again(self, key: PolicyKey, seconds: float) -> None:
        self.changed.append((key, seconds))

    def _count(self) -> None:
        self.written += 1


def facts(number: int = 1, namespace: str = "team") -> PodFacts:
    found = read_pod(pod(f"engine-{number}", namespace=namespace, address=f"10.0.0.{number}"))
    assert found is not None
    return replace(found, uid=f"{namespace}-{number}")


def followed(story: Callable[[Pods], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        pods = Pods()
        task = asyncio.create_task(pods.follower.run())
        await asyncio.sleep(1.0)
        pods.began = asyncio.get_running_loop().time()
        await story(pods)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())


def test_a_policy_is_looked_at_again_for_each_answer_that_differs_and_for_no_other() -> None:
    async def story(pods: Pods) -> None:
        assert pods.follower.follow(KEY, "new", "1", [facts()]).said == {}
        await asyncio.sleep(60)
        assert pods.changed == [(KEY, TOGETHER_SECONDS)]
        assert pods.follower.follow(KEY, "new", "1", [facts()]).said["team-1"].revision == "old"
        pods.says["10.0.0.1"] = Acknowledgement("team/shared", "new", "")
        await asyncio.sleep(60)
        assert pods.changed == [(KEY, TOGETHER_SECONDS)] * 2
        assert pods.follower.follow(KEY, "new", "1", [facts()]).said["team-1"].revision == "new"

    followed(story)


def test_a_nudge_is_written_at_once_and_a_question_follows_it() -> None:
    async def story(pods: Pods) -> None:
        pods.follower.follow(KEY, "old", "1", [facts()])
        await asyncio.sleep(1000)
        asked = len(pods.asked)
        assert (pods.nudged, pods.written) == ([], 0)
        pods.follower.follow(KEY, "new", "2", [facts()])
        await asyncio.sleep(0.3)
        assert (pods.nudged, pods.written) == ([(1000.0, "engine-1")], 1)
        assert [at for at, _ in pods.asked[asked:]] == pytest.approx([1000.21])

    followed(story)


def test_whose_policy_is_gone_is_left_alone() -> None:
    async def story(pods: Pods) -> None:
        pods.follower.follow(KEY, "new", "1", [facts()])
        await asyncio.sleep(5)
        pods.follower.forget(KEY)
        count = len(pods.asked), len(pods.nudged)
        await asyncio.sleep(3600)
        assert (len(pods.asked), len(pods.nudged)) == count

    followed(story)


@pytest.mark.parametrize(
    ("refusal", "number"), [(NotFound("404"), 1), (Unreachable("500"), 6)], ids=["gone", "cannot be written"]
)
def test_what_could_not_be_written_is_tried_again_unless_the_pod_is_gone(refusal: ClusterError, number: int) -> None:
    async def story(pods: Pods) -> None:
        pods.refusals["engine-1"] = refusal
        pods.follower.follow(KEY, "old", "1", [facts()])
        await asyncio.sleep(100)
        pods.says["10.0.0.1"] = Acknowledgement("team/shared", "new", "")
        pods.follower.follow(KEY, "new", "2", [facts()])
        await asyncio.sleep(60)
        assert len(pods.nudged) == number
        assert pods.written == 0

    followed(story)


def test_pods_that_hang_delay_no_other_namespaces_nudges() -> None:
    async def story(pods: Pods) -> None:
        slow = [facts(number, "slow") for number in range(64)]
        for each in slow:
            pods.seconds[each.name] = 10.0
            pods.refusals[each.name] = Unreachable("no answer in time")
        pods.follower.follow(PolicyKey("slow", "shared"), "new", "1", slow)
        await asyncio.sleep(1)
        pods.follower.follow(KEY, "new", "1", [facts(100), facts(101)])
        await asyncio.sleep(1)
        assert {"engine-100", "engine-101"} <= {name for _, name in pods.nudged}

    followed(story)


def test_pods_that_hang_delay_no_other_namespaces_answers() -> None:
    async def story(pods: Pods) -> None:
        silent = [replace(facts(number, "silent"), address=f"10.1.0.{number}") for number in range(2000)]
        for each in silent:
            pods.seconds[each.address] = 2.0
            pods.says[each.address] = Acknowledgement("", "", "no answer in time", answered=False)
        pods.follower.follow(PolicyKey("silent", "shared"), "new", "1", silent)
        good = [facts(number) for number in range(10)]
        await asyncio.sleep(1)
        for version in range(5):
            for each in good:
                pods.says[each.address] = Acknowledgement("team/shared", str(version), "")
            pods.follower.follow(KEY, str(version), str(version), good)
            await asyncio.sleep(3)
            said = pods.follower.follow(KEY, str(version), str(version), good).said
            assert {it.revision for it in said.values()} == {str(version)}
            assert len(said) == 10
            await asyncio.sleep(20)

    followed(story)
