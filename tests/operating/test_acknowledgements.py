"""Pods' proxies are asked often while they are behind, and seldom when they are not."""

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from typing import Any

from fairqueue_operator.acknowledgements import CURRENT_SECONDS, LONGEST_SECONDS, Acknowledgements, Followed
from fairqueue_operator.planning.programming import Acknowledgement
from fairqueue_operator.store import PolicyKey
from operating.virtual_time import run

KEY = PolicyKey("team", "shared")


class Proxies:
    """What is running on what, by address; who was asked when."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.revisions: dict[str, str] = {}
        self.asked: list[tuple[float, str]] = []
        self._seconds = seconds

    async def ask(self, address: str) -> Acknowledgement:
        self.asked.append((asyncio.get_running_loop().time(), address))
        await asyncio.sleep(self._seconds)
        return Acknowledgement("team/shared", self.revisions.get(address, ""), "")


def pods(*numbers: int, incarnation: int = 0) -> dict[str, Followed]:
    return {f"uid-{it}": Followed(f"uid-{it}", f"10.0.0.{it}", incarnation) for it in numbers}


def asking(proxies: Proxies, story: Callable[[Acknowledgements, list[PolicyKey]], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        changed: list[PolicyKey] = []
        clock = asyncio.get_running_loop().time
        keeper = Acknowledgements(proxies.ask, changed.append, clock, random.Random(1))
        task = asyncio.create_task(keeper.run())
        await story(keeper, changed)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())


def test_tells_of_each_answer_that_differs_and_of_no_other() -> None:
    proxies = Proxies()

    async def story(keeper: Acknowledgements, changed: list[PolicyKey]) -> None:
        keeper.follow(KEY, pods(1), "new")
        assert keeper.of(KEY) == {}
        await asyncio.sleep(60)
        assert keeper.of(KEY) == {"uid-1": Acknowledgement("team/shared", "", "")}
        assert changed == [KEY]
        proxies.revisions["10.0.0.1"] = "new"
        await asyncio.sleep(LONGEST_SECONDS + 1)
        assert keeper.of(KEY)["uid-1"].revision == "new"
        assert changed == [KEY, KEY]

    asking(proxies, story)


def test_asks_often_at_first_then_less_and_seldom_once_the_answer_is_right() -> None:
    proxies = Proxies()

    async def story(keeper: Acknowledgements, _changed: list[PolicyKey]) -> None:
        keeper.follow(KEY, pods(1), "new")
        await asyncio.sleep(120)
        times = [at for at, _ in proxies.asked]
        waits = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert max(waits[:3]) < 1 < min(waits[5:])
        assert max(waits) <= LONGEST_SECONDS + 0.1
        proxies.revisions["10.0.0.1"] = "new"
        await asyncio.sleep(LONGEST_SECONDS + 1)
        count = len(proxies.asked)
        await asyncio.sleep(CURRENT_SECONDS * 4)
        assert 4 <= len(proxies.asked) - count <= 6

    asking(proxies, story)


def test_what_is_hoped_for_anew_is_asked_about_at_once() -> None:
    proxies = Proxies()

    async def story(keeper: Acknowledgements, _changed: list[PolicyKey]) -> None:
        proxies.revisions["10.0.0.1"] = "old"
        keeper.follow(KEY, pods(1), "old")
        await asyncio.sleep(30)
        count = len(proxies.asked)
        keeper.follow(KEY, pods(1), "new")
        await asyncio.sleep(1)
        assert len(proxies.asked) >= count + 2
        # And again after each nudge, even if that took long.
        await asyncio.sleep(100)
        count = len(proxies.asked)
        keeper.hasten(KEY, "uid-1")
        await asyncio.sleep(0.3)
        assert len(proxies.asked) == count + 1

    asking(proxies, story)


def test_another_process_in_the_same_pod_has_said_nothing_yet() -> None:
    proxies = Proxies()

    async def story(keeper: Acknowledgements, _changed: list[PolicyKey]) -> None:
        proxies.revisions["10.0.0.1"] = "new"
        keeper.follow(KEY, pods(1), "new")
        await asyncio.sleep(1)
        assert keeper.of(KEY)
        keeper.follow(KEY, pods(1, incarnation=1), "new")
        assert keeper.of(KEY) == {}
        await asyncio.sleep(1)
        assert keeper.of(KEY)

    asking(proxies, story)


def test_those_that_are_not_followed_any_more_are_not_asked_and_forgotten() -> None:
    proxies = Proxies(seconds=0.5)

    async def story(keeper: Acknowledgements, changed: list[PolicyKey]) -> None:
        keeper.follow(KEY, pods(1, 2), "new")
        await asyncio.sleep(0.25)
        # Both are being asked just now.
        keeper.follow(KEY, pods(2), "new")
        await asyncio.sleep(5)
        assert set(keeper.of(KEY)) == {"uid-2"}
        assert [address for _, address in proxies.asked].count("10.0.0.1") == 1
        keeper.follow(KEY, {}, "")
        count, told = len(proxies.asked), len(changed)
        await asyncio.sleep(60)
        assert keeper.of(KEY) == {}
        assert (len(proxies.asked), len(changed)) == (count, told)
        assert keeper._policies == {}

    asking(proxies, story)


def test_a_change_while_a_proxy_is_being_asked_is_not_lost() -> None:
    proxies = Proxies(seconds=1.0)

    async def story(keeper: Acknowledgements, _changed: list[PolicyKey]) -> None:
        keeper.follow(KEY, pods(1), "old")
        proxies.revisions["10.0.0.1"] = "old"
        await asyncio.sleep(0.5)
        keeper.follow(KEY, pods(1), "new")
        proxies.revisions["10.0.0.1"] = "new"
        await asyncio.sleep(10)
        assert keeper.of(KEY)["uid-1"].revision == "new"

    asking(proxies, story)
