"""What is kept of a pod, and which pods are none any more."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.planning.pod_facts import PodFacts, read_pod
from planning.making import pod, pod_item


def test_a_pod_with_a_proxy_is_read() -> None:
    item = pod_item("llm-1", {"fairqueue.dev/policy": "chat"}, bound="chat")
    item["status"]["initContainerStatuses"][0]["restartCount"] = 4
    item["metadata"]["annotations"]["fairqueue.dev/config-nudge"] = "abc.1"
    assert read_pod(item) == PodFacts(
        namespace="team",
        name="llm-1",
        uid="uid-llm-1",
        labels={"app": "llm", "fairqueue.dev/inject": "true", "fairqueue.dev/policy": "chat"},
        asks=True,
        policy_label="chat",
        bound_policy="chat",
        address="10.0.0.7",
        proxy_started=True,
        proxy_restarts=4,
        nudge="abc.1",
    )


def test_a_pod_without_labels_status_and_spec_is_read() -> None:
    assert read_pod({"metadata": {"name": "p", "namespace": "n", "uid": "u"}}) == PodFacts(
        "n", "p", "u", {}, False, "", "", "", False, 0, ""
    )


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_none(phase: str) -> None:
    assert read_pod(pod_item(phase=phase)) is None


def test_a_pod_that_is_ending_is_none() -> None:
    item = pod_item(bound="chat")
    item["metadata"]["deletionTimestamp"] = "2026-11-01T12:00:00Z"
    assert read_pod(item) is None


def test_only_the_word_true_asks() -> None:
    assert pod().asks
    assert not pod(labels={"fairqueue.dev/inject": "True"}).asks


def test_a_pod_whose_proxy_is_not_ours_is_bound_to_nothing() -> None:
    """The annotation alone says nothing: anybody can write it into a pod template."""
    item = pod_item(bound="chat")
    item["spec"]["initContainers"] = [{"name": "other", "restartPolicy": "Always"}]
    found = read_pod(item)
    assert found is not None
    assert found.bound_policy == ""


@pytest.mark.parametrize(
    "spec", [None, {}, {"initContainers": [{"name": "fairqueue-proxy"}]}, {"containers": [{"name": "fairqueue-proxy"}]}]
)
def test_without_the_sidecar_what_the_injector_noted_is_not_believed(spec: Any) -> None:
    """An init container of that name that ends, or a container, is none either."""
    item = pod_item(bound="chat")
    item["spec"] = spec
    found = read_pod(item)
    assert found is not None
    assert found.bound_policy == ""


@pytest.mark.parametrize("started", [False, None, "true"])
def test_a_proxy_has_started_when_the_kubelet_says_so(started: Any) -> None:
    assert not pod(bound="chat", initContainerStatuses=[{"name": "fairqueue-proxy", "started": started}]).proxy_started


def test_another_containers_start_is_not_the_proxys() -> None:
    assert not pod(bound="chat", initContainerStatuses=[{"name": "model", "started": True}]).proxy_started


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(JSON, st.sampled_from(["metadata", "spec", "status", "labels", "annotations", "initContainerStatuses"]))
def test_whatever_a_pod_is_reading_it_never_raises(value: Any, where: str) -> None:
    item = pod_item(bound="chat")
    inner = item["metadata"] if where in ("labels", "annotations") else item
    inner = item["status"] if where == "initContainerStatuses" else inner
    inner[where] = value
    found = read_pod(item)
    assert found is None or isinstance(found.bound_policy, str)
