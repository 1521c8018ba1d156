"""Keys and rights to them that are missing, come, and go: what the policy says, and who is let in."""

import time
from collections.abc import Callable

import pytest

from suite.kubectl import Json, Kubectl, until
from suite.objects import deployment, engine_pod, key_of, secret, service
from suite.patient import patient_clients, watched_keys
from suite.place import Place
from suite.pods import view, wait_ready
from suite.policies import (
    API_KEYS,
    DOCUMENT_SECRET,
    condition,
    grant,
    keys_of_its_own,
    own_keys,
    placed,
    policy_of_own_keys,
    reasons,
    revoke_grant,
    reweighed,
    until_ready,
    until_says,
    until_served,
    usual_revision,
)

TENANTS = {"alice": 1, "bob": 1}
SOON_SECONDS = 3.0
# The grant is tried again at 15 s at the latest.
GRANTED_SECONDS = 20.0
# Watches of Secrets last for 54 s at most.
WATCH_SECONDS = 70.0
ALICES, BOBS = keys_of_its_own("alice"), keys_of_its_own("bob")


def started(kubectl: Kubectl, **change: Json) -> Json:
    """Grant, policy, and pods; no keys."""
    made = placed(kubectl, policy_of_own_keys(TENANTS, **change))
    grant(kubectl)
    kubectl.apply(made, service(), deployment(engine_pod(), replicas=2))
    return made


def running(place: Place) -> Json:
    """The same with its keys, and Ready."""
    place.kubectl.apply(*map(own_keys, TENANTS))
    made = started(place.kubectl)
    until_served(place, pods=2)
    return made


def addresses(place: Place) -> list[str]:
    return [it["status"]["podIP"] for it in wait_ready(place.kubectl, 2)]


def test_a_secret_that_is_missing_is_named_with_the_commands_and_once_it_is_there_all_is_well(place: Place) -> None:
    place.kubectl.apply(own_keys("alice"))
    started(place.kubectl)
    message = condition(until_says(place.kubectl, "Accepted", "False", "UnresolvedSecret"), "Accepted")["message"]
    print(message)
    wanted = f"create secret generic {BOBS} --from-file=current=FILE"
    assert f"kubectl -n {place.kubectl.namespace} {wanted}" in message
    assert ALICES not in message
    place.kubectl.apply(own_keys("bob"))
    until_served(place, pods=2)
    for tenant in TENANTS:
        assert place.clients.generate(place.url(), tenant).status == 200


def test_a_secret_without_the_label_is_as_one_that_is_not_there_until_it_has_it(place: Place) -> None:
    place.kubectl.apply(own_keys("alice"), own_keys("bob", labelled=False))
    started(place.kubectl)
    message = condition(until_says(place.kubectl, "Accepted", "False", "UnresolvedSecret"), "Accepted")["message"]
    place.kubectl.delete("secret", BOBS)
    time.sleep(3)
    # Who writes policies cannot find out in this way which Secrets there are.
    assert (
        condition(until_says(place.kubectl, "Accepted", "False", "UnresolvedSecret"), "Accepted")["message"] == message
    )
    place.kubectl.apply(own_keys("bob", labelled=False))
    command = f"kubectl -n {place.kubectl.namespace} label secret {BOBS} fairqueue.dev/api-keys=true"
    assert command in message
    place.kubectl.run(*command.split()[3:])
    until_served(place, pods=2)
    assert place.clients.generate(place.url(), "bob").status == 200


def take_the_label_off(kubectl: Kubectl) -> None:
    kubectl.run("label", "secret", BOBS, "fairqueue.dev/api-keys-")


def delete_the_secret(kubectl: Kubectl) -> None:
    kubectl.run("delete", "secret", BOBS)


def take_the_entry_out(kubectl: Kubectl) -> None:
    kubectl.apply(secret(BOBS, {"other": "another-key"}, API_KEYS))


@pytest.mark.parametrize("revoke", [delete_the_secret, take_the_label_off, take_the_entry_out])
def test_keys_that_are_taken_away_are_refused_within_three_seconds_and_others_go_on(
    place: Place, revoke: Callable[[Kubectl], None]
) -> None:
    running(place)
    with (
        patient_clients(place.kubectl, [place.url()], {"alice": 6}, tokens=20) as alice,
        watched_keys(place.kubectl, addresses(place), bad=key_of("bob")) as seen,
    ):
        revoke(place.kubectl)
        revoked_at = time.time()
    took = [at - revoked_at for at in seen["refused"]]
    print(f"{revoke.__name__}: refused {[round(it, 2) for it in took]} s later; {alice}")
    assert max(took) <= SOON_SECONDS
    assert (alice.tried_again, alice.lost) == ({}, [])
    found = until_says(place.kubectl, "Accepted", "False", "UnresolvedSecret")
    assert reasons(found)["Ready"] == ("False", "UnresolvedSecret")
    assert place.clients.generate(place.url(), "alice").status == 200
    # Not the other way round: what was given back is in force again.
    place.kubectl.apply(own_keys("bob"))
    until_ready(place.kubectl, pods=2)
    assert place.clients.generate(place.url(), "bob").status == 200


