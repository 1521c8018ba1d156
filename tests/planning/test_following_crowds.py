"""Many pods: never too many asked or nudged at once, everyone in turn, and nobody kept waiting by others."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.planning.followed_pod import NUDGES_IN_VAIN, Nudge
from fairqueue_operator.planning.following import ASKED_AT_ONCE, NUDGES_PER_SECOND
from fairqueue_operator.planning.pod_facts import PodFacts
from fairqueue_operator.planning.programming import Acknowledgement
from planning.following_pods import BEHIND, CHAT, CURRENT, NEXT, REFUSING, SILENT, Story, bound
from planning.making import REVISION


def test_two_thousand_pods_take_their_turns_a_hundred_a_second() -> None:
    story = Story(says=lambda question: CURRENT)
    crowd = [bound(number) for number in range(2000)]
    story.follow(crowd)
    story.run(100.0)
    story.follow(crowd, REVISION, "2")
    story.run(150.0)
    assert [int(at - 100) for at in story.nudged_at()] == [number // 100 for number in range(2000)]
    assert len({nudge.uid for _, nudge in story.nudged}) == 2000


@pytest.mark.parametrize("other", [("team", "web"), ("other", "web")])
def test_a_rollout_of_two_thousand_pods_delays_nobody_elses_change(other: tuple[str, str]) -> None:
    story = Story()
    crowd, few = [bound(number) for number in range(2000)], [bound(number, other) for number in range(20)]
    for pods, policy in ((crowd, CHAT), (few, other)):
        story.follow(pods, policy=policy)
    story.run(300.0)
    story.nudged.clear()
    story.follow(crowd, NEXT, "2")
    story.run(302.5)
    story.follow(few, NEXT, "2", other)
    story.run(304.0)
    assert len({nudge.uid for at, nudge in story.nudged if nudge.policy == other}) == 20


def test_pods_whose_nudges_hang_delay_no_other_namespaces() -> None:
    slow, good = ("slow", "p"), ("good", "p")
    story = Story(writing_takes=lambda nudge: 10.0 if nudge.policy == slow else 0.01)
    story.writes = lambda nudge: nudge.policy != slow
    story.follow([bound(number, slow) for number in range(64)], policy=slow)
    story.run(0.1)
    story.follow([bound(number, good) for number in range(5)], policy=good)
    story.run(0.2)
    assert sum(nudge.policy == good for _, nudge in story.nudged) == 5
    story.run(600.0)
    assert len({nudge.uid for _, nudge in story.nudged if nudge.policy == slow}) == 64


@pytest.mark.parametrize("namespaces", [1, 4])
def test_pods_that_do_not_answer_delay_nobody_elses_answers(namespaces: int) -> None:
    good = ("good", "p")
    story = Story(
        says=lambda question: Acknowledgement("good/p", REVISION, "") if question.policy == good else SILENT,
        asking_takes=lambda question: 0.003 if question.policy == good else 2.0,
    )
    for number in range(namespaces):
        bad = f"bad-{number}", "p"
        story.follow([bound(pod, bad) for pod in range(2000 // namespaces)], policy=bad)
    pods = [bound(number, good) for number in range(10)]
    story.run(1.0)
    for version in range(1, 30):
        began = story.now
        story.follow(pods, REVISION, str(version), good)
        story.run(began + 3.0)
        assert story.follow(pods, REVISION, str(version), good).said.keys() == {it.uid for it in pods}
        story.run(began + 20.0)
    # By then they are asked once in five minutes each.
    story.run(2000.0)
    assert sum(at > 1700 for at, uid in story.asked if uid.startswith("bad")) == pytest.approx(2000, rel=0.1)


def test_one_namespace_leaves_places_to_others() -> None:
    story = Story(says=lambda question: SILENT, asking_takes=lambda question: 2.0)
    story.follow([bound(number) for number in range(100)])
    story.run(1.0)
    story.follow([bound(1, ("good", "p"))], policy=("good", "p"))
    story.run(1.0)
    assert story.asked[-1] == (1.0, bound(1, ("good", "p")).uid)


def test_no_more_than_so_many_are_asked_at_once() -> None:
    story = Story(asking_takes=lambda question: 10.0)
    for namespace in ("one", "other", "third"):
        story.follow([bound(number, (namespace, "p")) for number in range(100)], policy=(namespace, "p"))
    story.run(5.0)
    assert len(story.asked) == ASKED_AT_ONCE


STEPS = st.lists(
    st.tuples(
        st.sampled_from([("team", "chat"), ("team", "web"), ("other", "api")]),
        st.integers(0, 150),
        st.sampled_from([REVISION, NEXT]),
        st.sampled_from([BEHIND, BEHIND, None, REFUSING, SILENT]),
        st.booleans(),
        # Exact in binary, as sums are compared.
        st.integers(0, 40).map(lambda eighths: eighths / 8),
    ),
    max_size=12,
)


def annotated(story: Story, policy: tuple[str, str], number: int) -> list[PodFacts]:
    """Pods with the values that were written."""
    values = {nudge.uid: nudge.value for _, nudge in story.nudged}
    pods = [bound(index, policy) for index in range(number)]
    return [replace(it, nudge=values.get(it.uid, "")) for it in pods]


@given(STEPS)
def test_however_policies_change_the_rate_is_kept_and_everyone_has_a_turn(
    steps: list[tuple[tuple[str, str], int, str, Acknowledgement | None, bool, float]],
) -> None:
    """At most a hundred in any second; no pod gets the value again that it has; in the end each has been
    nudged, within as many hundredths of a second as there are nudges: a few for those that do not answer."""
    story = Story()
    wanted: dict[tuple[str, str], int] = {}
    for version, (policy, number, revision, said, works, seconds) in enumerate(steps):
        answer = said or Acknowledgement("/".join(policy), revision, "")
        story.says = lambda question, answer=answer: answer  # type: ignore[misc]
        story.writes = lambda nudge, works=works: works  # type: ignore[misc]
        story.asking_takes = lambda question, said=said: 2.0 if said is SILENT else 0.0  # type: ignore[misc]
        story.follow(annotated(story, policy, number), revision, str(version), policy)
        wanted[policy] = number
        story.run(story.now + seconds)
    story.says = lambda question: Acknowledgement("/".join(question.policy), "c" * 64, "")
    story.writes = lambda nudge: True
    for policy, number in wanted.items():
        story.follow(annotated(story, policy, number), "c" * 64, "last", policy)
    count = len(story.nudged)
    # Sums of seconds are not exact.
    story.run(story.now + 1.001 + NUDGES_IN_VAIN * sum(wanted.values()) // NUDGES_PER_SECOND)
    everybody = {bound(index, policy).uid for policy, number in wanted.items() for index in range(number)}
    assert {nudge.uid for _, nudge in story.nudged[count:]} == everybody

    times = story.nudged_at()
    assert times == sorted(times)
    assert all(later - earlier > 0.999999 for earlier, later in zip(times, times[NUDGES_PER_SECOND:], strict=False))
    last: dict[str, Nudge] = {}
    for _, nudge in story.nudged:
        assert nudge.uid not in last or last[nudge.uid].value != nudge.value
        last[nudge.uid] = nudge
