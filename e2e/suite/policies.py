"""Policies that the operator sees to: the grant that it needs, the keys they name, and what their status says."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fairqueue_api import check_policy, render
from suite.installing import OVERLAYS
from suite.kubectl import Json, Kubectl, until
from suite.objects import POLICY, key_of, keys, policy, secret
from suite.place import Place
from suite.pods import wait_ready

GRANT = OVERLAYS / "tenant-namespace"
DOCUMENT_SECRET = f"{POLICY}-fairqueue"
CONDITIONS = ("Accepted", "Programmed", "Ready")
API_KEYS = {"fairqueue.dev/api-keys": "true"}


def grant(kubectl: Kubectl) -> None:
    """As who runs a namespace does it."""
    kubectl.run("apply", "-k", str(GRANT))


def revoke_grant(kubectl: Kubectl) -> None:
    """The same, taken back."""
    kubectl.run("delete", "-k", str(GRANT), "--ignore-not-found")


def share(kubectl: Kubectl, tenants: Mapping[str, int], **spec: Any) -> Json:
    """Grant, keys and a policy of the namespace; its document is left to the operator."""
    made = placed(kubectl, policy(tenants, **spec))
    grant(kubectl)
    kubectl.apply(keys(list(tenants)), made)
    return made


def placed(kubectl: Kubectl, made: Json) -> Json:
    """The policy, as one of the namespace."""
    return {**made, "metadata": {**made["metadata"], "namespace": kubectl.namespace}}


def keys_of_its_own(tenant: str) -> str:
    """The Secret of a tenant whose keys are in no other's."""
    return f"keys-of-{tenant}"


def policy_of_own_keys(tenants: Mapping[str, int], **spec: Any) -> Json:
    """Each tenant's key is in a Secret of its own, under `current`."""
    return keyed(policy(tenants, **spec), {it: [(keys_of_its_own(it), "current")] for it in tenants})


def keyed(made: Json, refs: Mapping[str, Sequence[tuple[str, str]]]) -> Json:
    """The policy with these keys of each tenant: Secret and entry."""
    for tenant in made["spec"]["tenants"]:
        named = [{"name": name, "key": key} for name, key in refs[tenant["name"]]]
        tenant["apiKeySecretRefs"] = named
    return made


def own_keys(tenant: str, *, labelled: bool = True) -> Json:
    """That Secret."""
    return secret(keys_of_its_own(tenant), {"current": key_of(tenant)}, API_KEYS if labelled else {})


class _Content:
    """Secrets by name, then by entry, as `render` asks for them."""

    def __init__(self, content: Mapping[str, Mapping[str, str]]) -> None:
        self._content = content

    def read(self, name: str, key: str) -> bytes:
        return self._content[name][key].encode()


def revision_of(made: Mapping[str, Any], content: Mapping[str, Mapping[str, str]]) -> str:
    """Of the document that there must be of a policy, with Secrets of that content."""
    return render(check_policy(made, "policy"), _Content(content)).revision


def condition(found: Json, kind: str) -> Json:
    """One condition of a policy; empty if it is not written yet."""
    conditions = found.get("status", {}).get("conditions", [])
    return next((it for it in conditions if it["type"] == kind), {})


def is_about_now(found: Json) -> bool:
    """The status speaks of the policy as it is now, and so do all its conditions."""
    generation = found["metadata"]["generation"]
    status = found.get("status", {})
    spoken_of = [
        status.get("observedGeneration"),
        *(condition(found, it).get("observedGeneration") for it in CONDITIONS),
    ]
    return all(it == generation for it in spoken_of)


def reasons(found: Json) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition."""
    return {it: (condition(found, it).get("status", ""), condition(found, it).get("reason", "")) for it in CONDITIONS}


def counts(found: Json) -> Json:
    """The status's numbers of pods."""
    numbers: Json = found.get("status", {}).get("pods", {})
    return numbers


def until_ready(
    kubectl: Kubectl, *, pods: int, revision: str | None = None, name: str = POLICY, seconds: float = 60.0
) -> Json:
    """The policy, once its status says that it is Ready as it is now, on so many pods."""
    found: Json = {}

    def ready() -> Json | None:
        nonlocal found
        found = kubectl.get("fpol", name)
        is_so = is_about_now(found) and reasons(found)["Ready"] == ("True", "Ready")
        right = revision is None or found["status"].get("configRevision") == revision
        return found if is_so and right and counts(found).get("current") == pods else None

    try:
        return until(ready, f"policy {name} Ready on {pods} pods", seconds=seconds)
    except AssertionError as error:
        metadata = {it: found.get("metadata", {}).get(it) for it in ("generation", "resourceVersion")}
        raise AssertionError(f"{error}; {metadata}, {found.get('status')}") from None


def until_served(place: Place, *, pods: int, tenant: str = "alice", seconds: float = 60.0) -> Json:
    """The policy, once it is Ready, and so are its pods, and the Service leads to them."""
    deadline = time.monotonic() + seconds
    found = until_ready(place.kubectl, pods=pods, seconds=seconds)
    wait_ready(place.kubectl, pods, seconds=deadline - time.monotonic())
    url = place.url()
    until(lambda: place.clients.generate(url, tenant).status == 200, "an answer", seconds=deadline - time.monotonic())
    return found


def until_says(
    kubectl: Kubectl, kind: str, status: str, reason: str, *, name: str = POLICY, seconds: float = 30.0
) -> Json:
    """The policy, once a condition says that of it as it is now."""

    def says() -> Json | None:
        found = kubectl.get("fpol", name)
        return found if is_about_now(found) and reasons(found)[kind] == (status, reason) else None

    return until(says, f"{kind}={status} {reason} of policy {name}", seconds=seconds)


def reweighed(made: Json, weights: Mapping[str, int]) -> Json:
    """The same policy with other weights of these tenants."""
    tenants = [{**it, "weight": weights.get(it["name"], it["weight"])} for it in made["spec"]["tenants"]]
    return {**made, "spec": {**made["spec"], "tenants": tenants}}


def usual_revision(made: Json) -> str:
    """Of the document that there must be of a policy whose tenants have their usual keys."""
    content: dict[str, dict[str, str]] = {}
    for tenant in made["spec"]["tenants"]:
        for ref in tenant["apiKeySecretRefs"]:
            content.setdefault(ref["name"], {})[ref["key"]] = key_of(tenant["name"])
    return revision_of(made, content)


def table(kubectl: Kubectl, *options: str) -> list[dict[str, str]]:
    """What `kubectl get fpol` prints, row by row. No cell may hold a blank."""
    head, *rows = kubectl.run("get", "fpol", *options).splitlines()
    return [dict(zip(head.split(), row.split(), strict=True)) for row in rows]
