"""Policies that cannot be in force, or are for nobody: what they say, and that nothing else suffers."""

import re
import time
from collections.abc import Callable

from suite.kubectl import Json, Kubectl, until
from suite.objects import deployment, engine_pod, keys, policy, service
from suite.operators import leader, orphaned_pods, scraped, writes
from suite.place import Place
from suite.pods import view, wait_ready
from suite.policies import (
    DOCUMENT_SECRET,
    condition,
    counts,
    grant,
    keyed,
    placed,
    reasons,
    reweighed,
    share,
    until_ready,
    until_says,
    until_served,
    usual_revision,
)

TENANTS = {"alice": 1, "bob": 1}
REPLICAS = 2
JWT = {
    "name": "token",
    "type": "JWT",
    "jwt": {"issuer": "https://issuer.example.org", "audiences": ["llm"], "tenantClaim": "team"},
}
API_KEY = {"name": "key", "type": "APIKey", "apiKey": {}}
QUIET_SECONDS = 60.0


def running(place: Place) -> Json:
    """A policy that is Ready, on its pods."""
    made = share(place.kubectl, TENANTS)
    place.kubectl.apply(service(), deployment(engine_pod(), replicas=REPLICAS))
    until_served(place, pods=REPLICAS)
    return made


def test_a_selector_that_matches_nothing_is_accepted_and_says_that_there_is_no_pod(place: Place) -> None:
    share(place.kubectl, TENANTS, app="nothing-is-called-so")
    found = until_says(place.kubectl, "Ready", "False", "NoMatchingPods")
    assert reasons(found)["Accepted"] == ("True", "Accepted")
    print(condition(found, "Programmed")["message"])
    # The document is there before the first pod is.
    assert place.kubectl.get("secret", DOCUMENT_SECRET)["data"]


def test_a_field_that_is_not_supported_leaves_what_is_stored_in_force(place: Place) -> None:
    made = running(place)
    before = place.kubectl.get("secret", DOCUMENT_SECRET)
    place.kubectl.apply({**made, "spec": {**made["spec"], "identity": {"sources": [API_KEY, JWT]}}})
    found = until_says(place.kubectl, "Accepted", "False", "NotSupported")
    message = condition(found, "Accepted")["message"]
    print(message)
    assert "spec.identity.sources[1]" in message
    assert "not supported yet" in message
    assert reasons(found)["Ready"] == ("False", "NotSupported")
    after = place.kubectl.get("secret", DOCUMENT_SECRET)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    for tenant in TENANTS:
        assert place.clients.generate(place.url(), tenant).status == 200
    place.kubectl.apply(reweighed(made, {"bob": 2}))
    until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(reweighed(made, {"bob": 2})))


def test_of_two_policies_for_a_pod_that_runs_the_newer_one_conflicts_and_the_older_one_stays(place: Place) -> None:
    made = running(place)
    # Older by more than the second that creation times are told in.
    time.sleep(1.1)
    place.kubectl.apply(policy({"alice": 5}, name="newer"))
    found = until_says(place.kubectl, "Accepted", "False", "Conflicted", name="newer")
    message = condition(found, "Accepted")["message"]
    print(message)
    names = [it["metadata"]["name"] for it in wait_ready(place.kubectl, REPLICAS)]
    assert any(name in message for name in names)
    assert "shared" in message
    assert "fairqueue.dev/policy" in message
    until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(made))
    place.kubectl.delete("fpol", "shared")
    # Now it has the pods that it selects, but their proxies go by the one that they were made for.
    found = until_says(place.kubectl, "Accepted", "True", "Accepted", name="newer")
    assert counts(found)["injected"] == 0


def test_pods_of_a_deleted_policy_keep_their_last_order_until_it_is_there_again(system: Kubectl, place: Place) -> None:
    made = running(place)
    pods = wait_ready(place.kubectl, REPLICAS)
    before = orphaned_pods(system, place.clients)
    place.kubectl.delete("fpol", "shared")
    told = until(
        lambda: found if len(found := place.kubectl.events("PolicyDeleted")) >= REPLICAS else None,
        "an Event on each pod",
    )
    assert {it["involvedObject"]["name"] for it in told} == {it["metadata"]["name"] for it in pods}
    print(told[0]["message"])
    until(lambda: orphaned_pods(system, place.clients) == before + REPLICAS, "a metric that counts them")
    until(lambda: not place.kubectl.all("secrets", "app.kubernetes.io/managed-by=fairqueue"), "its document is gone")
    time.sleep(5)
    views = [view(place.clients, pod) for pod in pods]
    assert [it.config()["revision"] for it in views] == [usual_revision(made)] * REPLICAS
    for tenant in TENANTS:
        assert place.clients.generate(place.url(), tenant).status == 200
    assert place.clients.generate(place.url(), "nobody").status == 401
    changed = reweighed(made, {"bob": 7})
    began = time.monotonic()
    place.kubectl.apply(changed)
    until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(changed))
    print(f"Ready {time.monotonic() - began:.1f} s after it was created again")
    assert [it.config()["revision"] for it in views] == [usual_revision(changed)] * REPLICAS
    until(lambda: orphaned_pods(system, place.clients) == before, "a metric that counts them no more")


