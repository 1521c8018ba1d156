"""The operator on a cluster in memory: pods that are late, silent or many, and what their policy's status says then."""

import asyncio
from collections import Counter

import pytest

from fairqueue_operator.planning.followed_pod import GRACE_SECONDS
from fairqueue_operator.planning.programming import Acknowledgement
from fairqueue_operator.reconciler import COUNTS_SECONDS
from operating.resources import pod, policy
from operating.test_reconciling import API_KEYS, KEY, operated, soon, with_key
from operating.world import OperatorInMemory, World


def apply_pods(world: World, number: int) -> None:
    for it in range(number):
        world.apply_pod(pod(f"engine-{it}", address=f"10.{it // 250}.0.{it % 250}"))


@pytest.mark.parametrize("unseen_nudges", [0, 1])
def test_a_key_that_was_gone_for_a_moment_is_not_missing_for_long_where_all_is_said_to_be_well(
    unseen_nudges: int,
) -> None:
    """The document before the last is still on its way when the proxy says that it runs on the last."""

    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.delivery_seconds = 1.5
        world.apply_secret("team", "keys", {"alice": "the-key"}, API_KEYS)
        world.apply_pod(pod())
        world.apply_policy(with_key())
        await soon(62)
        revision = world.document(KEY).revision
        assert world.status(KEY)["Ready"] == "True Ready"
        world.delete_secret("team", "keys")
        await soon(0.5)
        world.early_nudges = unseen_nudges
        world.apply_secret("team", "keys", {"alice": "the-key"}, API_KEYS)
        untrue = was_other = 0
        for _ in range(450):
            await soon(0.1)
            is_other = world.running["10.0.0.1"][1] != revision
            was_other += is_other
            untrue += is_other and world.status(KEY)["Ready"] == "True Ready"
        assert was_other
        assert untrue <= 12

    operated(story)


@pytest.mark.parametrize("number", [1, 30, 200, pytest.param(1000, marks=pytest.mark.long)])
def test_a_change_for_many_pods_is_few_writes_of_the_status_and_the_last_says_all(number: int) -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        apply_pods(world, number)
        world.apply_policy(policy())
        await soon(60)
        count = len(world.writes)
        world.apply_policy(policy(mode="Observe"))
        turned = []
        for _ in range(300):
            await soon(0.1)
            if world.status(KEY) != (turned[-1] if turned else None):
                turned.append(world.status(KEY))
        seconds = number / 100 + 1
        written = Counter(what for what, _ in world.writes[count:])
        assert written["document"] == 1
        assert written["nudge"] == number
        assert 2 <= written["status"] <= 3 + seconds / COUNTS_SECONDS
        assert world.status(KEY)["Ready"] == "True Ready"
        assert world.policies[KEY]["status"]["pods"]["current"] == number

    operated(story)


def test_counts_that_change_again_and_again_are_written_now_and_then_and_the_last_of_them_too() -> None:
    async def story(world: World, operator: OperatorInMemory) -> None:
        world.apply_policy(policy())
        await soon()
        count = len(world.writes)
        for number in range(100):
            world.apply_pod(pod(f"engine-{number}", bound="", address=""))
            await soon(0.1)
        assert len(world.writes) - count <= 1 + 10 / COUNTS_SECONDS
        await soon(COUNTS_SECONDS + 0.2)
        assert world.policies[KEY]["status"]["pods"]["matched"] == 100
        # And nothing is remembered of a policy that is gone.
        world.delete_policy(KEY)
        await soon()
        assert operator.reconciler._written_at == {}

    operated(story)


def test_what_turns_is_written_at_once_however_much_was_written_just_before() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        apply_pods(world, 20)
        world.apply_policy(policy())
        await soon()
        for number in range(10):
            world.apply_policy(policy(mode="Observe" if number % 2 else "Enforce", engine={"kind": "NONE"}))
            await soon(0.3)
            assert world.status(KEY)["Accepted"] == "False Invalid"
            world.apply_policy(policy(mode="Observe" if number % 2 else "Enforce"))
            await soon(0.3)
            assert world.status(KEY)["Accepted"] == "True Accepted"

    operated(story)


def test_what_others_write_beside_a_document_is_no_write_of_it() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        apply_pods(world, 3)
        world.apply_policy(policy())
        await soon(30)
        count = len(world.writes), len(world.events)
        for _ in range(3):
            world.touch_secret("team", "shared-fairqueue")
            await soon(3)
        assert (len(world.writes), len(world.events)) == count
        # What is written again as it was is one.
        world.delete_secret("team", "shared-fairqueue")
        await soon()
        assert Counter(what for what, _ in world.writes[count[0] :])["nudge"] == 3

    operated(story)


class OtherRevisions(World):
    """A cluster whose proxies run on something else, whatever kubelets bring; perhaps on something else each time."""

    steadily = True

    async def ask(self, address: str) -> Acknowledgement:
        self.asked.append(address)
        await asyncio.sleep(0.01)
        return Acknowledgement("team/shared", "old" if self.steadily else str(len(self.asked)), "")


@pytest.mark.parametrize("steadily", [True, False])
def test_proxies_that_keep_another_document_cost_few_writes(steadily: bool) -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        apply_pods(world, 20)
        world.apply_policy(policy())
        await soon(300)
        nudges, asked = Counter(what for what, _ in world.writes)["nudge"], len(world.asked)
        assert nudges == 20 * 8
        await soon(3600)
        written = Counter(what for what, _ in world.writes)
        assert written["nudge"] - nudges == 20 * 6
        assert len(world.asked) - asked < 20 * 3600 / 30

    world = OtherRevisions(granted={"team"})
    world.steadily = steadily
    operated(story, world)


def test_silent_pods_keep_a_restarted_operator_from_its_status_for_seconds_only() -> None:
    async def story(world: World, operator: OperatorInMemory) -> None:
        apply_pods(world, 10)
        world.apply_policy(policy())
        await soon(30)
        assert world.status(KEY)["Ready"] == "True Ready"
        await operator.stop()
        # As if there were so many that it takes minutes until all of them are asked.
        world.silence_seconds = 600.0
        for number in range(20):
            world.apply_pod(pod(f"silent-{number}", address=f"10.9.0.{number}"))
            world.silent.add(f"10.9.0.{number}")
        again = OperatorInMemory(world)
        again.start()
        await soon(GRACE_SECONDS - 1)
        assert world.status(KEY)["Ready"] == "True Ready"
        await soon(2)
        assert world.status(KEY)["Ready"] == "False PartiallyProgrammed"
        await again.stop()

    operated(story)


def test_a_pod_that_has_just_started_takes_ready_away_only_if_it_says_so() -> None:
    async def story(world: World, _operator: OperatorInMemory) -> None:
        world.apply_pod(pod())
        world.apply_policy(policy())
        await soon()
        world.silence_seconds = 2.0
        world.silent.add("10.0.0.2")
        count = len(world.writes)
        world.apply_pod(pod("engine-1", address="10.0.0.2"))
        await soon(1.9)
        assert world.status(KEY)["Ready"] == "True Ready"
        assert world.policies[KEY]["status"]["pods"]["injected"] == 2
        await soon(1)
        assert world.status(KEY)["Ready"] == "False PartiallyProgrammed"
        assert [what for what, _ in world.writes[count:]].count("status") == 2

    operated(story)
