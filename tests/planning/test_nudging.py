"""Which pods are nudged and when: soon, seldomer and seldomer, never too many at once, everyone in turn."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.planning.nudging import NUDGES_PER_SECOND, Nudge, NudgeSchedule
from fairqueue_operator.planning.pod_facts import PodFacts, read_pod
from fairqueue_operator.planning.programming import Acknowledgement
from planning.making import REVISION, pod, pod_item, starting

CHAT = "team", "chat"
NEXT = "b" * 64
BEHIND = Acknowledgement("team/chat", "0" * 64, "")
CURRENT = Acknowledgement("team/chat", REVISION, "")
REFUSING = Acknowledgement("team/chat", "0" * 64, "document: schema: is not 1")


def bound(number: int = 1) -> PodFacts:
    return pod(f"llm-{number}", bound="chat")


def schedule(pods: list[PodFacts], said: Acknowledgement = BEHIND, now: float = 0.0) -> NudgeSchedule:
    made = NudgeSchedule()
    want(made, pods, said, now)
    return made


def want(
    made: NudgeSchedule,
    pods: list[PodFacts],
    said: Acknowledgement = BEHIND,
    now: float = 0.0,
    revision: str = REVISION,
) -> None:
    made.want(CHAT, revision, pods, {facts.uid: said for facts in pods}, now)


def run(made: NudgeSchedule, until: float, since: float = 0.0) -> list[tuple[float, Nudge]]:
    """All that is done up to then by somebody who looks when told to."""
    done = []
    while (first := made.next_at()) is not None and (now := max(first, since)) <= until:
        nudges = made.due(now)
        assert nudges, "it was said that something would be due"
        done += [(now, nudge) for nudge in nudges]
    return done


def test_a_pod_is_nudged_at_once_and_then_with_longer_and_longer_waits() -> None:
    done = run(schedule([bound()], now=5.0), 140.0)
    assert [time - 5.0 for time, _ in done] == [0, 1, 3, 7, 15, 31, 61, 91, 121]
    assert done[0][1] == Nudge(CHAT, "team", "llm-1", "uid-llm-1", "aaaaaaaaaaaa.0")
    assert [nudge.value for _, nudge in done] == [f"aaaaaaaaaaaa.{number}" for number in range(9)]


def test_before_its_time_nothing_is_due() -> None:
    made = schedule([bound()])
    assert len(made.due(0.0)) == 1
    assert made.due(0.999) == []
    assert made.next_at() == 1.0


def test_wanting_the_same_again_starts_nothing_anew() -> None:
    made = schedule([bound()])
    times = []
    for tenth in range(80):
        want(made, [bound()], now=tenth / 10)
        times += [tenth / 10] * len(made.due(tenth / 10))
    assert times == [0, 1, 3, 7]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (bound(), CURRENT),
        (starting(), BEHIND),
        (pod(), BEHIND),
        (pod(bound="other"), BEHIND),
    ],
    ids=["current", "proxy not started", "no proxy", "bound to another policy"],
)
def test_who_has_no_use_for_it_is_not_nudged(facts: PodFacts, said: Acknowledgement) -> None:
    assert schedule([facts], said).next_at() is None


def test_who_has_not_been_asked_yet_is_not_nudged() -> None:
    """A new operator finds a thousand pods that are all current: it must not write to each of them."""
    made = NudgeSchedule()
    made.want(CHAT, REVISION, [bound()], {}, 0.0)
    assert made.next_at() is None


def test_who_becomes_current_is_not_nudged_any_more() -> None:
    made = schedule([bound(1), bound(2)])
    made.due(0.0)
    made.want(CHAT, REVISION, [bound(1), bound(2)], {"uid-llm-1": CURRENT, "uid-llm-2": BEHIND}, 0.5)
    assert [nudge.pod for _, nudge in run(made, 5.0)] == ["llm-2", "llm-2"]


@pytest.mark.parametrize("said", [REFUSING, Acknowledgement("", "", "no answer")])
def test_a_proxy_with_a_problem_is_nudged_three_times(said: Acknowledgement) -> None:
    """Its problem may be about the document before; after these it is not."""
    made = schedule([bound()], said)
    assert [time for time, _ in run(made, 10_000.0)] == [0, 1, 3]
    want(made, [bound()], said, now=10_000.0)
    assert made.next_at() is None
    want(made, [bound()], said, now=10_001.0, revision=NEXT)
    assert [nudge.value for _, nudge in run(made, 20_000.0)] == [f"bbbbbbbbbbbb.{number}" for number in range(3)]


def test_a_proxy_that_refuses_what_it_was_nudged_for_is_left_alone_until_it_does_not() -> None:
    made = schedule([bound()])
    assert len(run(made, 20.0)) == 5
    want(made, [bound()], REFUSING, now=20.0)
    assert made.next_at() is None
    want(made, [bound()], BEHIND, now=40.0)
    assert [nudge.value for nudge in made.due(40.0)] == ["aaaaaaaaaaaa.5"]


def test_a_new_revision_is_nudged_for_at_once() -> None:
    made = schedule([bound()])
    run(made, 20.0)
    want(made, [bound()], now=20.0, revision=NEXT)
    assert [nudge.value for nudge in made.due(20.0)] == ["bbbbbbbbbbbb.0"]
    assert made.next_at() == 21.0


def test_a_new_operator_goes_on_counting_where_the_last_one_stopped() -> None:
    """A value that is there already would be no change, and wake nobody."""
    item = pod_item("llm-1", bound="chat")
    item["metadata"]["annotations"]["fairqueue.dev/config-nudge"] = "aaaaaaaaaaaa.7"
    facts = read_pod(item)
    assert facts is not None
    made = schedule([facts])
    assert [(time, nudge.value) for time, nudge in run(made, 40.0)] == [(0, "aaaaaaaaaaaa.8"), (30, "aaaaaaaaaaaa.9")]


@pytest.mark.parametrize("value", ["cccccccccccc.7", "aaaaaaaaaaaa.9999999", "aaaaaaaaaaaa.x", "1730000000"])
def test_a_value_that_is_not_of_that_revision_counts_for_nothing(value: str) -> None:
    item = pod_item("llm-1", bound="chat")
    item["metadata"]["annotations"]["fairqueue.dev/config-nudge"] = value
    facts = read_pod(item)
    assert facts is not None
    assert [nudge.value for nudge in schedule([facts]).due(0.0)] == ["aaaaaaaaaaaa.0"]


def test_a_policy_that_is_gone_or_has_no_document_wants_nothing() -> None:
    made = schedule([bound()])
    want(made, [bound()], revision="")
    assert made.next_at() is None
    want(made, [bound()])
    want(made, [])
    assert made.next_at() is None


def test_two_thousand_pods_take_their_turns_a_hundred_a_second() -> None:
    made = schedule([bound(number) for number in range(2000)])
    done = run(made, 19.0)
    assert [time for time, _ in done] == [float(number // 100) for number in range(2000)]
    assert len({nudge.pod for _, nudge in done}) == 2000


def test_who_has_waited_longest_comes_first_and_loses_no_place_to_a_newer_revision() -> None:
    made = schedule([bound(number) for number in range(150)])
    first = {nudge.pod for nudge in made.due(0.0)}
    crowd = [pod(f"web-{number}", bound="web") for number in range(500)]
    made.want(("team", "web"), REVISION, crowd, {facts.uid: BEHIND for facts in crowd}, 0.5)
    want(made, [bound(number) for number in range(150)], now=0.9, revision=NEXT)
    next_ones = [nudge.pod for nudge in made.due(1.0)]
    assert set(next_ones[:50]) == {f"llm-{number}" for number in range(150)} - first
    assert all(name.startswith("web-") for name in next_ones[50:])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["chat", "web", "api"]),
        st.integers(0, 150),
        st.sampled_from([REVISION, REVISION, NEXT]),
        st.sampled_from([BEHIND, BEHIND, CURRENT, REFUSING]),
        # Exact in binary, as sums are compared.
        st.integers(0, 40).map(lambda eighths: eighths / 8),
    ),
    max_size=12,
)


@given(STEPS)
def test_however_policies_change_the_rate_is_kept_and_everyone_has_a_turn(
    steps: list[tuple[str, int, str, Acknowledgement, float]],
) -> None:
    """At most a hundred in any second; a pod waits out its back-off and gets no value twice; in the end, with n pods
    behind, each has been nudged within n hundredths of a second, rounded up."""
    made, now, done = NudgeSchedule(), 0.0, list[tuple[float, Nudge]]()
    wanted: dict[str, tuple[int, Acknowledgement, str]] = {}
    for name, number, revision, said, seconds in steps:
        pods = [pod(f"{name}-{index}", bound=name) for index in range(number)]
        if said is CURRENT:
            said = Acknowledgement(f"team/{name}", revision, "")
        made.want(("team", name), revision, pods, {facts.uid: said for facts in pods}, now)
        wanted[name] = number, said, revision
        done += run(made, now + seconds, now)
        now += seconds
    times = [time for time, _ in done]
    assert times == sorted(times)
    assert all(times[index] - times[index - NUDGES_PER_SECOND] >= 1.0 for index in range(NUDGES_PER_SECOND, len(times)))

    by_pod: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for time, nudge in done:
        of_revision, _, count = nudge.value.partition(".")
        by_pod[nudge.uid, of_revision].append((time, int(count)))
    for tries in by_pod.values():
        for (earlier, last), (later, following) in pairwise(tries):
            assert following == 0 or (following == last + 1 and later - earlier >= min(2**last, 30))

    # Everybody is behind from now on: nothing but the rate keeps them from a turn.
    everybody = [
        pod(f"{name}-{index}", bound=name) for name, (number, _, _) in wanted.items() for index in range(number)
    ]
    for name in wanted:
        pods = [facts for facts in everybody if facts.bound_policy == name]
        made.want(("team", name), "c" * 64, pods, {facts.uid: BEHIND for facts in pods}, now)
    turns = -(-len(everybody) // NUDGES_PER_SECOND)
    assert {nudge.pod for _, nudge in run(made, now + turns, now)} == {facts.name for facts in everybody}