def test_a_policy_that_is_deleted_and_created_at_once_is_another_one_with_the_same_pods(place: Place) -> None:
    made = running(place)
    changed = reweighed(made, {"alice": 4})
    place.kubectl.run("delete", "fpol", "shared", "--wait=false")
    place.kubectl.apply(changed)
    found = until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(changed))
    # The garbage collector takes away what the first one owned.
    time.sleep(5)
    (owner,) = until(lambda: place.kubectl.get("secret", DOCUMENT_SECRET), "its document")["metadata"][
        "ownerReferences"
    ]
    assert owner["uid"] == found["metadata"]["uid"]
    until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(changed))


def test_while_nothing_changes_nothing_is_written(system: Kubectl, place: Place) -> None:
    made = running(place)
    place.kubectl.apply(policy(TENANTS, name="idle", app="nothing-is-called-so"))
    place.kubectl.apply(keyed(policy({"carol": 1}, name="missing", app="nor-so"), {"carol": [("not-there", "key")]}))
    until_says(place.kubectl, "Accepted", "False", "UnresolvedSecret", name="missing")
    # What is counted once a minute has been.
    until(lambda: all(counts(it) for it in place.kubectl.all("fpol")), "policies that are counted")
    # It counts what it writes anywhere, and is not done yet with the places of tests before this one.
    until(lambda: not leaving(system), "namespaces of other tests are gone", seconds=180)
    time.sleep(10)
    works = leader(system)
    before, versions = writes(scraped(place.clients, works)), written_versions(place)
    assert sum(before.values()) > 0
    time.sleep(QUIET_SECONDS)
    assert leader(system)["metadata"]["name"] == works["metadata"]["name"]
    assert written_versions(place) == versions
    assert writes(scraped(place.clients, works)) == before
    print(f"writes before and after {QUIET_SECONDS:.0f} s: {before}")
    # And it was not asleep.
    changed = reweighed(made, {"bob": 2})
    place.kubectl.apply(changed)
    until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(changed))
    after = writes(scraped(place.clients, works))
    assert after["document"] == before["document"] + 1
    assert after["status"] > before["status"]


def leaving(system: Kubectl) -> list[str]:
    """Namespaces of tests that are not gone yet."""
    return [
        it["metadata"]["name"]
        for it in system.all("namespaces")
        if it["metadata"]["name"].startswith("e2e-") and it["status"]["phase"] == "Terminating"
    ]


def written_versions(place: Place) -> dict[str, str]:
    """The resource versions of all that the operator writes."""
    return {
        f"{kind}/{it['metadata']['name']}": it["metadata"]["resourceVersion"]
        for kind in ("fpol", "secrets", "pods", "events")
        for it in place.kubectl.all(kind)
    }


def test_events_tell_of_what_changes_and_of_nothing_else(place: Place) -> None:
    made = running(place)
    own = [it for it in place.kubectl.events() if it["involvedObject"]["kind"] == "FairnessPolicy"]
    print([(it["type"], it["reason"], it["message"]) for it in own])
    assert {it["involvedObject"]["name"] for it in own} == {"shared"}
    assert any(it["type"] == "Normal" and it["reason"] == "Ready" for it in own)
    place.kubectl.delete("secret", "keys")
    until_says(place.kubectl, "Accepted", "False", "UnresolvedSecret")
    warned = until(lambda: place.kubectl.events("UnresolvedSecret"), "an Event of the policy")
    assert {(it["type"], it["involvedObject"]["name"]) for it in warned} == {("Warning", "shared")}
    assert re.search(r"kubectl -n \S+ create secret generic keys", warned[0]["message"])
    place.kubectl.apply(keys(list(TENANTS)))
    until_ready(place.kubectl, pods=REPLICAS, revision=usual_revision(made))


def test_pods_that_are_replaced_never_take_ready_away(place: Place) -> None:
    """A rollout, with the status read all the while."""
    running(place)
    place.kubectl.run("rollout", "restart", "deployment/engine")
    seen: list[tuple[str, str]] = []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = place.kubectl.get("fpol", "shared")
        seen.append(reasons(found)["Ready"])
        status = place.kubectl.get("deployment", "engine")["status"]
        if status.get("updatedReplicas") == status.get("replicas") == status.get("availableReplicas") == REPLICAS:
            break
    until_ready(place.kubectl, pods=REPLICAS)
    print(f"{len(seen)} looks: {set(seen)}")
    assert set(seen) == {("True", "Ready")}


def test_grants_are_of_one_namespace_only(place: Place, new_namespace: Callable[[], Kubectl]) -> None:
    other = new_namespace()
    grant(other)
    place.kubectl.apply(keys(list(TENANTS)), placed(place.kubectl, policy(TENANTS)))
    until_says(place.kubectl, "Accepted", "False", "SecretAccessDenied")
    other.apply(keys(list(TENANTS)), policy(TENANTS))
    until_says(other, "Accepted", "True", "Accepted")
    assert condition(place.kubectl.get("fpol", "shared"), "Accepted")["reason"] == "SecretAccessDenied"
