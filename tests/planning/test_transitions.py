"""Which Events tell of a policy, and of pods that it left behind."""

from dataclasses import replace
from typing import Any

import pytest

from fairqueue_operator.event_notes import NOTE_BYTES, Note
from fairqueue_operator.planning.conditions import new_status
from fairqueue_operator.planning.orphans import notes_on_orphans
from fairqueue_operator.planning.transitions import notes_of
from fairqueue_operator.planning.verdicts import Verdict
from planning.making import NOW, judgement, pod, policy, programming

OWNER = "fairqueue.dev/v1alpha1", "FairnessPolicy", "chat", "uid-chat"
READY = Verdict("True", "Ready", "It is Ready.")


def status(accepted: Verdict | None = None, *found: Any) -> dict[str, Any]:
    return new_status({}, 3, judgement(accepted), programming(*found), NOW)


def told(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str]]:
    return [(note.type, note.reason) for note in notes_of(policy(), old, new)]


def test_a_condition_that_changes_is_told_on_the_policy() -> None:
    old, new = status(None, "False", "Pending"), status(None, "True", "Programmed", READY)
    assert notes_of(policy(), old, new) == [
        Note("team", OWNER, "Programmed", "It is Programmed.", "Normal"),
        Note("team", OWNER, "Ready", "It is Ready.", "Normal"),
    ]


def test_the_first_status_is_told_and_what_two_conditions_say_is_told_once() -> None:
    invalid = Verdict("False", "Invalid", "spec.mode: wrong")
    new = new_status({}, 3, judgement(invalid), programming("False", "Pending", invalid), NOW)
    assert told({}, new) == [("Warning", "Invalid"), ("Normal", "Pending")]


def test_a_reason_that_changes_is_told() -> None:
    old, new = status(None, "False", "PartiallyProgrammed"), status(None, "False", "NoMatchingPods")
    assert told(old, new) == [("Warning", "NoMatchingPods")]
    assert told(new, old) == [("Normal", "PartiallyProgrammed")]


@pytest.mark.parametrize("reason", ["PartiallyProgrammed", "ProxiesRefuse"])
def test_proxies_that_refuse_a_document_are_a_warning_also_where_only_that_is_new(reason: str) -> None:
    refused = Verdict(
        "False", reason, "1 of 3 proxies on revision aaaaaaaaaaaa (refused by 1): llm-3 has a problem: x."
    )
    passing = status(None, "False", "PartiallyProgrammed")
    refusing = new_status({}, 3, judgement(), replace(programming(), programmed=refused, ready=refused), NOW)
    assert told(passing, refusing) == [("Warning", reason)]
    assert told(refusing, refusing) == []
    assert told(refusing, passing) == [("Normal", "PartiallyProgrammed")]


def test_a_document_that_cannot_be_written_is_a_warning() -> None:
    assert told(status(None, "False", "Pending"), status(None, "False", "DocumentNotWritten")) == [
        ("Warning", "DocumentNotWritten")
    ]


def test_other_words_times_and_counts_are_not_told() -> None:
    old = status()
    new = {**old, "tenants": 9, "observedGeneration": 9}
    new["conditions"] = [
        {**condition, "message": "Otherwise.", "lastTransitionTime": "2026-12-01T00:00:00Z", "observedGeneration": 9}
        for condition in old["conditions"]
    ]
    assert told(old, new) == []


def test_a_status_that_changes_is_told_though_the_reason_stays() -> None:
    unknown = Verdict("Unknown", "Pending", "The Secrets are being read.")
    old = new_status({}, 3, judgement(unknown), programming(), NOW)
    assert told(old, status(Verdict("False", "Pending", "Otherwise."))) == [("Normal", "Pending")]


def test_a_note_is_never_longer_than_an_event_can_hold() -> None:
    (note, *_) = notes_of(policy(), {}, status(Verdict("False", "Invalid", "é" * 1000)))
    assert note.text == "é" * 510 + "…"
    assert len(note.text.encode()) <= NOTE_BYTES


def test_pods_of_a_policy_that_is_gone_are_told_of_on_themselves() -> None:
    pods = [pod("llm-1", bound="gone"), pod("llm-2", bound="chat"), pod("llm-3")]
    assert notes_on_orphans(pods, {"chat"}) == [
        Note(
            "team",
            ("v1", "Pod", "llm-1", "uid-llm-1"),
            "PolicyDeleted",
            "FairnessPolicy gone is not there any more: the pod's proxy keeps its last order. Apply the policy again, "
            "or, when another one is to apply: kubectl -n team delete pod llm-1",
        )
    ]
    assert notes_on_orphans(pods, {"chat", "gone"}) == []


def test_a_long_name_leaves_the_note_short_enough() -> None:
    (note,) = notes_on_orphans([pod("p" * 253, bound="b" * 253)], ())
    assert len(note.text.encode()) <= NOTE_BYTES
