"""Whether pods run on what was decided: what is said of them, how they are counted, and that nothing runs ahead."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.planning.judging import Judgement
from fairqueue_operator.planning.pod_facts import PodFacts
from fairqueue_operator.planning.policy_facts import PolicyFacts
from fairqueue_operator.planning.programming import (
    Acknowledgement,
    PodTotals,
    Programming,
    assess,
    is_current,
    tells_of_refusals,
)
from fairqueue_operator.planning.verdicts import Verdict
from planning.making import REVISION, judgement, pod, policy, starting

CURRENT = Acknowledgement("team/chat", REVISION, "")
OLDER = Acknowledgement("team/chat", "b" * 64, "")
SILENT = Acknowledgement("", "", "no answer at 10.0.0.7:9820: connection refused", answered=False)
REFUSING = Acknowledgement("team/chat", "b" * 64, "document: is not JSON")
INVALID = Verdict("False", "Invalid", "spec.mode: wrong")
BOUND = [pod(f"llm-{number}", bound="chat") for number in range(1, 6)]


def assessed(
    pods: list[PodFacts],
    said: dict[str, Acknowledgement] | None = None,
    *,
    of: PolicyFacts | None = None,
    judged: Judgement | None = None,
    stored: str = REVISION,
    unlabelled: int | None = 0,
    **others: Any,
) -> Programming:
    said = {f"uid-{name}": answer for name, answer in (said or {}).items()}
    return assess(of or policy(), judged or judgement(), stored, pods, said, unlabelled, **others)


def told(programming: Programming) -> tuple[str, str, str]:
    found = programming.programmed
    return found.status, found.reason, found.message


def test_when_all_proxies_say_so_it_is_programmed_and_ready() -> None:
    programming = assessed(BOUND[:2], {"llm-1": CURRENT, "llm-2": CURRENT})
    assert told(programming) == ("True", "Programmed", "2 of 2 proxies on revision aaaaaaaaaaaa.")
    assert programming.ready == Verdict("True", "Ready", programming.programmed.message)
    assert programming.pods == PodTotals(matched=2, unlabelled=0, injected=2, started=2, current=2)


def test_up_to_three_pods_that_are_behind_are_named_with_the_reason() -> None:
    programming = assessed(BOUND, {"llm-1": OLDER, "llm-2": CURRENT, "llm-4": SILENT})
    assert told(programming) == (
        "False",
        "PartiallyProgrammed",
        "1 of 5 proxies on revision aaaaaaaaaaaa: llm-1 runs on revision bbbbbbbbbbbb; llm-3 has not been asked "
        "yet; llm-4 has a problem: no answer at 10.0.0.7:9820: connection refused; and 1 more.",
    )
    assert programming.ready == programming.programmed
    assert programming.pods.current == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Acknowledgement("", "", ""), "llm-1 has no document yet."),
        (Acknowledgement("team/other", REVISION, ""), "llm-1 runs on policy team/other."),
        (SILENT, "llm-1 has a problem: no answer at 10.0.0.7:9820: connection refused."),
    ],
)
def test_while_none_is_current_it_is_pending(answer: Acknowledgement, why: str) -> None:
    programming = assessed(BOUND[:1], {"llm-1": answer})
    assert programming.programmed.reason == "Pending"
    assert programming.programmed.message == f"0 of 1 proxies on revision aaaaaaaaaaaa: {why}"


def test_when_proxies_refuse_it_and_none_runs_on_it_that_is_said_of_them_first() -> None:
    said = {"llm-1": OLDER, "llm-2": SILENT, "llm-4": REFUSING, "llm-5": Acknowledgement("", "", "schema: is 2")}
    assert told(assessed(BOUND, said)) == (
        "False",
        "ProxiesRefuse",
        "0 of 5 proxies on revision aaaaaaaaaaaa (refused by 2): llm-4 has a problem: document: is not JSON; llm-5 has "
        "a problem: schema: is 2; llm-1 runs on revision bbbbbbbbbbbb; and 2 more.",
    )


def test_a_proxy_that_cannot_use_its_new_file_refuses_whatever_it_runs_on() -> None:
    answer = Acknowledgement("team/chat", REVISION, "document: is not JSON")
    assert assessed(BOUND[:1], {"llm-1": answer}).programmed.reason == "ProxiesRefuse"


def test_when_some_run_on_it_and_some_refuse_it_is_partly_so() -> None:
    programmed = assessed(BOUND[:3], {"llm-1": OLDER, "llm-2": CURRENT, "llm-3": REFUSING}).programmed
    assert (programmed.reason, programmed.message) == (
        "PartiallyProgrammed",
        "1 of 3 proxies on revision aaaaaaaaaaaa (refused by 1): llm-3 has a problem: document: is not JSON; "
        "llm-1 runs on revision bbbbbbbbbbbb.",
    )
    assert tells_of_refusals(programmed.message)


def test_no_pod_can_make_it_seem_so() -> None:
    silent = Acknowledgement("", "", "no answer (refused by 7): (refused by 7)", answered=False)
    for answer in (silent, Acknowledgement("team/x (refused by 7)", REVISION, "")):
        assert not tells_of_refusals(assessed(BOUND[:1], {"llm-1": answer}).programmed.message)


def test_what_a_pod_says_is_short_and_one_line() -> None:
    message = assessed(
        BOUND[:1], {"llm-1": Acknowledgement("p" * 9999, "\n" * 64, "x\n\x1b[2J" * 9999)}
    ).programmed.message
    assert message.isprintable()
    assert len(message) < 500
    assert assessed(BOUND[:1], {"llm-1": Acknowledgement("team/chat", "\n", "")}).programmed.message.isprintable()
    assert assessed(BOUND[:1], {"llm-1": Acknowledgement("\n" * 9999, "r", "")}).programmed.message.isprintable()


def test_a_proxy_that_has_not_started_does_not_count_against_it() -> None:
    """Whatever it said before it was started again."""
    programming = assessed([BOUND[0], starting("llm-2")], {"llm-1": CURRENT, "llm-2": CURRENT})
    assert programming.ready.holds
    assert programming.pods == PodTotals(matched=2, unlabelled=0, injected=2, started=1, current=1)


def test_while_no_proxy_has_started_it_is_pending() -> None:
    assert told(assessed([starting("llm-1"), starting("llm-2")])) == (
        "False",
        "Pending",
        "No proxy has started yet, of 2.",
    )


def test_without_pods_nothing_is_programmed() -> None:
    assert told(assessed([])) == (
        "False",
        "NoMatchingPods",
        'No pod with the label fairqueue.dev/inject: "true" matches spec.selector: '
        "kubectl -n team get pods --show-labels",
    )


def test_pods_that_ask_and_have_no_proxy_are_told_of() -> None:
    assert told(assessed([pod("llm-1"), pod("llm-2")]))[1:] == (
        "NoMatchingPods",
        "No pod has a proxy of this policy. Matched by spec.selector, with the label fairqueue.dev/inject, and without "
        "this policy's proxy: 2 pods: llm-1; llm-2; restart what owns them, as by "
        "kubectl -n team rollout restart deployment NAME.",
    )


def test_beside_pods_that_are_in_order_those_that_ask_and_have_no_proxy_are_named() -> None:
    pods = [BOUND[0], *(pod(f"bare-{number}") for number in (4, 3, 2, 1)), pod("web", {"app": "web"})]
    programming = assessed(pods, {"llm-1": CURRENT})
    assert programming.ready.holds
    assert programming.programmed.message == (
        "1 of 1 proxies on revision aaaaaaaaaaaa. Matched by spec.selector, with the label fairqueue.dev/inject, and "
        "without this policy's proxy: 4 pods: bare-1; bare-2; bare-3; and 1 more; restart what owns them, as by "
        "kubectl -n team rollout restart deployment NAME."
    )
    assert programming.pods == PodTotals(matched=5, unlabelled=0, injected=1, started=1, current=1)


def test_a_pod_with_another_policys_proxy_is_not_without_one() -> None:
    programming = assessed([BOUND[0], pod("llm-2", bound="older")], {"llm-1": CURRENT})
    assert programming.programmed.message == "1 of 1 proxies on revision aaaaaaaaaaaa."


def test_of_a_policy_that_injects_nothing_any_more_no_pod_is_missed() -> None:
    disabled = policy(injection={"mode": "Disabled"})
    programming = assessed([BOUND[0], pod("bare")], {"llm-1": CURRENT}, of=disabled)
    assert programming.programmed.message == "1 of 1 proxies on revision aaaaaaaaaaaa."


def test_a_policy_that_injects_nothing_says_so() -> None:
    programming = assessed([pod()], of=policy(injection={"mode": "Disabled"}))
    assert told(programming)[1:] == ("NoMatchingPods", "No pod gets a proxy: spec.injection.mode is Disabled.")


def test_pods_that_do_not_ask_are_counted_and_told_of() -> None:
    programming = assessed(BOUND[:1], {"llm-1": CURRENT}, unlabelled=3)
    assert programming.ready.holds
    assert programming.programmed.message == (
        "1 of 1 proxies on revision aaaaaaaaaaaa. Matched by spec.selector and not asking for a proxy: 3 pods; "
        'write fairqueue.dev/inject: "true" into the labels of the pod template.'
    )
    assert programming.pods == PodTotals(matched=4, unlabelled=3, injected=1, started=1, current=1)


def test_before_they_are_counted_no_count_is_given() -> None:
    assert assessed(BOUND[:1], unlabelled=None).pods == PodTotals(None, None, 1, 1, 0)


def test_a_bound_pod_counts_whatever_the_selector_says_now() -> None:
    moved = pod("llm-1", {"app": "web"}, bound="chat")
    programming = assessed([moved], {"llm-1": CURRENT})
    assert programming.ready.holds
    assert programming.pods == PodTotals(matched=0, unlabelled=0, injected=1, started=1, current=1)


def test_pods_of_others_do_not_count() -> None:
    """Bound to another policy, or asking for one by name."""
    others = [pod("llm-1", {"fairqueue.dev/policy": "other"}), pod("llm-2", {"app": "web"}, bound="other")]
    assert assessed(others).pods == PodTotals(0, 0, 0, 0, 0)


def test_before_the_document_is_stored_it_is_pending() -> None:
    programming = assessed(BOUND[:1], {"llm-1": OLDER}, stored="b" * 64)
    assert told(programming) == ("False", "Pending", "The document is being written.")
    assert programming.pods.current == 1
    assert told(assessed([], stored=""))[1] == "Pending"


def test_why_the_document_could_not_be_stored_is_said() -> None:
    assert told(assessed([], stored="", store_problem="PATCH secrets: 403 exceeded quota\n")) == (
        "False",
        "DocumentNotWritten",
        "The document could not be read or written: PATCH secrets: 403 exceeded quota\\n. What may refuse it: a "
        "ResourceQuota, an admission policy, a namespace that is ending (kubectl -n team describe quota), or a grant "
        "without create and patch: kubectl apply -k manifests/overlays/tenant-namespace -n team",
    )


def test_a_document_that_cannot_be_written_is_told_though_proxies_run_on_what_is_stored() -> None:
    """It may not be the policy's own: another's, that goes with it."""
    programming = assessed(BOUND[:1], {"llm-1": CURRENT}, store_problem="PATCH secrets: 403")
    assert programming.ready.reason == "DocumentNotWritten"
    assert programming.pods.current == 1


def test_a_policy_that_is_not_accepted_is_judged_by_the_document_in_force() -> None:
    programming = assessed(BOUND[:1], {"llm-1": CURRENT}, judged=judgement(INVALID))
    assert programming.programmed.holds
    assert programming.ready == INVALID


def test_one_that_never_was_has_nothing_to_run_on() -> None:
    programming = assessed(BOUND[:1], judged=judgement(INVALID, ""), stored="")
    assert told(programming) == ("False", "Pending", "There is no document: the policy is not accepted.")
    assert programming.ready == INVALID


def test_nobody_is_current_while_no_document_is_stored() -> None:
    assert not is_current("team/chat", "", Acknowledgement("team/chat", "", ""))
    assert is_current("team/chat", REVISION, CURRENT)


def test_ready_is_unknown_while_acceptance_is() -> None:
    unknown = Verdict("Unknown", "Pending", "The Secrets of namespace team are being read.")
    assert assessed(BOUND[:1], {"llm-1": CURRENT}, judged=judgement(unknown)).ready == unknown


REVISIONS = st.sampled_from([REVISION, "b" * 64, ""])
ANSWERS = st.none() | st.builds(
    Acknowledgement, st.sampled_from(["team/chat", "team/other", ""]), REVISIONS, st.sampled_from(["", "", "no answer"])
)
PODS = st.builds(
    lambda bound, started: (pod if started else starting)("p", bound=bound) if bound else pod("p"),
    st.sampled_from(["chat", "chat", "other", ""]),
    st.booleans(),
)


@given(
    st.lists(st.tuples(PODS, ANSWERS), max_size=6),
    REVISIONS,
    REVISIONS,
    st.sampled_from([Verdict("True", "Accepted", ""), INVALID]),
    st.none() | st.integers(0, 3),
    st.sampled_from(["", "", "PATCH secrets: 403"]),
)
def test_nothing_is_said_ahead_of_the_facts(
    drawn: list[tuple[PodFacts, Acknowledgement | None]],
    stored: str,
    judged: str,
    accepted: Verdict,
    unlabelled: int | None,
    problem: str,
) -> None:
    """Programmed means that each proxy that has started said itself that it runs on what is, and is to be, stored."""
    pods = [_renamed(facts, f"llm-{index}") for index, (facts, _) in enumerate(drawn)]
    said = {f"llm-{index}": answer for index, (_, answer) in enumerate(drawn) if answer is not None}
    programming = assessed(
        pods, said, judged=judgement(accepted, judged), stored=stored, unlabelled=unlabelled, store_problem=problem
    )
    running = [facts for facts in pods if facts.bound_policy == "chat" and facts.proxy_started]
    exactly = Acknowledgement("team/chat", stored, "")
    is_true = bool(running) and stored != "" and all(said.get(facts.name) == exactly for facts in running)
    assert programming.programmed.holds == (is_true and stored == judged and not problem)
    assert programming.ready.holds == (programming.programmed.holds and accepted.holds)
    counts = programming.pods
    assert counts.current == sum(said.get(facts.name) == exactly for facts in running if stored)
    assert counts.current <= counts.started == len(running) <= counts.injected <= len(pods)
    assert (counts.unlabelled, counts.matched is None) == (unlabelled, unlabelled is None)


def _renamed(facts: PodFacts, name: str) -> PodFacts:
    found = pod(name) if not facts.bound_policy else pod(name, bound=facts.bound_policy)
    return found if facts.proxy_started or not facts.bound_policy else starting(name, facts.bound_policy)
