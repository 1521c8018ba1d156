"""The status as it is written: the schema takes it, and a condition's time changes with its status alone."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import jsonschema_rs
from hypothesis import given
from hypothesis import strategies as st

from api.api_server import strict
from fairqueue_api.crd import schema
from fairqueue_api.status import Status
from fairqueue_operator.planning.conditions import has_turned, new_status, same
from fairqueue_operator.planning.judging import Judgement
from fairqueue_operator.planning.programming import PodTotals, Programming
from fairqueue_operator.planning.verdicts import MESSAGE_BYTES, Verdict, verdict
from planning.making import NOW, REVISION, judgement, programming

SCHEMA = jsonschema_rs.validator_for(strict(schema()["properties"]["status"]))
LATER = NOW + timedelta(minutes=5)


def test_a_status_says_all_there_is() -> None:
    assert new_status({}, 3, judgement(), programming(), NOW) == {
        "observedGeneration": 3,
        "configRevision": REVISION,
        "tenants": 2,
        "pods": {"matched": 2, "unlabelled": 0, "injected": 2, "started": 2, "current": 2},
        "conditions": [
            {
                "type": type_,
                "status": "True",
                "observedGeneration": 3,
                "lastTransitionTime": "2026-11-01T12:00:00Z",
                "reason": reason,
                "message": message,
            }
            for type_, reason, message in [
                ("Accepted", "Accepted", "In order."),
                ("Programmed", "Programmed", "It is Programmed."),
                ("Ready", "Programmed", "It is Programmed."),
            ]
        ],
    }


def test_what_is_not_known_is_left_out() -> None:
    found = Programming(
        Verdict("False", "Pending", ""), Verdict("False", "Pending", ""), PodTotals(None, None, 0, 0, 0)
    )
    nothing = Judgement(Verdict("False", "Invalid", ""), None, "", None)
    status = new_status({}, 3, nothing, found, NOW)
    assert status.keys() == {"observedGeneration", "pods", "conditions"}
    assert status["pods"] == {"injected": 0, "started": 0, "current": 0}


def test_a_time_of_transition_changes_with_the_status_alone() -> None:
    old = new_status({}, 3, judgement(), programming("False", "Pending"), NOW)
    status = new_status(old, 4, judgement(), programming("False", "NoMatchingPods"), LATER)
    assert [it["lastTransitionTime"] for it in status["conditions"]] == ["2026-11-01T12:00:00Z"] * 3
    assert {it["observedGeneration"] for it in status["conditions"]} == {4}
    status = new_status(old, 4, judgement(), programming(), LATER)
    assert [it["lastTransitionTime"] for it in status["conditions"]] == [
        "2026-11-01T12:00:00Z",
        "2026-11-01T12:05:00Z",
        "2026-11-01T12:05:00Z",
    ]


def test_others_conditions_are_not_taken_over() -> None:
    foreign = {"type": "Theirs", "status": "True"}
    status = new_status({"conditions": [foreign]}, 3, judgement(), programming(), NOW)
    assert [it["type"] for it in status["conditions"]] == ["Accepted", "Programmed", "Ready"]
    assert same(status, {**status, "conditions": [foreign, *reversed(status["conditions"])]})


def test_every_word_that_changes_is_something_new() -> None:
    status = new_status({}, 3, judgement(), programming(), NOW)
    assert same(status, new_status(status, 3, judgement(), programming(), LATER))
    assert not same(status, new_status(status, 4, judgement(), programming(), LATER))
    assert not same(status, {**status, "tenants": 3})
    assert not same(status, {name: value for name, value in status.items() if name != "tenants"})
    assert not same(status, {**status, "conditions": status["conditions"][:2]})
    changed = {**status["conditions"][0], "message": "Otherwise."}
    assert not same(status, {**status, "conditions": [changed, *status["conditions"][1:]]})
    assert not same({}, status)


def test_a_status_has_turned_with_a_reason_or_a_generation_and_not_with_counts_and_messages() -> None:
    status = new_status({}, 3, judgement(), programming("False", "Pending"), NOW)
    other_reason = new_status(status, 3, judgement(), programming("False", "NoMatchingPods"), NOW)
    assert has_turned({}, status)
    assert has_turned(status, other_reason)
    assert has_turned(status, new_status(status, 3, judgement(), programming("True", "Pending"), NOW))
    assert has_turned(status, new_status(status, 4, judgement(), programming("False", "Pending"), NOW))
    told = replace(programming("False", "Pending"), programmed=Verdict("False", "Pending", "Otherwise."))
    counted = replace(told, pods=PodTotals(9, 9, 9, 9, 9))
    assert not has_turned(status, new_status(status, 3, judgement(revision="b" * 64), counted, LATER))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.just("é" * 40_000)
REASONS = ["Accepted", "Invalid", "Pending", "NoMatchingPods", "PartiallyProgrammed"]
VERDICTS = st.builds(verdict, st.sampled_from(["True", "False", "Unknown"]), st.sampled_from(REASONS), TEXTS)
COUNTS = st.integers(0, 2**31 - 1)
JUDGEMENTS = st.builds(
    Judgement, VERDICTS, st.none(), st.sampled_from(["", REVISION, "b" * 64]), st.none() | st.integers(0, 256)
)
PROGRAMMINGS = st.builds(
    Programming,
    VERDICTS,
    VERDICTS,
    st.builds(PodTotals, st.none() | COUNTS, st.none() | COUNTS, COUNTS, COUNTS, COUNTS),
)


@given(st.lists(st.tuples(st.integers(0, 2**62), JUDGEMENTS, PROGRAMMINGS), min_size=1, max_size=6))
def test_every_status_of_a_history_is_what_the_schema_takes(history: list[tuple[int, Judgement, Programming]]) -> None:
    """The models' schema, and the CRD's; and a condition's time is that of the step at which its status changed."""
    status: dict[str, Any] = {}
    since: dict[str, tuple[str, str]] = {}
    for step, (generation, judged, found) in enumerate(history):
        now = NOW + timedelta(seconds=step)
        status = new_status(status, generation, judged, found, now)
        Status.model_validate(status)
        SCHEMA.validate(status)
        for condition in status["conditions"]:
            assert len(condition["message"].encode()) <= MESSAGE_BYTES
            value, time = condition["status"], condition["lastTransitionTime"]
            if since.get(condition["type"], ("", ""))[0] != value:
                since[condition["type"]] = value, f"{now:%Y-%m-%dT%H:%M:%SZ}"
            assert since[condition["type"]] == (value, time)
        assert same(status, new_status(status, generation, judged, found, now + timedelta(days=1)))
