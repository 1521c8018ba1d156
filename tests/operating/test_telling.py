"""What the operator tells by Events on a cluster in memory: everything, and each namespace its own in time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from operating.resources import Json, pod, policy
from operating.virtual_time import run
from operating.world import OperatorInMemory, World

MISSING = [{"name": "a", "apiKeySecretRefs": [{"name": "no", "key": "no"}]}]


def operated(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        world = World(granted={"team", "victim"})
        operator = OperatorInMemory(world)
        operator.start()
        await story(world)
        await operator.stop()

    run(main())


def told(events: list[Json], reason: str, namespace: str = "team") -> set[str]:
    """The names of the objects that it was told of."""
    regarding = (it["regarding"] for it in events if it["reason"] == reason)
    return {each["name"] for each in regarding if each["namespace"] == namespace}


def test_every_policys_first_status_is_told() -> None:
    async def story(world: World) -> None:
        for number in range(200):
            world.apply_policy(policy(f"p{number}", labels={"app": f"a{number}"}))
        await asyncio.sleep(600)
        assert len(told(world.events, "Accepted")) == 200
        assert len(told(world.events, "NoMatchingPods")) == 200

    operated(story)


def test_a_tenant_that_makes_events_without_end_silences_nobody_else() -> None:
    async def story(world: World) -> None:
        async def noise() -> None:
            number = 0
            while True:
                number += 1
                key = world.apply_policy(policy(f"n{number}", labels={"app": "zz"}, uid=f"u{number}"))
                await asyncio.sleep(0.2)
                world.delete_policy(key)

        task = asyncio.create_task(noise())
        await asyncio.sleep(300)
        for number in range(10):
            world.apply_policy(policy(f"v{number}", namespace="victim", tenants=MISSING))
        await asyncio.sleep(10)
        task.cancel()
        assert len(told(world.events, "UnresolvedSecret", "victim")) == 10

    operated(story)


def test_of_a_hundred_pods_whose_policy_is_gone_each_is_told_of_once() -> None:
    async def story(world: World) -> None:
        key = world.apply_policy(policy())
        for number in range(100):
            world.apply_pod(pod(f"engine-{number}", address=f"10.0.0.{number}"))
        await asyncio.sleep(30)
        world.delete_policy(key)
        await asyncio.sleep(300)
        assert len(told(world.events, "PolicyDeleted")) == 100
        assert [it["reason"] for it in world.events].count("PolicyDeleted") == 100

    operated(story)


def test_a_transition_that_comes_again_soon_is_told_again() -> None:
    async def story(world: World) -> None:
        for _ in range(3):
            for spec in ({}, {"tenants": MISSING}):
                world.apply_policy(policy(**spec))
                await asyncio.sleep(10)
        reasons = [it["reason"] for it in world.events]
        assert (reasons.count("Accepted"), reasons.count("UnresolvedSecret")) == (3, 3)

    operated(story)


def test_when_all_proxies_refuse_a_document_that_is_a_warning_which_names_them() -> None:
    async def story(world: World) -> None:
        world.refusing["10.0.0.1"] = "document: tenants[0].weight is missing"
        world.apply_policy(policy())
        world.apply_pod(pod())
        await asyncio.sleep(30)
        (event,) = (it for it in world.events if it["reason"] == "ProxiesRefuse")
        assert event["type"] == "Warning"
        assert "engine-0 has a problem: document: tenants[0].weight is missing" in event["note"]

    operated(story)
