"""What cannot be is refused, and says what to do."""

import json
from typing import Any

import pytest

from api.policies import policy as smallest_policy
from api.test_rules import EXAMPLES
from suite.installing import install
from suite.kubectl import Kubectl, KubectlError, until
from suite.objects import deployment, engine_pod, key_of, pod, policy, service
from suite.place import Place
from suite.pods import is_injected, wait_ready


@pytest.mark.parametrize(("place_and_message", "example"), EXAMPLES.items(), ids=lambda it: str(it)[:60])
def test_a_policy_that_breaks_a_rule_is_refused_with_its_message(
    system: Kubectl, place_and_message: tuple[str, str], example: tuple[dict[str, Any], dict[str, Any], str]
) -> None:
    kept, broken, _ = example
    where, message = place_and_message
    kubectl = Kubectl("default")
    kubectl.run("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(smallest_policy(**kept)))
    said = refusal_of(kubectl, smallest_policy(**broken))
    assert message in said, where


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"engine": {"kind": "Ollama"}}, 'Unsupported value: "Ollama"'),
        ({"tenants": [{"name": "a", "weight": 1.5}]}, "must be of type integer"),
        ({"tenants": [{"name": "a"}, {"name": "a"}]}, "Duplicate value"),
        ({"tenants": [{"name": "a", "wieght": 2}]}, "unknown field"),
        ({"selector": None}, "Required value"),
        ({"tenants": [{"name": "Not A Label"}]}, "should match"),
    ],
)
def test_a_policy_of_another_shape_is_refused(system: Kubectl, spec: dict[str, Any], words: str) -> None:
    assert words in refusal_of(Kubectl("default"), smallest_policy(**spec))


def test_two_policies_for_one_pod_deny_it_until_its_label_names_one(place: Place) -> None:
    made = place.share({"alice": 1})
    place.kubectl.apply(policy({"alice": 1}, name="another"))
    place.kubectl.apply(service(), deployment(engine_pod()))
    said = until(lambda: [it["message"] for it in place.kubectl.events("FailedCreate")], "why the pod is not there")
    assert any("fairqueue.dev/policy" in message and "another" in message for message in said)
    own = until(lambda: place.kubectl.events("SeveralPolicies"), "an Event on the ReplicaSet")
    assert own[0]["involvedObject"]["kind"] == "ReplicaSet"
    labels = {"fairqueue.dev/policy": made["metadata"]["name"]}
    place.kubectl.apply(deployment(engine_pod(labels=labels)))
    wait_ready(place.kubectl)


def test_a_pod_without_policy_is_denied_with_the_reason(place: Place) -> None:
    said = place.kubectl.refusal(pod(engine_pod(), name="alone"))
    assert "No FairnessPolicy of the namespace selects the pod" in said
    assert "fairqueue.dev/inject" in said


def test_a_pod_without_policy_that_may_starts_without_a_proxy(place: Place) -> None:
    template = engine_pod(annotations={"fairqueue.dev/on-missing-policy": "Allow"}, low_ports=True)
    place.kubectl.apply(pod(template, name="alone"))
    found = wait_ready(place.kubectl)[0]
    assert not is_injected(found)
    assert place.clients.ask(f"http://{found['status']['podIP']}/health").status == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"container": {"command": ["sh", "-c", "text-generation-launcher --port 80"]}}, "shell"),
    ],
    ids=["host network", "shell"],
)
def test_a_pod_that_cannot_be_injected_is_denied_with_the_reason(
    place: Place, change: dict[str, Any], words: str
) -> None:
    place.share({"alice": 1})
    assert words in place.kubectl.refusal(pod(engine_pod(**change), name="odd"))


def test_a_pod_of_a_disabled_policy_starts_as_it_is(place: Place) -> None:
    place.share({"alice": 1}, injection={"mode": "Disabled"})
    template = engine_pod(low_ports=True)
    place.kubectl.apply(deployment(template))
    found = wait_ready(place.kubectl)[0]
    assert not is_injected(found)
    assert json.loads(found["metadata"]["annotations"]["fairqueue.dev/status"])["mode"] == "Disabled"


def test_beside_an_engine_that_keeps_its_port_the_proxy_has_one_of_its_own(place: Place) -> None:
    place.share({"alice": 1}, injection={"mode": "SidecarOnly"})
    template = engine_pod(low_ports=True)
    place.kubectl.apply(service(target="fairqueue"), deployment(template))
    wait_ready(place.kubectl)
    answer = place.clients.generate(place.url(), "alice")
    assert (answer.status, answer.tenant) == (200, "alice")


def test_without_the_webhook_the_second_lock_holds(system: Kubectl, place: Place) -> None:
    place.share({"alice": 1})
    system.run("delete", "mutatingwebhookconfiguration", "fairqueue-injector")
    try:
        said = until(lambda: refused_or_none(place, pod(engine_pod(), name="alone")), "the second lock", seconds=30)
        assert "the pod asks for fairqueue's proxy and has none" in said
    finally:
        install()


def refused_or_none(place: Place, made: dict[str, Any]) -> str | None:
    """What a dry run is refused with, if that is by the second lock."""
    try:
        place.kubectl.dry_run(made)
    except KubectlError as error:
        return str(error) if "has none" in str(error) else None
    return None


def refusal_of(kubectl: Kubectl, made: dict[str, Any]) -> str:
    """What a dry run is refused with."""
    try:
        kubectl.run("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(made))
    except KubectlError as error:
        return str(error)
    raise AssertionError(f"not refused: {made}")


def test_keys_are_not_in_the_events_and_logs(system: Kubectl, place: Place) -> None:
    place.share({"alice": 1})
    place.kubectl.apply(service(), deployment(engine_pod()))
    found = wait_ready(place.kubectl)[0]["metadata"]["name"]
    assert place.clients.generate(place.url(), "alice").status == 200
    said = place.kubectl.logs(found, "fairqueue-proxy") + str(place.kubectl.events())
    assert key_of("alice") not in said
