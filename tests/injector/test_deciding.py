"""From a review to a verdict: when the cache is enough, when the API server is asked once more, what failures say."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonpatch
import pytest

from fairqueue_api import FairnessPolicy
from fairqueue_operator import deciding as module
from fairqueue_operator.admission import Review, read_review
from fairqueue_operator.cluster_model import ResourceEvent, ResourceList, Unreachable
from fairqueue_operator.deciding import Deciding
from fairqueue_operator.injection import InjectionSettings
from fairqueue_operator.policy_cache import PolicyCache
from fairqueue_operator.verdict import judge_by
from injector.conftest import invalid_policy, pod, policy, review, until
from injector.fake_cluster import FakeCluster

ALLOW = {"annotations": {"fairqueue.dev/on-missing-policy": "Allow"}}
judge = judge_by(InjectionSettings("example.org/proxy:1", "1"))


def asked(object: Any = None, **request: Any) -> Review:
    return read_review(json.dumps(review(object, **request)).encode())


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def cache() -> PolicyCache:
    cache = PolicyCache()
    cache.replace([])
    return cache


@pytest.fixture
def deciding(cluster: FakeCluster, cache: PolicyCache) -> Deciding:
    return Deciding(judge, cache, cluster)


async def test_a_policy_in_the_cache_is_enough(deciding: Deciding, cluster: FakeCluster, cache: PolicyCache) -> None:
    cache.replace([policy()])
    verdict = await deciding.decide(asked())
    assert (verdict.reason, verdict.is_denied, bool(verdict.patch)) == ("injected", False, True)
    assert cluster.calls == []


async def test_a_pod_that_does_not_ask_costs_no_call(deciding: Deciding, cluster: FakeCluster) -> None:
    assert (await deciding.decide(asked(pod({"fairqueue.dev/inject": "false"})))).reason == "not_asked"
    assert (await deciding.decide(asked(operation="UPDATE"))).reason == "not_a_new_pod"
    assert cluster.calls == []


async def test_a_policy_that_the_cache_does_not_know_yet_is_found(deciding: Deciding, cluster: FakeCluster) -> None:
    cluster.policies = [policy(), policy("other", namespace="elsewhere")]
    assert (await deciding.decide(asked())).reason == "injected"
    assert cluster.calls == ["list_policies"]


async def test_policies_of_other_namespaces_are_not_the_pods(deciding: Deciding, cluster: FakeCluster) -> None:
    cluster.policies = [policy(namespace="elsewhere")]
    assert (await deciding.decide(asked())).reason == "missing_policy"


@pytest.mark.parametrize(
    ("cached", "live", "labels", "before"),
    [
        pytest.param([], [policy()], {"fairqueue.dev/policy": "chat"}, "policy_not_found", id="named"),
        pytest.param([policy("a"), policy("b")], [policy("b")], {}, "several_policies", id="one-was-deleted"),
        pytest.param([invalid_policy("a")], [policy("a")], {}, "bad_policy", id="corrected"),
        pytest.param(
            [policy(selector={"matchLabels": {"app": "web"}})],
            [policy()],
            {"fairqueue.dev/policy": "chat"},
            "policy_does_not_select",
            id="selector-was-changed",
        ),
    ],
)
async def test_no_pod_is_denied_for_what_was_true_a_moment_ago(
    deciding: Deciding, cluster: FakeCluster, cache: PolicyCache, cached: Any, live: Any, labels: Any, before: str
) -> None:
    cache.replace(cached)
    assert module.judged(judge, asked(pod(labels)).pod or {}, cache.of("team")).reason == before
    cluster.policies = live
    assert (await deciding.decide(asked(pod(labels)))).reason == "injected"
    assert cluster.calls == ["list_policies"]


async def test_a_pod_without_a_policy_is_denied_after_one_list(deciding: Deciding, cluster: FakeCluster) -> None:
    verdict = await deciding.decide(asked())
    assert (verdict.reason, verdict.code) == ("missing_policy", 403)
    assert cluster.calls == ["list_policies"]


async def test_a_pod_that_may_go_without_gets_the_policy_that_is_there(
    deciding: Deciding, cluster: FakeCluster
) -> None:
    assert (await deciding.decide(asked(pod(**ALLOW)))).reason == "missing_policy_allowed"
    cluster.policies = [policy()]
    assert (await deciding.decide(asked(pod(**ALLOW)))).reason == "injected"


async def test_before_the_cache_is_filled_every_decision_asks(cluster: FakeCluster) -> None:
    cache = PolicyCache()
    cache.apply(ResourceEvent("ADDED", policy("a"), "1"))
    cluster.policies = [policy("a"), policy("b")]
    assert (await Deciding(judge, cache, cluster).decide(asked())).reason == "several_policies"
    cluster.fail["list_policies"] = Unreachable("GET: no answer in time")
    for each in (pod(), pod(**ALLOW)):
        assert (await Deciding(judge, cache, cluster).decide(asked(each))).reason == "policies_unreadable"


async def test_when_the_api_server_cannot_be_asked_the_denial_says_so(deciding: Deciding, cluster: FakeCluster) -> None:
    cluster.fail["list_policies"] = Unreachable("GET: no answer in time")
    verdict = await deciding.decide(asked())
    assert (verdict.reason, verdict.code) == ("policies_unreadable", 503)
    assert "could not be asked" in verdict.message


async def test_what_the_cache_is_sure_of_stands_when_the_api_server_cannot_be_asked(
    deciding: Deciding, cluster: FakeCluster, cache: PolicyCache
) -> None:
    cluster.fail["list_policies"] = Unreachable("GET: no answer in time")
    assert (await deciding.decide(asked(pod(**ALLOW)))).reason == "missing_policy_allowed"
    cache.replace([policy("a"), policy("b")])
    assert (await deciding.decide(asked())).reason == "several_policies"


class Slow(FakeCluster):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def list_policies(self, namespace: str | None = None) -> ResourceList:
        listed = await super().list_policies(namespace)
        await self.go.wait()
        return listed


async def test_a_list_that_takes_too_long_is_given_up(cache: PolicyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIST_SECONDS", 0.02)
    assert (await Deciding(judge, cache, Slow()).decide(asked())).reason == "policies_unreadable"


async def test_few_lists_run_at_a_time(cache: PolicyCache) -> None:
    slow = Slow()
    deciding = Deciding(judge, cache, slow)
    waiting = [asyncio.create_task(deciding.decide(asked())) for _ in range(50)]
    await until(lambda: len(slow.calls) >= 8)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(slow.calls) == 8
    slow.go.set()
    assert {verdict.reason for verdict in await asyncio.gather(*waiting)} == {"missing_policy"}


@pytest.mark.parametrize(
    ("policies", "labels", "reason"),
    [
        pytest.param([invalid_policy("new")], {}, "bad_policy", id="the-only-one"),
        pytest.param([invalid_policy("new", {"matchLabels": {"app": "web"}})], {}, "missing_policy", id="of-others"),
        pytest.param([invalid_policy("new"), policy()], {}, "bad_policy", id="beside-a-usable-one"),
        pytest.param([invalid_policy("new"), policy()], {"fairqueue.dev/policy": "chat"}, "injected", id="not-named"),
        pytest.param([invalid_policy("new"), policy()], {"fairqueue.dev/policy": "new"}, "bad_policy", id="named"),
        pytest.param([invalid_policy("new")], {"fairqueue.dev/inject": "no"}, "not_asked", id="not-asked"),
    ],
)
async def test_a_policy_that_cannot_be_used_is_not_a_missing_one(
    deciding: Deciding, cluster: FakeCluster, policies: Any, labels: Any, reason: str
) -> None:
    cluster.policies = policies
    verdict = await deciding.decide(asked(pod(labels)))
    assert verdict.reason == reason
    if reason == "bad_policy":
        assert "policy team/new: spec.fromTheFuture: unknown field" in verdict.message


async def test_a_pod_that_has_the_proxy_keeps_it_whatever_its_policy_has_become(
    deciding: Deciding, cluster: FakeCluster, cache: PolicyCache
) -> None:
    cache.replace([policy()])
    first = await deciding.decide(asked())
    injected = jsonpatch.apply_patch(pod(), first.patch)
    cluster.policies = [invalid_policy("chat")]
    cache.replace(cluster.policies)
    assert (await deciding.decide(asked(injected))).reason == "already_injected"
    assert cluster.calls == []


@pytest.mark.parametrize("labels", [None, 7, ["x"], {"fairqueue.dev/inject": 1}])
async def test_garbage_as_labels_is_decided_on_beside_an_invalid_policy(
    deciding: Deciding, cluster: FakeCluster, cache: PolicyCache, labels: Any
) -> None:
    cluster.policies = [invalid_policy()]
    cache.replace(cluster.policies)
    assert (await deciding.decide(asked({"metadata": {"labels": labels}, "spec": {}}))).reason == "not_asked"


async def test_a_defect_denies_and_leaves_its_traceback(
    cache: PolicyCache, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(pod: Mapping[str, Any], policies: Sequence[FairnessPolicy]) -> Any:
        raise KeyError("spec")

    verdict = await Deciding(broken, cache, cluster).decide(asked())
    assert (verdict.reason, verdict.code) == ("internal_error", 500)
    assert "KeyError: 'spec'" in caplog.text
    assert caplog.records[-1].fields == {"namespace": "team", "pod": "llm-7f-"}  # type: ignore[attr-defined]


async def test_a_defect_in_reading_what_was_listed_denies_too(
    deciding: Deciding, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, lines: Callable[[str], Any]
) -> None:
    monkeypatch.setattr(module, "read_policies", lambda items: 1 // 0)
    assert (await deciding.decide(asked())).reason == "internal_error"
    assert lines("a pod could not be decided on")
