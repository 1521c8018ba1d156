"""The operator has the rights that it needs, and no others: each is taken away once, and something fails for it."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from suite.kubectl import Json, Kubectl, KubectlError, until
from suite.objects import deployment, engine_pod, keys, policy, service
from suite.operators import ACCOUNT, OPERATOR, SELECTOR, leader
from suite.place import Place
from suite.pods import wait_ready
from suite.policies import condition, grant, revoke_grant, reweighed, share, until_ready, until_says, usual_revision

TENANTS = {"alice": 1, "bob": 1}
NUDGE = "fairqueue.dev/config-nudge"
# The one of its own namespace, and that of a grant, are called the same.
OURS, SYSTEM = f"clusterrole/{OPERATOR}", f"role/{OPERATOR}"


def may(kubectl: Kubectl, *what: str) -> bool:
    """As the API server sees it."""
    try:
        return kubectl.run("auth", "can-i", *what, f"--as={ACCOUNT}").strip() == "yes"
    except KubectlError as error:
        # It ends so when the answer is no, and prints nothing on standard error.
        if "exit code 1" in str(error) or "Warning" in str(error):
            return False
        raise


@pytest.mark.parametrize(
    "what",
    [
        ("get", "secrets", "-A"),
        ("list", "secrets", "-A"),
        ("get", "secret/keys"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("get", "secrets", "-n", "fairqueue-system"),
        ("get", "secrets", "-n", "kube-system"),
        ("create", "secrets"),
        ("create", "rolebindings"),
        ("create", "clusterrolebindings"),
        ("patch", "rolebindings"),
        ("create", "roles"),
        ("bind", "roles.rbac.authorization.k8s.io"),
        ("bind", "clusterroles.rbac.authorization.k8s.io"),
        ("escalate", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
        ("create", "serviceaccounts", "--subresource=token"),
        ("create", "pods"),
        ("delete", "pods"),
        ("update", "pods"),
        ("create", "pods", "--subresource=exec"),
        ("create", "pods", "--subresource=portforward"),
        ("create", "pods", "--subresource=eviction"),
        ("patch", "pods", "--subresource=status"),
        ("patch", "pods", "--subresource=ephemeralcontainers"),
        ("patch", "deployments"),
        ("get", "configmaps"),
        ("patch", "fairnesspolicies"),
        ("delete", "fairnesspolicies"),
        ("update", "fairnesspolicies", "--subresource=finalizers"),
        ("get", "nodes"),
        ("patch", "mutatingwebhookconfigurations"),
        ("delete", "validatingadmissionpolicies"),
        ("update", "lease/another", "-n", "fairqueue-system"),
        ("delete", f"lease/{OPERATOR}", "-n", "fairqueue-system"),
    ],
    ids=" ".join,
)
def test_it_may_nothing_else(place: Place, what: tuple[str, ...]) -> None:
    assert may(place.kubectl, "list", "pods", "-A")
    assert not may(place.kubectl, *what)


def test_the_grant_is_for_secrets_of_its_namespace_and_for_no_deletion(place: Place) -> None:
    assert not may(place.kubectl, "get", "secrets")
    grant(place.kubectl)
    verbs = ("get", "list", "watch", "create", "patch")
    assert all(may(place.kubectl, verb, "secrets") for verb in verbs)
    assert not any(may(place.kubectl, verb, "secrets") for verb in ("delete", "deletecollection", "update"))
    assert not any(may(place.kubectl, verb, "secrets", "-A") for verb in verbs)
    assert not any(may(place.kubectl, verb, "secrets", "-n", "default") for verb in verbs)
    assert not may(place.kubectl, "get", "configmaps")
    revoke_grant(place.kubectl)
    until(lambda: not may(place.kubectl, "get", "secrets"), "the right is gone")


@pytest.fixture
def as_the_operator() -> Iterator[str]:
    """Where requests to the API server are made in the operator's name. (`kubectl patch` reads first, which it may
    not.)"""
    command = Kubectl().command("proxy", "--port=0", f"--as={ACCOUNT}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://{process.stdout.readline().split()[-1]}"
        process.terminate()


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of a pod, as a merge patch or, a list, as a JSON patch."""

    change: Json | list[Json]

    def refusal(self, api: str, namespace: str | None, pod: str) -> str:
        """What it is refused with; empty if it was done."""
        kind = "json-patch" if isinstance(self.change, list) else "merge-patch"
        request = urllib.request.Request(
            f"{api}/api/v1/namespaces/{namespace}/pods/{pod}",
            method="PATCH",
            data=json.dumps(self.change).encode(),
            headers={"Content-Type": f"application/{kind}+json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                return str(json.loads(error.read())["message"])


def test_of_a_pod_it_may_change_the_nudge_and_nothing_else(place: Place, as_the_operator: str) -> None:
    share(place.kubectl, TENANTS)
    place.kubectl.apply(service(), deployment(engine_pod(annotations={"mine": "1"})))
    name = until(lambda: place.kubectl.all("pods", "app=engine"), "a pod")[0]["metadata"]["name"]

    def annotated(annotation: str, value: str | None) -> Json:
        return {"metadata": {"annotations": {annotation: value}}}

    def container(field: str, value: object) -> list[Json]:
        return [{"op": "replace", "path": f"/spec/containers/0/{field}", "value": value}]

    before = place.kubectl.get("pod", name)
    refused: dict[str, Json | list[Json]] = {
        "a label": {"metadata": {"labels": {"app": "another"}}},
        "a new label": {"metadata": {"labels": {"new": "1"}}},
        "no label": {"metadata": {"labels": {"fairqueue.dev/inject": None}}},
        "another annotation": annotated("mine", "2"),
        "a new annotation": annotated("new", "1"),
        "an annotation less": annotated("mine", None),
        "which policy it is bound to": annotated("fairqueue.dev/bound-policy", "other"),
        "the nudge and a label": {"metadata": {"annotations": {NUDGE: "1"}, "labels": {"new": "1"}}},
        "the nudge and an image": [*container("image", "other:1"), *set_nudge(before)],
        "an image": container("image", "other:1"),
        "the time it has": {"spec": {"activeDeadlineSeconds": 1}},
        "a toleration": {"spec": {"tolerations": [*before["spec"]["tolerations"], {"operator": "Exists"}]}},
        "owners": {"metadata": {"ownerReferences": None}},
        "a finalizer": {"metadata": {"finalizers": ["example.org/mine"]}},
    }
    for what, change in refused.items():
        said = Patch(change).refusal(as_the_operator, place.kubectl.namespace, name)
        assert "may change nothing of a pod but its annotation" in said, (what, said)
    after = place.kubectl.get("pod", name)
    assert (after["spec"], after["metadata"]["labels"]) == (before["spec"], before["metadata"]["labels"])
    for value in ("one", "another"):
        assert Patch(annotated(NUDGE, value)).refusal(as_the_operator, place.kubectl.namespace, name) == ""
    assert place.kubectl.get("pod", name)["metadata"]["annotations"][NUDGE] == "another"
    # It is about the operator: others may do what they have a right to.
    place.kubectl.run("label", "pod", name, "new=1")


def set_nudge(pod: Json) -> list[Json]:
    """As a JSON patch."""
    name = NUDGE.replace("/", "~1")
    operation = "replace" if NUDGE in pod["metadata"].get("annotations", {}) else "add"
    return [{"op": operation, "path": f"/metadata/annotations/{name}", "value": "1"}]


def test_it_may_not_change_pods_that_no_policy_is_for(place: Place, as_the_operator: str) -> None:
    change = Patch({"metadata": {"labels": {"app": "other"}}})
    assert "may change nothing" in change.refusal(as_the_operator, place.kubectl.namespace, "client")


def complains(system: Kubectl, verb: str, resource: str) -> None:
    """An operator's log says that it has no right to it."""
    said = re.compile(rf'cannot {verb} resource \\*"{resource}\\*"')
    until(
        lambda: said.search(system.run("logs", "-l", SELECTOR, "--since=30s", "--tail=-1")),
        f"a log that says: cannot {verb} {resource}",
        seconds=60,
        every=1,
    )


def restart(system: Kubectl, _place: Place) -> None:
    """All of them, at once."""
    system.run("delete", "pods", "-l", SELECTOR, "--grace-period=1")


def delete_the_lease(system: Kubectl, place: Place) -> None:
    system.run("delete", "lease", OPERATOR)
    restart(system, place)


def share_and_change(_system: Kubectl, place: Place) -> None:
    """Whatever there is to do for a policy."""
    made = share(place.kubectl, TENANTS)
    place.kubectl.apply(service(), deployment(engine_pod()))
    wait_ready(place.kubectl, seconds=120)
    place.kubectl.apply(reweighed(made, {"bob": 3}))


# Which role, the rule's verb and resource, when it is needed.
RULES: list[tuple[str, str, str, Callable[[Kubectl, Place], None]]] = [
    (OURS, "list", "fairnesspolicies", restart),
    (OURS, "watch", "fairnesspolicies", restart),
    (OURS, "patch", "fairnesspolicies/status", share_and_change),
    (OURS, "list", "pods", restart),
    (OURS, "watch", "pods", restart),
    (OURS, "patch", "pods", share_and_change),
    (OURS, "create", "events", share_and_change),
    (SYSTEM, "get", "leases", restart),
    (SYSTEM, "update", "leases", restart),
    (SYSTEM, "create", "leases", delete_the_lease),
]
GRANTED = {"list", "watch", "get", "create", "patch"}


def rules(kubectl: Kubectl, role: str) -> list[dict[str, list[str]]]:
    found: list[dict[str, list[str]]] = json.loads(kubectl.run("get", role, "-o", "json"))["rules"]
    return found


def without_verb(held: list[dict[str, list[str]]], resource: str, verb: str) -> list[dict[str, list[str]]]:
    """The same rules, but for that."""
    for rule in held:
        if resource in rule["resources"] and verb in rule["verbs"]:
            rule["verbs"].remove(verb)
    return [rule for rule in held if rule["verbs"]]


def patch(kubectl: Kubectl, role: str, held: list[dict[str, list[str]]]) -> None:
    change = json.dumps([{"op": "replace", "path": "/rules", "value": held}])
    kubectl.run("patch", role, "--type=json", "-p", change)


def test_the_rules_are_those_that_are_taken_away_below(system: Kubectl, place: Place) -> None:
    grant(place.kubectl)
    held = {
        (role, verb, resource)
        for role in (OURS, SYSTEM)
        for rule in rules(system, role)
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert held == {(role, verb, resource) for role, verb, resource, _ in RULES}
    (rule,) = rules(place.kubectl, SYSTEM)
    assert (rule["apiGroups"], rule["resources"], set(rule["verbs"])) == ([""], ["secrets"], GRANTED)


@pytest.fixture
def mended(system: Kubectl, place: Place) -> Iterator[None]:
    """Rights and operators are as they were, afterwards."""
    before = {role: rules(system, role) for role in (OURS, SYSTEM)}
    yield
    for role, held in before.items():
        patch(system, role, held)
    restart(system, place)
    system.run("rollout", "status", f"deployment/{OPERATOR}", "--timeout=60s")
    leader(system)


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize(
    ("role", "verb", "resource", "need"), RULES, ids=[f"{verb} {resource}" for _, verb, resource, _ in RULES]
)
def test_without_a_right_something_fails(
    system: Kubectl, place: Place, role: str, verb: str, resource: str, need: Callable[[Kubectl, Place], None]
) -> None:
    patch(system, role, without_verb(rules(system, role), resource, verb))
    need(system, place)
    complains(system, verb, resource)


@pytest.mark.parametrize("verb", sorted(GRANTED - {"patch"}))
def test_without_a_part_of_the_grant_the_policy_says_which(place: Place, verb: str) -> None:
    grant(place.kubectl)
    patch(place.kubectl, SYSTEM, without_verb(rules(place.kubectl, SYSTEM), "secrets", verb))
    place.kubectl.apply(keys(list(TENANTS)), policy(TENANTS))
    denied(place.kubectl, verb)


def test_without_the_right_to_change_its_document_the_policy_says_so(place: Place) -> None:
    made = share(place.kubectl, TENANTS)
    until_says(place.kubectl, "Accepted", "True", "Accepted")
    patch(place.kubectl, SYSTEM, without_verb(rules(place.kubectl, SYSTEM), "secrets", "patch"))
    place.kubectl.apply(reweighed(made, {"bob": 3}))
    denied(place.kubectl, "patch")


def denied(kubectl: Kubectl, verb: str) -> None:
    """The policy says so, and what has to be given."""
    if verb in ("create", "patch"):
        kind, reason = "Programmed", "DocumentNotWritten"
    else:
        kind, reason = "Accepted", "SecretAccessDenied"
    message = condition(until_says(kubectl, kind, "False", reason), kind)["message"]
    assert f'cannot {verb} resource "secrets"' in message
    assert f"kubectl apply -k manifests/overlays/tenant-namespace -n {kubectl.namespace}" in message


def test_what_is_missing_of_the_grant_is_found_when_it_is_there(place: Place) -> None:
    """The way back: nothing that was denied stays so."""
    made = share(place.kubectl, TENANTS)
    before = rules(place.kubectl, SYSTEM)
    changed = reweighed(made, {"bob": 3})
    for verb in ("patch", "list", "get"):
        patch(place.kubectl, SYSTEM, without_verb(rules(place.kubectl, SYSTEM), "secrets", verb))
    place.kubectl.apply(changed, service(), deployment(engine_pod()))
    denied(place.kubectl, "patch")
    patch(place.kubectl, SYSTEM, before)
    until_ready(place.kubectl, pods=1, revision=usual_revision(changed))
