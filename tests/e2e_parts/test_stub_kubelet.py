"""What stands in for kubelets in the scale test brings documents as they would, and none before it is there."""

import random

import pytest

from suite.stub_kubelet import AFTER_NUDGE_SECONDS, BY_ITSELF_SECONDS, StubKubelet

ADDRESS, POLICY = "10.77.64.1", "ns/llm"


@pytest.fixture
def kubelet() -> StubKubelet:
    """It has started a pod without a document, at second 0."""
    made = StubKubelet(random.Random(7))
    made.pod_is(ADDRESS, POLICY, "", 0)
    return made


def revision(kubelet: StubKubelet, now: float) -> str | None:
    proxy = kubelet.proxy_at(ADDRESS, now)
    assert proxy is not None
    return proxy.revision


def test_a_pod_has_what_is_there_when_it_starts() -> None:
    kubelet = StubKubelet(random.Random(7))
    kubelet.document_is(POLICY, "one", 0)
    kubelet.pod_is(ADDRESS, POLICY, "", 1)
    assert revision(kubelet, 1) == "one"
    assert kubelet.proxy_at("10.77.64.2", 1) is None


def test_a_document_comes_late_by_itself(kubelet: StubKubelet) -> None:
    kubelet.document_is(POLICY, "one", 100)
    assert revision(kubelet, 100 + BY_ITSELF_SECONDS[0] - 1) is None
    assert revision(kubelet, 100 + BY_ITSELF_SECONDS[1]) == "one"


def test_a_document_comes_soon_after_a_nudge_and_not_at_once(kubelet: StubKubelet) -> None:
    kubelet.document_is(POLICY, "one", 100)
    kubelet.pod_is(ADDRESS, POLICY, "one.1", 100)
    assert revision(kubelet, 100) is None
    assert revision(kubelet, 100 + AFTER_NUDGE_SECONDS[1]) == "one"


def test_the_same_nudge_and_the_same_document_once_more_are_no_news(kubelet: StubKubelet) -> None:
    kubelet.pod_is(ADDRESS, POLICY, "one.1", 10)
    assert revision(kubelet, 20) is None
    kubelet.document_is(POLICY, "one", 20)
    kubelet.pod_is(ADDRESS, POLICY, "one.1", 30)
    kubelet.document_is(POLICY, "one", 50)
    assert revision(kubelet, 79) is None
    assert revision(kubelet, 110) == "one"


def test_a_look_that_was_due_before_a_write_does_not_see_it(kubelet: StubKubelet) -> None:
    kubelet.document_is(POLICY, "one", 100)
    kubelet.pod_is(ADDRESS, POLICY, "one.1", 100)
    kubelet.document_is(POLICY, "two", 110)
    assert revision(kubelet, 110) == "one"
    kubelet.pod_is(ADDRESS, POLICY, "two.1", 115)
    assert revision(kubelet, 116) == "two"


def test_documents_of_other_policies_are_of_no_concern(kubelet: StubKubelet) -> None:
    kubelet.document_is("ns/other", "one", 100)
    kubelet.pod_is(ADDRESS, POLICY, "one.1", 100)
    assert revision(kubelet, 300) is None


def test_an_address_that_another_policys_pod_has_now_is_another_proxy(kubelet: StubKubelet) -> None:
    kubelet.document_is("ns/other", "one", 100)
    kubelet.pod_is(ADDRESS, "ns/other", "", 200)
    assert revision(kubelet, 200) == "one"
