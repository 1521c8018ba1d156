"""Pods that ask for the proxy and have none: which these are, what is said of them, and that they are looked for."""

import asyncio
import random
from typing import Any

import pytest

from fairqueue_operator.bare_pod_watch import BarePodWatch
from fairqueue_operator.bare_pods import is_bare, note_on
from fairqueue_operator.cluster_model import Unreachable
from fairqueue_operator.event_notes import INJECTOR
from fairqueue_operator.event_poster import EventPoster
from injector.conftest import Clock, until
from injector.fake_cluster import FakeCluster

Json = dict[str, Any]
OF_REPLICA_SET = {"kind": "ReplicaSet", "name": "llm-7f9c", "controller": True}


def pod(*, labels: Json | None = None, annotations: Json | None = None, **metadata: Any) -> Json:
    asking = {"fairqueue.dev/inject": "true", "pod-template-hash": "7f9c"}
    return {
        "metadata": {
            "name": "llm-7f9c-x",
            "namespace": "team",
            "uid": "uid-x",
            "labels": asking if labels is None else labels,
            **({"annotations": annotations} if annotations is not None else {}),
            **metadata,
        }
    }


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(pod(), True, id="nothing says why"),
        pytest.param(pod(annotations={"a": "b"}), True, id="another annotation"),
        pytest.param(pod(annotations={"fairqueue.dev/status": "{}"}), False, id="injected or disabled"),
        pytest.param(pod(annotations={"fairqueue.dev/on-missing-policy": "Allow"}), False, id="may be"),
        pytest.param(pod(annotations={"fairqueue.dev/on-missing-policy": "Deny"}), True, id="may not be"),
        pytest.param(pod(labels={"fairqueue.dev/inject": "false"}), False, id="does not ask"),
        pytest.param(pod(deletionTimestamp="2026-11-01T12:00:00Z"), False, id="on its way out"),
        pytest.param({}, False, id="no pod"),
        pytest.param({"metadata": {"labels": None}}, False, id="nothing in it"),
    ],
)
def test_bare_is_what_asks_and_has_none_without_a_reason(found: Json, expected: bool) -> None:
    assert is_bare(found) == expected


@pytest.mark.parametrize(
    ("owners", "command"),
    [
        ([OF_REPLICA_SET], "kubectl -n team rollout restart deployment/llm"),
        ([{**OF_REPLICA_SET, "name": "own"}], "kubectl -n team delete pod llm-7f9c-x (ReplicaSet own makes another)"),
        (
            [{"kind": "StatefulSet", "name": "llm", "controller": True}],
            "kubectl -n team rollout restart statefulset/llm",
        ),
        ([{"kind": "DaemonSet", "name": "llm", "controller": True}], "kubectl -n team rollout restart daemonset/llm"),
        (
            [{"kind": "Job", "name": "j", "controller": True}],
            "kubectl -n team delete pod llm-7f9c-x (Job j makes another)",
        ),
        ([{"kind": "ReplicaSet", "name": "llm-7f9c"}], "kubectl -n team delete pod llm-7f9c-x, and apply it again"),
        (None, "kubectl -n team delete pod llm-7f9c-x, and apply it again"),
    ],
)
def test_the_note_is_on_the_pod_and_names_the_command_that_replaces_it(owners: list[Json] | None, command: str) -> None:
    note = note_on(pod(ownerReferences=owners))
    assert (note.owner, note.namespace, note.reason) == (("v1", "Pod", "llm-7f9c-x", "uid-x"), "team", "NotInjected")
    assert note.text.endswith(f"To replace it: {command}")


async def test_they_are_looked_for_again_and_again_counted_and_told_of_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = FakeCluster()
    cluster.pods = [pod(), pod(name="other", annotations={"fairqueue.dev/status": "{}"})]
    poster = EventPoster(cluster, INJECTOR, "injector-0", clock, lambda: 0.0)
    counts: list[int] = []
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        cluster.fail = {"asking_pods": Unreachable("no answer in time")} if len(waits) in (3, 4) else {}
        await asyncio.sleep(0)

    tasks = [
        asyncio.create_task(poster.run()),
        asyncio.create_task(BarePodWatch(cluster, poster, counts.append).run(pause, random.Random(1))),
    ]
    await until(lambda: len(waits) >= 6)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert counts[:3] == [1, 1, 1]
    assert [made["regarding"]["name"] for _, made in cluster.events] == ["llm-7f9c-x"]
    # It does not say each minute that it fails.
    assert [record.getMessage() for record in caplog.records].count("pods without the proxy cannot be looked for") == 1
    assert waits[0] <= 5.0
    assert all(54 <= wait <= 66 for wait in waits[1:])
