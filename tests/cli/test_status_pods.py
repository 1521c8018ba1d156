"""Which pods belong to which policy, why one has no proxy, and what a proxy says of itself."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.kubernetes_objects import METRICS, REVISION, pod, policy
from fairqueue_api import SecretDirectory, load_policy, render
from fairqueue_cli.status_pods import Pod, read_pod
from fairqueue_cli.status_policies import divide, read
from fairqueue_cli.status_proxy import ProxyReport, read_report
from fairqueue_operator.injection import InjectionSettings, decide
from fairqueue_operator.injection.names import POLICY_LABEL
from injector.conftest import pod as new_pod
from proxy_stack import serving, write_policy

Json = dict[str, Any]
ASKING = {"app": "engine", "fairqueue.dev/inject": "true"}


def read_one(item: Json) -> Pod:
    found = read_pod(item)
    assert found is not None
    return found


def divided(policies: list[Json], pods: list[Json]) -> tuple[dict[str, list[str]], list[str]]:
    of_each, of_none = divide([*map(read, policies)], [*map(read_one, pods)])
    return {key: [pod.name for pod in found] for key, found in of_each.items()}, [pod.name for pod in of_none]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        pytest.param(pod(), "", id="it has one"),
        pytest.param(pod(bound=None, labels={"app": "engine"}), "it does not ask", id="unlabelled"),
        pytest.param(pod(bound=None), "rollout restart deployment/engine", id="older"),
        pytest.param(
            pod(bound=None, annotations={"fairqueue.dev/status": json.dumps({"mode": "Disabled", "policy": "p"})}),
            "spec.injection.mode of policy p was Disabled",
            id="Disabled",
        ),
        pytest.param(
            pod(bound=None, annotations={"fairqueue.dev/on-missing-policy": "Allow"}), "Allow let it in", id="Allow"
        ),
        pytest.param(pod(bound=None, annotations={"fairqueue.dev/status": "{"}), "older than", id="no JSON"),
        pytest.param(pod(bound=None, annotations={"fairqueue.dev/bound-policy": "x"}), "older than", id="a claim only"),
        pytest.param(
            pod(bound=None, annotations={"fairqueue.dev/status": '{"hash":"h"}'}), "older than", id="no container"
        ),
        pytest.param(
            pod(bound=None) | {"spec": {"initContainers": [{"name": "fairqueue-proxy"}]}}, "older than", id="not ours"
        ),
    ],
)
def test_why_a_pod_has_no_proxy(item: Json, words: str) -> None:
    found = read_one(item)
    assert found.is_injected == (not words)
    assert words in found.why_not
    assert found.is_bare == ("older" in words or "restart" in words)


@pytest.mark.parametrize(
    "item",
    [
        pod(status={"phase": "Succeeded"}),
        pod(status={"phase": "Failed"}),
        pod(deletionTimestamp="2026-11-01T12:00:00Z"),
    ],
)
def test_pods_that_have_ended_or_are_about_to_are_not_shown(item: Json) -> None:
    assert read_pod(item) is None


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_nothing_that_a_pod_says_of_itself_breaks_it(value: Any) -> None:
    for key in ("metadata", "spec", "status"):
        read_pod(pod() | {key: value})
    read_pod(pod(annotations={"fairqueue.dev/status": json.dumps(value)}, bound=None))
    read(policy() | {"status": value})


def test_what_the_injector_makes_is_seen_as_injected() -> None:
    made = policy()
    settings = InjectionSettings(image="i", version="1.2.3")
    asked = new_pod({"app": "engine"}, name="engine", namespace="team")
    decision = decide(asked, [read(made | {"spec": made["spec"] | {"engine": {"kind": "VLLM"}}}).parsed], settings)  # type: ignore[list-item]
    injected = read_one(jsonpatch.apply_patch(asked, [*decision.patch]))
    assert (injected.is_injected, injected.bound, injected.version, injected.why_not) == (True, "shared", "1.2.3", "")


def test_an_injected_pod_is_its_policys_whatever_selectors_say() -> None:
    other = policy("other")
    other["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    assert divided([policy(), other], [pod("a", bound="other"), pod("b", bound="shared")]) == (
        {"team/shared": ["b"], "team/other": ["a"]},
        [],
    )


def test_any_other_pod_is_of_those_that_select_it() -> None:
    pods = [pod("asks", bound=None), pod("plain", bound=None, labels={"app": "engine"})]
    pods += [pod("stranger", bound=None, labels={"app": "web"}), pod("elsewhere", bound=None, namespace="other")]
    assert divided([policy(), policy("second")], pods) == (
        {"team/shared": ["asks", "plain"], "team/second": ["asks", "plain"]},
        ["elsewhere"],
    )


def test_a_pod_may_name_its_policy() -> None:
    pods = [pod("a", bound=None, labels={**ASKING, POLICY_LABEL: "second"})]
    pods += [pod("b", bound=None, labels={**ASKING, POLICY_LABEL: "absent"})]
    assert divided([policy(), policy("second")], pods) == ({"team/shared": [], "team/second": ["a"]}, ["b"])


def test_pods_of_a_policy_that_is_gone_are_of_none() -> None:
    assert divided([], [pod("a")]) == ({}, ["a"])


@pytest.mark.parametrize(
    ("item", "ready"),
    [
        (policy(), True),
        (policy(generation=2), False),
        (policy() | {"status": {}}, False),
        (policy(conditions={"Ready": {"type": "Ready", "status": "Unknown", "observedGeneration": 1}}), False),
    ],
)
def test_a_policy_is_ready_when_its_status_says_so_of_what_it_is_now(item: Json, ready: bool) -> None:
    assert read(item).is_ready == ready


def test_a_proxys_figures_are_sums_over_tenants() -> None:
    assert read_report(METRICS) == ProxyReport("team/shared", REVISION, waiting=7, in_flight=2, failures=0)


@pytest.mark.parametrize(
    "text", ["", "up 1\n", "<html>", "a{", METRICS.replace(" 3\n", " NaN\n"), METRICS.replace(" 3\n", " +Inf\n")]
)
def test_what_is_no_proxy_is_told_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"^what answers there is not fairqueue's proxy$"):
        read_report(text)


@given(st.text() | st.text(alphabet='fairqueue_{}="\\, 01\n#'))
def test_no_text_breaks_it(text: str) -> None:
    for answer in (text, METRICS + text, text + METRICS):
        with suppress(ValueError):
            read_report(answer)


async def test_a_real_proxy_is_understood(tmp_path: Path) -> None:
    policy, secrets = write_policy(tmp_path, tenants=[{"name": "alice"}, {"name": "bob"}])
    config = tmp_path / "config"
    config.mkdir()
    document = render(load_policy(policy), SecretDirectory(secrets))
    (config / "document.json").write_bytes(document.to_json())
    async with serving(9, tmp_path / "log", "--config", config, "--engine-kind", "TGI") as stack:
        metrics = (await stack.get(stack.admin, "/metrics"))[1]
    expected = ProxyReport(document.policy, document.revision, waiting=0, in_flight=0, failures=0)
    assert read_report(metrics) == expected
