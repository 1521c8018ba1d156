"""Policy, grant, keys and pods may come in any order: with the last of them the policy is Ready, and says so."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from suite.kubectl import Json, Kubectl, until
from suite.objects import deployment, engine_pod, key_of, keys, pod, policy, secret, service
from suite.place import Place
from suite.pods import is_injected, ready_pods
from suite.policies import (
    DOCUMENT_SECRET,
    condition,
    counts,
    grant,
    placed,
    reasons,
    revision_of,
    table,
    until_ready,
    until_says,
    until_served,
)

TENANTS = {"alice": 1, "bob": 3}
REPLICAS = 2
READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that somebody applies, and what is true while it is all that is missing."""

    apply: Callable[[Kubectl], None]
    missing: Callable[[Kubectl], object]


def apply_pods(kubectl: Kubectl) -> None:
    kubectl.apply(service(), deployment(engine_pod(), replicas=REPLICAS))


def no_pods(kubectl: Kubectl) -> None:
    found = until_says(kubectl, "Ready", "False", "NoMatchingPods")
    assert reasons(found)["Accepted"] == ("True", "Accepted")
    assert counts(found) == {"matched": 0, "unlabelled": 0, "injected": 0, "started": 0, "current": 0}


def no_policy(kubectl: Kubectl) -> None:
    until(lambda: kubectl.events("MissingPolicy"), "an Event that there is no policy")


def no_keys(kubectl: Kubectl) -> None:
    said = condition(until_says(kubectl, "Ready", "False", "UnresolvedSecret"), "Accepted")["message"]
    assert f"kubectl -n {kubectl.namespace} create secret generic keys" in said


def no_grant(kubectl: Kubectl) -> None:
    said = condition(until_says(kubectl, "Ready", "False", "SecretAccessDenied"), "Accepted")["message"]
    assert f"kubectl apply -k manifests/overlays/tenant-namespace -n {kubectl.namespace}" in said


STEPS = {
    "policy": Step(lambda it: it.apply(policy(TENANTS)), no_policy),
    "grant": Step(grant, no_grant),
    "keys": Step(lambda it: it.apply(keys(list(TENANTS))), no_keys),
    "pods": Step(apply_pods, no_pods),
}


def rotated(count: int) -> list[str]:
    """All steps, each the last of one of these orders."""
    names = list(STEPS)
    return names[count:] + names[:count]


def test_whatever_comes_last_the_policy_is_ready_within_a_minute(
    place: Place, new_namespace: Callable[[], Kubectl]
) -> None:
    orders = {tuple(rotated(count)): new_namespace() for count in range(len(STEPS))}
    for order, kubectl in orders.items():
        for name in order[:-1]:
            STEPS[name].apply(kubectl)
    for order, kubectl in orders.items():
        STEPS[order[-1]].missing(kubectl)
        assert not ready_pods(kubectl)
    last_at = {}
    for order, kubectl in orders.items():
        STEPS[order[-1]].apply(kubectl)
        last_at[order] = time.monotonic()
    took = {}
    for order, kubectl in orders.items():
        left = READY_SECONDS - (time.monotonic() - last_at[order])
        found = until_served(Place(kubectl, place.clients), pods=REPLICAS, seconds=left)
        took[order] = time.monotonic() - last_at[order]
        check(place, kubectl, found)
    for order, seconds in took.items():
        print(f"{', '.join(order)}: Ready and serving {seconds:.1f} s after the last")
    assert all(seconds <= READY_SECONDS for seconds in took.values())


def check(place: Place, kubectl: Kubectl, found: Json) -> None:
    """All that is said of it is so."""
    assert counts(found) == {
        "matched": REPLICAS,
        "unlabelled": 0,
        "injected": REPLICAS,
        "started": REPLICAS,
        "current": REPLICAS,
    }
    assert reasons(found) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("True", "Programmed"),
        "Ready": ("True", "Ready"),
    }
    pods = ready_pods(kubectl)
    assert len(pods) == REPLICAS
    assert all(map(is_injected, pods))
    check_document(kubectl, found)
    (row,) = table(kubectl, "-o", "wide")
    shown = {name: row[name] for name in ("NAME", "ENGINE", "TENANTS", "PODS", "CURRENT", "READY", "REASON")}
    assert shown == {
        "NAME": "shared",
        "ENGINE": "TGI",
        "TENANTS": "2",
        "PODS": str(REPLICAS),
        "CURRENT": str(REPLICAS),
        "READY": "True",
        "REASON": "Ready",
    }
    url = Place(kubectl, place.clients).url()
    for tenant in TENANTS:
        answer = place.clients.generate(url, tenant)
        assert (answer.status, answer.tenant) == (200, tenant)
    assert place.clients.generate(url, "nobody").status == 401


def check_document(kubectl: Kubectl, found: Json) -> None:
    """The operator has written it, for the policy to own, and it is that of these keys."""
    stored = json.loads(kubectl.run("get", "secret", DOCUMENT_SECRET, "-o", "json", "--show-managed-fields"))
    (owner,) = stored["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("FairnessPolicy", found["metadata"]["uid"])
    assert {it["manager"] for it in stored["metadata"]["managedFields"]} == {"fairqueue-operator"}
    content = {"keys": {tenant: key_of(tenant) for tenant in TENANTS}}
    assert found["status"]["configRevision"] == revision_of(placed(kubectl, policy(TENANTS)), content)


def test_status_counts_pods_that_do_not_ask_and_says_what_they_lack(place: Place) -> None:
    grant(place.kubectl)
    place.kubectl.apply(policy(TENANTS), keys(list(TENANTS)), service(), deployment(engine_pod()))
    until_ready(place.kubectl, pods=1)
    names = ("bare-one", "bare-two")
    place.kubectl.apply(*(pod(engine_pod(inject=False, low_ports=True), name=it) for it in names))
    # They are not watched: those would be all pods of the cluster.
    wanted = {"matched": 3, "unlabelled": 2, "injected": 1, "started": 1, "current": 1}
    found = until(
        lambda: it if counts(it := place.kubectl.get("fpol", "shared")) == wanted else None,
        "a status that counts them",
        seconds=90,
    )
    assert reasons(found)["Ready"] == ("True", "Ready")
    assert "fairqueue.dev/inject" in condition(found, "Programmed")["message"]
    place.kubectl.delete("pod", *names)
    until(lambda: counts(place.kubectl.get("fpol", "shared"))["unlabelled"] == 0, "a status without them", seconds=90)


def test_keys_of_the_operators_documents_are_in_no_status_event_or_log(system: Kubectl, place: Place) -> None:
    engine_key = "key-of-the-engine"
    made = policy(TENANTS, engine={"apiKeySecretRef": {"name": "engine-key", "key": "key"}})
    grant(place.kubectl)
    place.kubectl.apply(
        made,
        keys(list(TENANTS)),
        secret("engine-key", {"key": engine_key}, {"fairqueue.dev/engine-key": "true"}),
        service(),
        deployment(engine_pod()),
    )
    found = until_ready(place.kubectl, pods=1)
    said = str(found) + str(place.kubectl.events())
    said += system.run("logs", "-l", "app.kubernetes.io/name=fairqueue-operator", "--tail=-1")
    assert engine_key not in said
    assert all(key_of(tenant) not in said for tenant in TENANTS)
