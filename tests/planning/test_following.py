"""When a proxy is asked, and its kubelet nudged: soon, and then seldomer and seldomer; and which answers count."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.planning.followed_pod import (
    CHECKS_SECONDS,
    GRACE_SECONDS,
    SETTLED_SECONDS,
    SOON_SECONDS,
    FollowedPod,
)
from fairqueue_operator.planning.programming import Acknowledgement
from planning.following_pods import BEHIND, CHAT, CURRENT, NEXT, REFUSING, SILENT, Story, bound
from planning.making import REVISION

ONE = bound()


def settled(said: Acknowledgement = CURRENT, *, at: float = 1000.0) -> Story:
    """One pod, that has said so for long."""
    story = Story(says=lambda question: said)
    story.follow([ONE])
    story.run(at)
    for seen in (story.asked, story.nudged, story.answered):
        seen.clear()
    return story


def test_a_pod_that_is_behind_is_nudged_eight_times_and_then_once_in_ten_minutes() -> None:
    story = Story()
    story.follow([ONE])
    story.run(2000.0)
    assert story.nudged_at() == [0, 1, 3, 7, 15, 31, 61, 91, 691, 1291, 1891]
    assert story.values() == [f"aaaaaaaaaaaa.{number}" for number in range(11)]


def test_looking_at_the_policy_again_starts_nothing_anew() -> None:
    story = Story()
    for tenth in range(80):
        story.follow([ONE])
        story.run(tenth / 10)
    assert story.nudged_at() == [0, 1, 3, 7]


def test_who_is_behind_is_asked_soon_after_each_nudge_and_then_seldomer() -> None:
    story = Story()
    story.follow([ONE])
    story.run(7.0)
    assert story.asked_at() == [0, 0.2, 0.4, 0.8, 1.2, 1.4, 1.8, 2.6, 3.2, 3.4, 3.8, 4.6, 6.2]
    story.run(3000.0)
    assert max(later - earlier for earlier, later in pairwise(story.asked_at())) == pytest.approx(60.0)


@pytest.mark.parametrize("said", [CURRENT, None], ids=["current", "not asked yet"])
def test_who_has_no_use_for_it_is_not_nudged(said: Acknowledgement | None) -> None:
    """A new operator finds a thousand pods that are all current: it must not write to each of them."""
    story = Story(says=lambda question: said or BEHIND, asking_takes=lambda question: 0 if said else 1e9)
    story.follow([ONE])
    story.run(1000.0)
    assert story.nudged == []
    assert story.asked


def test_a_policy_without_a_stored_document_nudges_nobody() -> None:
    story = Story()
    story.follow([ONE], "", "")
    story.run(100.0)
    assert story.nudged == []
    story.follow([ONE], REVISION, "1")
    story.run(100.0)
    assert story.nudged_at() == [100.0]


@pytest.mark.parametrize("revision", [REVISION, NEXT])
def test_each_write_is_followed_by_one_nudge_of_each_pod_whatever_it_said(revision: str) -> None:
    story = settled()
    story.says = lambda question: replace(CURRENT, revision=revision)
    story.follow([ONE], revision, "2")
    story.run(3000.0)
    assert story.nudged_at() == [1000.0]
    assert story.values() == [f"{revision[:12]}.0"]
    story.follow([ONE], revision, "3")
    story.run(4000.0)
    assert story.values() == [f"{revision[:12]}.{number}" for number in range(2)]


def test_who_gave_the_right_answer_after_a_write_is_asked_a_few_times_more() -> None:
    """Its kubelet may have read the document before the last, and bring it yet."""
    story = settled()
    story.follow([ONE], REVISION, "2")
    story.run(1500.0)
    assert [at - 1000 for at in story.asked_at()] == pytest.approx([0.2, 1, 2, 5, 15, 40, 90, 390])


NEARLY_CHECKED = st.sampled_from([at - 1e-9 for at in CHECKS_SECONDS])


@given(st.floats(0, 1e6), st.floats(0, 1000) | NEARLY_CHECKED, st.sampled_from([CURRENT, BEHIND, REFUSING, SILENT]))
def test_from_an_answer_to_the_next_question_some_time_passes(
    since: float, elapsed: float, said: Acknowledgement
) -> None:
    followed = FollowedPod.begin(CHAT, ONE, REVISION, since)
    followed.hear(said)
    assert SOON_SECONDS <= followed.wait_seconds(since + elapsed) <= SETTLED_SECONDS


def test_an_answer_that_was_asked_for_before_the_write_does_not_count() -> None:
    story = Story(says=lambda question: CURRENT, asking_takes=lambda question: 0.5)
    story.follow([ONE])
    story.run(0.4)
    assert story.follow([ONE], REVISION, "2").said == {}
    story.run(0.55)
    assert story.follow([ONE], REVISION, "2").said == {}
    assert story.answered == []
    story.run(2.0)
    assert story.follow([ONE], REVISION, "2").said == {ONE.uid: CURRENT}
    assert story.follow([ONE], REVISION, "3").said == {}


def test_what_is_stored_without_having_been_written_since_is_no_write() -> None:
    story = Story(says=lambda question: CURRENT)
    story.follow([ONE], "", "")
    story.run(10.0)
    story.follow([ONE], REVISION, "7")
    # Not seen for a while, and there again as it was.
    story.follow([ONE], "", "")
    assert story.follow([ONE], REVISION, "7").said == {ONE.uid: CURRENT}
    story.run(20.0)
    assert story.nudged == []
    story.follow([ONE], "", "")
    story.follow([ONE], REVISION, "8")
    story.run(30.0)
    assert story.nudged_at() == [20.0]


@pytest.mark.parametrize("said", [REFUSING, SILENT])
def test_a_proxy_with_a_problem_is_nudged_three_times_after_each_write(said: Acknowledgement) -> None:
    """Its problem may be about the document before; after these it is not."""
    story = Story(says=lambda question: said)
    story.follow([ONE])
    story.run(10_000.0)
    assert story.nudged_at() == [0, 1, 3]
    story.nudged.clear()
    story.follow([ONE], NEXT, "2")
    story.run(20_000.0)
    assert [at - 10_000 for at in story.nudged_at()] == pytest.approx([0, 1, 3])


def test_one_that_refuses_no_more_is_nudged_again() -> None:
    story = settled(REFUSING, at=50.0)
    story.says = lambda question: BEHIND
    story.run(120.0)
    assert len(story.nudged) > 3


def test_one_that_does_not_answer_is_asked_seldomer_and_seldomer_and_writes_change_nothing_of_it() -> None:
    story = Story(says=lambda question: SILENT)
    story.follow([ONE])
    story.run(1000.0)
    waits = [later - earlier for earlier, later in pairwise(story.asked_at())]
    assert waits == pytest.approx([1, 3, 9, 27, 81, 243, 300, 300])
    for version in range(2, 100):
        story.run(1000.0 + 50 * version)
        assert story.follow([ONE], REVISION, str(version)).said == {ONE.uid: SILENT}
    assert {later - earlier for earlier, later in pairwise(story.asked_at()[8:])} == {300.0}
    # Once there is an answer it is asked as others are.
    story.asked.clear()
    story.says = lambda question: BEHIND
    story.run(6500.0)
    assert len(story.asked) > 10


def test_one_that_is_being_asked_in_vain_when_there_is_a_write_is_asked_again() -> None:
    story = Story(says=lambda question: SILENT, asking_takes=lambda question: 2.0)
    story.follow([ONE])
    story.run(4.0)
    story.follow([ONE], NEXT, "2")
    story.says = lambda question: CURRENT
    story.run(10.0)
    assert story.follow([ONE], NEXT, "2").said == {ONE.uid: CURRENT}


def test_another_process_in_the_same_pod_has_said_nothing_yet_and_is_asked_at_once() -> None:
    story = settled(SILENT)
    assert story.follow([bound(restarts=1)]).said == {}
    story.run(1001.0)
    assert story.asked_at()[0] == 1000.0
    # That it was nudged in vain is as true as before.
    assert story.nudged == []


def test_an_answer_of_the_process_before_does_not_count() -> None:
    story = Story(says=lambda question: CURRENT, asking_takes=lambda question: 1.0)
    story.follow([ONE])
    story.run(0.5)
    story.follow([bound(restarts=1)])
    story.run(1.2)
    assert story.follow([bound(restarts=1)]).said == {}
    story.run(2.0)
    assert story.follow([bound(restarts=1)]).said == {ONE.uid: CURRENT}


def test_a_nudge_that_could_not_be_written_is_tried_again_and_counts_for_nothing() -> None:
    story = settled()
    story.writes = lambda nudge: False
    story.follow([ONE], NEXT, "2")
    story.run(2000.0)
    assert [at - 1000 for at in story.nudged_at()][:9] == [0, 1, 3, 7, 15, 31, 61, 91, 121]
    assert len(set(story.values())) == len(story.values())
    story.writes = lambda nudge: True
    story.nudged.clear()
    story.run(2050.0)
    assert [later - earlier for earlier, later in pairwise(story.nudged_at())][:3] == [1, 2, 4]


def test_a_write_while_a_nudge_is_under_way_is_followed_by_another() -> None:
    story = settled()
    story.writing_takes = lambda nudge: 10.0
    # What becomes of the first does not matter any more.
    story.writes = lambda nudge: nudge.value.startswith("a")
    story.follow([ONE], NEXT, "2")
    story.run(1001.0)
    story.says = lambda question: CURRENT
    story.follow([ONE], REVISION, "3")
    story.run(1100.0)
    assert [(at, nudge.value) for at, nudge in story.nudged] == [(1000, "bbbbbbbbbbbb.0"), (1001, "aaaaaaaaaaaa.0")]


def test_who_has_not_been_heard_is_said_to_be_so_for_a_while() -> None:
    story = Story(says=lambda question: CURRENT, asking_takes=lambda question: 1e9 if question.uid == ONE.uid else 0.0)
    heard = story.follow([ONE])
    assert (heard.unheard, heard.is_early) == ({ONE.uid}, True)
    story.run(GRACE_SECONDS - 0.1)
    other = bound(2)
    heard = story.follow([ONE, other])
    assert (heard.unheard, heard.is_early) == ({ONE.uid, other.uid}, True)
    story.run(GRACE_SECONDS)
    heard = story.follow([ONE, other])
    assert (heard.said, heard.unheard, heard.is_early) == ({other.uid: CURRENT}, set(), False)
    # Not so for a pod that comes later.
    heard = story.follow([ONE, other, bound(3)])
    assert (heard.unheard, heard.is_early) == ({bound(3).uid}, False)
    # Nor is a write: each was heard once.
    heard = story.follow([other], REVISION, "2")
    assert (heard.said, heard.unheard) == ({}, set())


def test_a_new_operator_goes_on_counting_where_the_last_one_stopped() -> None:
    """A value that is there already would be no change, and wake nobody."""
    story = Story()
    story.follow([replace(ONE, nudge="aaaaaaaaaaaa.4")])
    story.run(100.0)
    assert [(at, nudge.value) for at, nudge in story.nudged] == [
        (0, "aaaaaaaaaaaa.5"),
        (30, "aaaaaaaaaaaa.6"),
        (60, "aaaaaaaaaaaa.7"),
    ]


@pytest.mark.parametrize("value", ["cccccccccccc.7", "aaaaaaaaaaaa.9999999", "aaaaaaaaaaaa.x", "1730000000"])
def test_a_value_that_is_not_of_that_revision_counts_for_nothing(value: str) -> None:
    story = Story()
    story.follow([replace(ONE, nudge=value)])
    story.run(0.5)
    assert story.values() == ["aaaaaaaaaaaa.0"]


def test_who_is_not_followed_any_more_is_neither_asked_nor_nudged_nor_heard() -> None:
    story = Story(asking_takes=lambda question: 0.5, writing_takes=lambda nudge: 0.5)
    story.follow([ONE, bound(2)])
    story.run(0.7)
    story.follow([bound(2)])
    story.run(5.0)
    assert {nudge.uid for at, nudge in story.nudged if at > 0.7} == {uid for at, uid in story.asked if at > 0.7}
    # The same pod again, while the one before is being asked.
    story.follow([ONE])
    story.run(5.1)
    story.follow([])
    assert story.follow([ONE]).said == {}
    story.run(5.55)
    assert story.follow([ONE]).said == {}
    story.following.forget(CHAT)
    story.following.forget(CHAT)
    asked = len(story.asked)
    story.run(1000.0)
    assert len(story.asked) == asked
    assert story.following._policies == {}
    assert story.following.next_at() == float("inf")
