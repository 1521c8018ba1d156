"""What was written through the API server, told in two ways: by what objects are, and by what it counted.

Objects tell of writes that changed something, its counters also of those that did not.
"""

import json
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from suite.kubectl import Kubectl

Versions = dict[tuple[str, str, str], str]
Counted = dict[tuple[str, str, str], float]

_PATHS = {
    "policies": "/apis/fairqueue.dev/v1alpha1/fairnesspolicies",
    "secrets": "/api/v1/secrets",
    "pods": "/api/v1/pods",
    "events": "/apis/events.k8s.io/v1/events",
}
_READS = {"GET", "LIST", "WATCH", "WATCHLIST", "CONNECT"}


def versions(cluster: Kubectl, namespaces: set[str]) -> Versions:
    """The resourceVersion of all policies, Secrets, pods and Events there, by kind, namespace and name."""
    return {
        (kind, item["metadata"]["namespace"], item["metadata"]["name"]): item["metadata"]["resourceVersion"]
        for kind, path in _PATHS.items()
        for item in json.loads(cluster.run("get", "--raw", path))["items"]
        if item["metadata"]["namespace"] in namespaces
    }


def changed(before: Versions, after: Versions) -> list[str]:
    """What was made, written or deleted. That Events run out is not a write."""
    every = before.keys() | after.keys()
    different = {it for it in every if before.get(it) != after.get(it)}
    return sorted("/".join(it) for it in different if it[0] != "events" or it in after)


def counted(cluster: Kubectl) -> Counted:
    """Requests that are no reads, of the resources that the operator writes: by resource, subresource and verb.

    Of pods' statuses, which kubelets write, and of the Events of other components there is nothing.
    """
    found: Counted = {}
    for family in text_string_to_metric_families(cluster.run("get", "--raw", "/metrics")):
        if family.name == "apiserver_request":
            for sample in family.samples:
                key = _what(sample.labels)
                if key is not None:
                    found[key] = found.get(key, 0) + sample.value
    return found


def more(before: Counted, after: Counted) -> Counted:
    """What was counted since."""
    return {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}


def _what(labels: Mapping[str, str]) -> tuple[str, str, str] | None:
    resource, subresource, verb, group = (labels[it] for it in ("resource", "subresource", "verb", "group"))
    is_operators = (
        resource in ("fairnesspolicies", "secrets")
        or (resource, subresource) == ("pods", "")
        or (resource, group) == ("events", "events.k8s.io")
    )
    return (resource, subresource, verb) if is_operators and verb not in _READS else None