def test_without_the_grant_the_policy_says_what_to_type_and_with_it_is_ready(place: Place) -> None:
    place.kubectl.apply(*map(own_keys, TENANTS), policy_of_own_keys(TENANTS), service())
    place.kubectl.apply(deployment(engine_pod(), replicas=2))
    found = until_says(place.kubectl, "Accepted", "False", "SecretAccessDenied")
    command = f"kubectl apply -k manifests/overlays/tenant-namespace -n {place.kubectl.namespace}"
    assert command in condition(found, "Accepted")["message"]
    assert place.kubectl.all("secrets", "app.kubernetes.io/managed-by=fairqueue") == []
    began = time.monotonic()
    grant(place.kubectl)
    until_ready(place.kubectl, pods=2)
    took = time.monotonic() - began
    print(f"Ready {took:.1f} s after the grant")
    assert took <= 60.0


def test_a_grant_that_is_revoked_leaves_its_pods_as_they_are_and_other_namespaces_alone(
    place: Place, new_namespace: Callable[[], Kubectl]
) -> None:
    other = new_namespace()
    made, others = running(place), running(Place(other, place.clients))
    pods = wait_ready(place.kubectl, 2)
    with patient_clients(place.kubectl, [place.url()], {"alice": 6, "bob": 6}, tokens=20) as seen:
        revoke_grant(place.kubectl)
        revoked_at = time.monotonic()
        place.kubectl.apply(reweighed(made, {"bob": 5}))
        # A refused write may have other reasons; that Secrets may not be read is known when their watch begins anew.
        until_says(place.kubectl, "Programmed", "False", "DocumentNotWritten")
        print(f"the policy says that it could not be written {time.monotonic() - revoked_at:.1f} s later")
        found = until_says(place.kubectl, "Accepted", "False", "SecretAccessDenied", seconds=WATCH_SECONDS)
        print(f"and that it is the grant {time.monotonic() - revoked_at:.1f} s later")
        # A right that is gone is no key that is gone.
        assert place.clients.generate(place.url(), "bob").status == 200
        assert reasons(found)["Ready"] == ("False", "SecretAccessDenied")
        changed = reweighed(others, {"bob": 3})
        other.apply(changed)
        began = time.monotonic()
        until_ready(other, pods=2, revision=usual_revision(changed))
        print(f"the other namespace's policy was in force after {time.monotonic() - began:.1f} s")
        assert time.monotonic() - began <= 5.0
        time.sleep(5)
        assert all(view(place.clients, it).config()["revision"] == usual_revision(made) for it in pods)
        grant(place.kubectl)
        granted_at = time.monotonic()
        until_ready(place.kubectl, pods=2, revision=usual_revision(reweighed(made, {"bob": 5})))
        took = time.monotonic() - granted_at
    print(f"in force {took:.1f} s after the grant was given again; {seen}")
    assert took <= GRANTED_SECONDS
    assert (seen.tried_again, seen.lost) == ({}, [])


def test_rights_that_are_taken_away_and_given_back_without_a_change_leave_the_policy_ready(place: Place) -> None:
    running(place)
    revoke_grant(place.kubectl)
    time.sleep(2)
    grant(place.kubectl)
    time.sleep(GRANTED_SECONDS)
    until_ready(place.kubectl, pods=2, seconds=5)
    # The watch lives, or lives again.
    with watched_keys(place.kubectl, addresses(place), bad=key_of("bob")) as seen:
        delete_the_secret(place.kubectl)
        revoked_at = time.time()
    took = [at - revoked_at for at in seen["refused"]]
    print(f"refused {[round(it, 2) for it in took]} s later")
    assert max(took) <= SOON_SECONDS


def delete_the_document(kubectl: Kubectl) -> None:
    kubectl.run("delete", "secret", DOCUMENT_SECRET)


def spoil_the_document(kubectl: Kubectl) -> None:
    kubectl.run("patch", "secret", DOCUMENT_SECRET, "-p", '{"stringData":{"document.json":"{}"}}')


@pytest.mark.parametrize("spoil", [delete_the_document, spoil_the_document])
def test_the_operators_own_document_is_put_right(place: Place, spoil: Callable[[Kubectl], None]) -> None:
    made = running(place)
    before = place.kubectl.get("secret", DOCUMENT_SECRET)
    spoil(place.kubectl)

    def is_mended() -> bool:
        found = place.kubectl.get("secret", DOCUMENT_SECRET)
        return bool(found["data"] == before["data"] and found["metadata"] != before["metadata"])

    until(is_mended, "the document as it was", seconds=10)
    until_ready(place.kubectl, pods=2, revision=usual_revision(made))
