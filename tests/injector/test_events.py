"""Events about pods: on whom, what they say, and that a controller that tries again and again makes few."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.admission import Review, read_review
from fairqueue_operator.cluster_model import Forbidden
from fairqueue_operator.event_notes import INJECTOR, OPERATOR, Note, event, notes_on
from fairqueue_operator.event_poster import EventPoster
from fairqueue_operator.injection import Reason
from fairqueue_operator.verdict import Verdict, Warning, denied
from injector.conftest import START, Clock, pod, review, until
from injector.fake_cluster import FakeCluster

DENIED = denied(Reason.MISSING_POLICY, "apply one")


def asked(object: Any = None, **request: Any) -> Review:
    return read_review(json.dumps(review(object, **request)).encode())


def note(number: int = 0) -> Note:
    return Note("team", ("apps/v1", "ReplicaSet", f"llm-{number}", "uid"), "MissingPolicy", "apply one")


def test_a_denial_is_noted_on_the_pods_owner() -> None:
    (found,) = notes_on(asked(), DENIED)
    made = event(found, INJECTOR, "injector-0", START)
    assert made["regarding"] == {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "llm-7f",
        "uid": "uid-7f",
        "namespace": "team",
    }
    assert made["metadata"]["namespace"] == "team"
    assert made["eventTime"] == "2026-11-01T12:00:00.000000Z"
    assert (made["reason"], made["note"], made["type"]) == ("MissingPolicy", "missing_policy: apply one", "Warning")
    assert (made["reportingController"], made["reportingInstance"]) == ("fairqueue.dev/injector", "injector-0")


def test_the_operator_reports_as_itself_and_of_good_things_too() -> None:
    owner = ("fairqueue.dev/v1alpha1", "FairnessPolicy", "chat", "uid")
    made = event(Note("team", owner, "Ready", "It is.", "Normal"), OPERATOR, "operator-0", START)
    assert (made["type"], made["action"], made["reportingController"], made["reportingInstance"]) == (
        "Normal",
        "Reconcile",
        "fairqueue.dev/operator",
        "operator-0",
    )
    assert made["metadata"]["name"].startswith("fairqueue-operator.")


def test_warnings_are_noted_each() -> None:
    verdict = Verdict(Reason.INJECTED, warnings=(Warning("OwnPreStop", "a"), Warning("SysctlLowered", "b")))
    assert [found.reason for found in notes_on(asked(), verdict)] == ["OwnPreStop", "SysctlLowered"]
    assert list(notes_on(asked(), Verdict(Reason.INJECTED))) == []


def test_of_a_dry_run_or_a_pod_without_an_owner_nothing_is_noted() -> None:
    assert list(notes_on(asked(dryRun=True), DENIED)) == []
    assert list(notes_on(asked(pod(ownerReferences=[])), DENIED)) == []
    assert list(notes_on(asked(pod(ownerReferences=[{"kind": "Job"}])), DENIED)) == []


def test_pods_of_one_owner_differ_by_nothing_in_their_notes() -> None:
    assert set(notes_on(asked(pod(name="a"), uid="1"), DENIED)) == set(notes_on(asked(pod(name="b"), uid="2"), DENIED))


@given(st.text(max_size=3000))
def test_a_note_is_never_longer_than_an_event_can_hold(text: str) -> None:
    (found,) = notes_on(asked(), denied(Reason.BAD_POD, text))
    assert len(found.text.encode()) <= 1024


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def poster(cluster: FakeCluster, clock: Clock) -> AsyncIterator[EventPoster]:
    poster = EventPoster(cluster, INJECTOR, "injector-0", clock, clock.monotonic)
    task = asyncio.create_task(poster.run())
    yield poster
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_same_is_told_once_in_ten_minutes(poster: EventPoster, cluster: FakeCluster, clock: Clock) -> None:
    """A ReplicaSet that tries every second for an hour."""
    for _ in range(3600):
        poster.tell([note()])
        await asyncio.sleep(0)
        clock.advance(seconds=1)
    await until(lambda: len(cluster.events) >= 6)
    assert len(cluster.events) == 6
    assert len({made["metadata"]["name"] for _, made in cluster.events}) == 6


async def test_what_is_told_again_while_it_is_being_written_is_written_once(
    poster: EventPoster, cluster: FakeCluster
) -> None:
    cluster.before["create_event"] = lambda: poster.tell([note()])
    poster.tell([note()])
    await until(lambda: cluster.events != [])
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(cluster.events) == 1


async def test_what_cannot_be_written_is_logged_and_the_next_is_written(
    poster: EventPoster, cluster: FakeCluster, lines: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    cluster.fail["create_event"] = Forbidden("POST events: 403")
    poster.tell([note(1)])
    await until(lambda: cluster.calls == ["create_event"])
    del cluster.fail["create_event"]
    cluster.before["create_event"] = lambda: 1 // 0  # type: ignore[assignment,return-value]
    poster.tell([note(2)])
    poster.tell([note(3)])
    await until(lambda: len(cluster.events) == 1)
    assert lines("an Event could not be written")[0] == {"reason": "MissingPolicy", "error": "POST events: 403"}
    assert "ZeroDivisionError" in caplog.text
