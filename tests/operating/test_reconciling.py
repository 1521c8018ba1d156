"""The operator on a cluster in memory: what comes of what people do, and that nothing else is written."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_api import digest
from fairqueue_operator.store import PolicyKey
from operating.resources import Json, pod, policy
from operating.virtual_time import run
from operating.world import OperatorInMemory, World

KEY = PolicyKey("team", "shared")
API_KEYS = "fairqueue.dev/api-keys"


def with_key(weight: int = 1) -> Json:
    ref = {"name": "keys", "key": "alice"}
    return policy(tenants=[{"name": "alice", "weight": weight, "apiKeySecretRefs": [ref]}])


def operated(
    story: Callable[[World, OperatorInMemory], Coroutine[Any, Any, None]], world: World | None = None
) -> World:
    """A namespace that is granted, and an operator that has just started."""
    world = world or World(granted={"team"})

    async def main() -> None:
        operator = OperatorInMemory(world)
        operator.start()
        kubelets = asyncio.create_task(world.sync_all())
        await story(world, operator)
        kubelets.cancel()
        await operator.stop()

    run(main())
    return world


async def soon(seconds: float = 5.0) -> None:
    await asyncio.sleep(seconds)


def test_a_policy_its_key_and_its_pod_become_ready_in_any_order() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_pod(pod())
        await soon()
        world.apply_policy(with_key())
        await soon()
        assert world.status(KEY) == {
            "Accepted": "False UnresolvedSecret",
            "Programmed": "False Pending",
            "Ready": "False UnresolvedSecret",
        }
        world.apply_secret("team", "keys", {"alice": "the key"}, None)
        await soon()
        assert world.status(KEY)["Accepted"] == "False UnresolvedSecret"
        world.apply_secret("team", "keys", {"alice": "the-key"}, API_KEYS)
        await soon()
        assert world.status(KEY) == {
            "Accepted": "True Accepted",
            "Programmed": "True Programmed",
            "Ready": "True Ready",
        }
        counts = world.policies[KEY]["status"]["pods"]
        assert counts == {"matched": 1, "unlabelled": 0, "injected": 1, "started": 1, "current": 1}
        assert world.document(KEY).tenants[0].key_digests == (digest(b"the-key"),)

    operated(story)


def test_a_change_is_with_the_pods_within_two_seconds_and_the_status_says_so_only_then() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_pod(pod())
        world.apply_policy(policy())
        await soon()
        before = world.running["10.0.0.1"]
        world.apply_policy(policy(mode="Observe"))
        await asyncio.sleep(0.3)
        assert world.status(KEY)["Ready"] != "True Ready"
        await asyncio.sleep(1.7)
        assert world.status(KEY)["Ready"] == "True Ready"
        assert world.running["10.0.0.1"] == ("team/shared", world.document(KEY).revision) != before

    operated(story)


def test_nothing_is_written_while_nothing_changes() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_secret("team", "keys", {"alice": "the-key"}, API_KEYS)
        world.apply_pod(pod())
        world.apply_policy(with_key())
        await soon(30)
        count = len(world.writes), len(world.events)
        await soon(3600)
        assert (len(world.writes), len(world.events)) == count

    operated(story)


def test_a_key_that_is_deleted_is_taken_out_though_nothing_else_can_be_changed() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_secret("team", "keys", {"alice": "the-key"}, API_KEYS)
        world.apply_pod(pod())
        world.apply_policy(with_key())
        await soon()
        world.delete_secret("team", "keys")
        await soon(2)
        assert world.document(KEY).tenants[0].key_digests == ()
        assert world.running["10.0.0.1"][1] == world.document(KEY).revision
        assert world.status(KEY)["Accepted"] == "False UnresolvedSecret"

    operated(story)


def test_a_right_that_is_taken_away_is_no_deletion_and_concerns_no_other_namespace() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.granted.add("other")
        for namespace in ("team", "other"):
            world.apply_secret(namespace, "keys", {"alice": "the-key"}, API_KEYS)
            item = with_key()
            item["metadata"]["namespace"] = namespace
            world.apply_policy(item)
        world.apply_pod(pod())
        await soon()
        world.granted.discard("team")
        await soon(60)
        assert world.status(KEY)["Accepted"] == "False SecretAccessDenied"
        assert world.document(KEY).tenants[0].key_digests == (digest(b"the-key"),)
        assert world.status(PolicyKey("other", "shared"))["Accepted"] == "True Accepted"
        world.granted.add("team")
        await soon(30)
        assert world.status(KEY)["Ready"] == "True Ready"

    operated(story)


def test_without_a_grant_even_a_policy_without_keys_says_what_to_do() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.granted.clear()
        world.apply_policy(policy())
        await soon()
        conditions = {it["type"]: it for it in world.policies[KEY]["status"]["conditions"]}
        assert conditions["Accepted"]["reason"] == "SecretAccessDenied"
        assert "kubectl apply -k manifests/overlays/tenant-namespace -n team" in conditions["Accepted"]["message"]
        count = len(world.writes)
        await soon(300)
        assert len(world.writes) == count
        world.granted.add("team")
        await soon(40)
        assert world.status(KEY)["Accepted"] == "True Accepted"

    operated(story)


def test_a_stored_document_that_somebody_deletes_or_changes_is_put_back() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_policy(policy())
        await soon()
        revision = world.document(KEY).revision
        world.delete_secret("team", "shared-fairqueue")
        await soon()
        assert world.document(KEY).revision == revision
        world.apply_secret(
            "team", "shared-fairqueue", {"document.json": "{}"}, "app.kubernetes.io/managed-by", "fairqueue"
        )
        await soon()
        assert world.document(KEY).revision == revision

    operated(story)


@pytest.mark.parametrize("count_seconds", [0.0, 0.5])
def test_an_operator_that_starts_again_doubts_nothing(count_seconds: float) -> None:
    async def story(world: World, operator: OperatorInMemory) -> None:
        world.count_seconds = count_seconds
        world.apply_secret("team", "keys", {"alice": "the-key"}, API_KEYS)
        for number in range(20):
            world.apply_pod(pod(f"engine-{number}", address=f"10.0.0.{number}"))
        world.apply_policy(with_key())
        await soon(30)
        assert world.status(KEY)["Ready"] == "True Ready"
        await operator.stop()
        count = len(world.writes), len(world.events)
        again = OperatorInMemory(world)
        again.start()
        await soon(120)
        assert (len(world.writes), len(world.events)) == count
        await again.stop()

    operated(story)


def test_a_policy_that_is_deleted_leaves_its_pods_their_order_and_tells_of_them_once() -> None:
    async def story(world: World, operator: OperatorInMemory) -> None:
        world.apply_pod(pod())
        world.apply_policy(policy())
        await soon()
        revision = world.running["10.0.0.1"]
        world.delete_policy(KEY)
        await soon(3600)
        assert world.running["10.0.0.1"] == revision
        assert operator.store.orphaned() == 1
        told = [it for it in world.events if it["reason"] == "PolicyDeleted"]
        assert [it["regarding"]["name"] for it in told] == ["engine-0"]
        world.apply_policy(policy(uid="another"))
        await soon()
        assert operator.store.orphaned() == 0
        assert world.status(KEY)["Ready"] == "True Ready"
        assert world.secrets["team"]["shared-fairqueue"].owners == ("another",)

    operated(story)


def test_of_two_policies_that_select_one_pod_the_younger_is_refused() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_pod(pod())
        world.apply_policy(policy())
        await soon()
        younger = policy("younger")
        younger["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
        world.apply_policy(younger)
        await soon()
        assert world.status(PolicyKey("team", "younger"))["Accepted"] == "False Conflicted"
        assert world.status(KEY)["Ready"] == "True Ready"
        world.delete_policy(KEY)
        await soon()
        assert world.status(PolicyKey("team", "younger"))["Accepted"] == "True Accepted"

    operated(story)


def test_a_proxy_that_does_not_answer_is_named_and_not_nudged_for_ever() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.silent.add("10.0.0.2")
        world.apply_pod(pod())
        world.apply_pod(pod("engine-1", address="10.0.0.2"))
        world.apply_policy(policy())
        await soon(300)
        assert world.status(KEY)["Programmed"] == "False PartiallyProgrammed"
        (message,) = (it["message"] for it in world.policies[KEY]["status"]["conditions"] if it["type"] == "Programmed")
        assert "engine-1" in message
        count = len(world.writes)
        await soon(1800)
        assert len(world.writes) == count
        world.silent.clear()
        # By then it is asked once in five minutes.
        await soon(340)
        assert world.status(KEY)["Ready"] == "True Ready"

    operated(story)


def test_an_api_server_that_is_down_costs_nothing_but_time() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_pod(pod())
        world.apply_policy(policy())
        await soon()
        world.is_up = False
        world.apply_policy(policy(mode="Observe"))
        await soon(60)
        world.is_up = True
        await soon(35)
        assert world.document(KEY).mode == "Observe"
        assert world.status(KEY)["Ready"] == "True Ready"

    operated(story)


def test_a_document_that_may_not_be_written_is_its_own_policys_matter_and_tried_again_with_longer_waits() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_secret("team", "keys", {"alice": "the-key"}, API_KEYS)
        world.apply_policy(with_key())
        await soon()
        # As a quota, an admission policy or a grant without that verb have it.
        world.read_only.add("team")
        world.apply_policy(policy("other", labels={"app": "other"}))
        count = len(world.writes)
        await soon(600)
        conditions = world.status(PolicyKey("team", "other"))
        assert (conditions["Accepted"], conditions["Programmed"]) == ("True Accepted", "False DocumentNotWritten")
        assert world.status(KEY)["Accepted"] == "True Accepted"
        assert len(world.writes) - count <= 3
        world.read_only.clear()
        await soon(40)
        assert world.document(PolicyKey("team", "other"))

    operated(story)


def test_a_credential_that_is_not_known_is_no_missing_grant() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_policy(policy())
        await soon()
        world.is_known = False
        world.apply_policy(policy(mode="Observe"))
        await soon(120)
        world.is_known = True
        await soon(40)
        assert world.document(KEY).mode == "Observe"
        assert not any("SecretAccessDenied" in str(event) for event in world.events)

    operated(story)


def test_a_deletion_that_no_event_told_of_is_no_reason_to_write_for_ever() -> None:
    async def story(world: World, operator: OperatorInMemory) -> None:
        world.apply_policy(policy())
        await soon()
        world.deafen(operator._heard)
        world.delete_policy(KEY)
        count = len(world.writes)
        await soon(300)
        assert len(world.writes) == count
        assert operator.store.policy(KEY) is None
        world.listen(operator._heard)

    operated(story)


def test_a_secret_of_somebody_elses_is_left_alone() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_secret("team", "shared-fairqueue", {"password": "theirs"}, None)
        world.apply_policy(policy())
        await soon()
        assert world.status(KEY)["Accepted"] == "False NameTaken"
        assert world.secrets["team"]["shared-fairqueue"].data == {"password": b"theirs"}
        world.delete_secret("team", "shared-fairqueue")
        await soon()
        assert world.status(KEY)["Accepted"] == "True Accepted"

    operated(story)


def test_what_could_not_be_written_is_tried_again() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.writing_fails = True
        world.apply_policy(policy())
        await soon()
        assert world.status(KEY)["Programmed"] == "False DocumentNotWritten"
        world.writing_fails = False
        await soon(10)
        assert world.document(KEY)

    operated(story)


def test_a_nudge_that_came_too_early_is_followed_by_others_and_each_by_a_question() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_pod(pod())
        world.apply_policy(policy())
        await soon()
        world.early_nudges = 4
        world.apply_policy(policy(mode="Observe"))
        # 0, 1, 3, 7 s after the write, and then the one that is seen.
        await soon(14)
        assert world.status(KEY)["Ready"] == "False Pending"
        await soon(3)
        assert world.status(KEY)["Ready"] == "True Ready"

    operated(story)


def test_a_policy_that_is_made_again_takes_over_what_the_old_one_has_left() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.collects_garbage = False
        world.apply_policy(policy())
        await soon()
        world.delete_policy(KEY)
        await soon()
        world.apply_policy(policy(uid="another"))
        await soon()
        assert world.secrets["team"]["shared-fairqueue"].owners == ("another",)

    operated(story)


def test_who_has_lost_its_policy_is_neither_asked_nor_nudged_nor_told_of_again() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.early_nudges = 1000
        world.apply_pod(pod())
        world.apply_policy(policy())
        await soon()
        world.delete_policy(KEY)
        await soon(1)
        asked, written = len(world.asked), len(world.writes)
        await soon(3600)
        world.apply_pod(pod(restarts=1))
        await soon(3600)
        assert (len(world.asked), len(world.writes)) == (asked, written)
        assert [it["reason"] for it in world.events].count("PolicyDeleted") == 1

    operated(story)


def test_a_proxy_that_has_not_started_is_not_asked() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_pod(pod(started=False))
        world.apply_policy(policy())
        await soon(30)
        assert world.asked == []
        assert world.status(KEY)["Programmed"] == "False Pending"
        world.apply_pod(pod())
        await soon()
        assert world.status(KEY)["Ready"] == "True Ready"

    operated(story)


def test_one_change_is_one_document_and_a_status_for_each_thing_that_became_true() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_pod(pod())
        world.apply_policy(policy())
        await soon(30)
        count = len(world.writes)
        world.apply_policy(policy(mode="Observe"))
        await soon(30)
        assert [what for what, _ in world.writes[count:]] == ["document", "status", "nudge", "status"]

    operated(story)


def test_pods_without_the_label_are_counted_and_said() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.unlabelled = 3
        world.apply_policy(policy())
        await soon()
        assert world.policies[KEY]["status"]["pods"]["unlabelled"] == 3
        world.unlabelled = 1
        await soon(70)
        assert world.policies[KEY]["status"]["pods"] == {
            "matched": 1,
            "unlabelled": 1,
            "injected": 0,
            "started": 0,
            "current": 0,
        }
        world.apply_policy(policy(labels={"app": "another"}))
        await soon()
        assert world.policies[KEY]["status"]["pods"]["unlabelled"] == 0

    operated(story)


def restart_proxies(world: World, number: int) -> None:
    for name, item in list(world.pods.items()):
        world.apply_pod(pod(name, address=item["status"]["podIP"], restarts=number + 1))


def several_pods(world: World, _number: int) -> None:
    for it in range(3):
        world.apply_pod(pod(f"engine-{it}", address=f"10.0.0.{it + 1}"))


STEPS: Mapping[str, Callable[[World, int], object]] = {
    "policy": lambda world, _: world.apply_policy(with_key()),
    "another policy": lambda world, _: world.apply_policy(policy("other", labels={"app": "another"})),
    "weights": lambda world, number: world.apply_policy(with_key(weight=number + 2)),
    "no policy": lambda world, _: KEY in world.policies and world.delete_policy(KEY),  # type: ignore[func-returns-value]
    "key": lambda world, _: world.apply_secret("team", "keys", {"alice": "the-key"}, API_KEYS),
    "another key": lambda world, number: world.apply_secret("team", "keys", {"alice": f"key-{number}"}, API_KEYS),
    "no key": lambda world, _: world.delete_secret("team", "keys"),
    "no document": lambda world, _: world.delete_secret("team", "shared-fairqueue"),
    "grant": lambda world, _: world.granted.add("team"),  # type: ignore[func-returns-value]
    "no grant": lambda world, _: world.granted.discard("team"),  # type: ignore[func-returns-value]
    "pod": lambda world, _: world.apply_pod(pod()),
    "pods": several_pods,
    "no pod": lambda world, _: world.pods and world.delete_pod(next(iter(world.pods))),  # type: ignore[func-returns-value]
    "API server down": lambda world, _: setattr(world, "is_up", False),  # type: ignore[func-returns-value]
    "API server up": lambda world, _: setattr(world, "is_up", True),  # type: ignore[func-returns-value]
    "proxies restarted": restart_proxies,
    "proxy silent": lambda world, _: world.silent.add("10.0.0.1"),  # type: ignore[func-returns-value]
}
RESTART = "operator restarted"
steps = st.lists(st.sampled_from([*STEPS, RESTART]), max_size=20)


@given(steps, st.integers(0, 1000))
def test_whatever_happens_once_it_is_quiet_all_is_as_it_should_be_and_said_so(
    given_steps: list[str], seed: int
) -> None:
    world = World(seed=seed, granted={"team"})

    async def main() -> None:
        operator = OperatorInMemory(world)
        operator.start()
        kubelets = asyncio.create_task(world.sync_all())
        for number, step in enumerate(given_steps):
            if step == RESTART:
                await operator.stop()
                operator = OperatorInMemory(world)
                operator.start()
            else:
                STEPS[step](world, number)
            await asyncio.sleep(seed % 7 * 0.3 + 20 * (seed % 11 == number))
        world.is_up, world.silent, world.granted = True, set(), {"team"}
        world.apply_secret("team", "keys", {"alice": "last-key"}, API_KEYS)
        world.apply_policy(with_key(weight=7))
        await soon(400)
        assert world.status(KEY)["Accepted"] == "True Accepted"
        assert world.document(KEY).tenants[0].key_digests == (digest(b"last-key"),)
        count = sum(
            it["metadata"]["annotations"]["fairqueue.dev/bound-policy"] == "shared" for it in world.pods.values()
        )
        assert world.policies[KEY]["status"]["pods"]["current"] == count
        assert world.status(KEY)["Ready"] == ("True Ready" if count else "False NoMatchingPods")
        kubelets.cancel()
        await operator.stop()

    run(main())
