"""What the operator asks of the API server: policies and pods, and what it writes about them.

Whatever it writes of Secrets and status goes by server-side apply under one name, so that a write says all that it
wants there, others' fields stay, and a second operator shows in `managedFields`.
"""

from collections.abc import AsyncGenerator
from typing import Any, Final

from fairqueue_api.models import Selector

from .cluster_model import NotFound, Resource, ResourceEvent, ResourceList, StoredDocument, StoredLease, StoredSecret
from .injection.names import INJECT_LABEL, NUDGE, secret_name
from .resource_json import CORE, LEASES, POLICIES, encoded, mapping, path, stored_secret, version_of
from .selector_query import query_of
from .shared_cluster import SharedCluster

FIELD_MANAGER: Final = "fairqueue-operator"
_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
_MANAGER: Final = "fairqueue"
DOCUMENT_ENTRY: Final = "document.json"
_APPLY: Final = "application/apply-patch+yaml"
_APPLIED: Final = {"fieldManager": FIELD_MANAGER, "force": "true"}
_ALIVE: Final = "status.phase!=Succeeded,status.phase!=Failed"
_PARTIAL: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PARTIAL_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class OperatorCluster(SharedCluster):
    """See the module's text. Each call is one request, but for lists of many pages."""

    async def policies_are_discovered(self) -> bool:
        """Whether the API server says that it has such a kind. A list may work some seconds earlier."""
        try:
            groups = await self._transport.ask("GET", "/apis")
            answer = await self._transport.ask("GET", POLICIES)
        except NotFound:
            return False
        named = any(mapping(it).get("name") == POLICIES.split("/")[2] for it in groups.get("groups") or ())
        return named and any(mapping(it).get("name") == "fairnesspolicies" for it in answer.get("resources") or ())

    async def asking_pods(self) -> AsyncGenerator[Resource, None]:
        """All pods that ask for the proxy, in all namespaces, but for those that have ended; no more than a page of
        them is held at a time."""
        query = {"labelSelector": f"{INJECT_LABEL}=true", "fieldSelector": _ALIVE}
        async for page in self._transport.pages(f"{CORE}/pods", query):
            for item in page.items:
                yield item

    async def count_unlabelled_pods(self, namespace: str, selector: Selector) -> int:
        """How many pods that have not ended the selector matches that do not ask for the proxy. Only metadata comes."""
        query = {"labelSelector": f"{query_of(selector)},{INJECT_LABEL}!=true", "fieldSelector": _ALIVE}
        pages = self._transport.pages(path(CORE, namespace, "pods"), query, accept=_PARTIAL_LIST)
        return sum([len(page.items) async for page in pages])

    async def list_secrets(self, namespace: str) -> ResourceList:
        """Metadata of all Secrets of the namespace."""
        return await self._transport.list(path(CORE, namespace, "secrets"), accept=_PARTIAL_LIST)

    def watch_secrets(self, namespace: str, from_version: str, seconds: float) -> AsyncGenerator[ResourceEvent, None]:
        """What changes from then on, as metadata too, until the server ends it after about so many seconds.

        Raises `Gone` when the server does not remember that version, and `Unreachable` after a long silence.
        """
        where = path(CORE, namespace, "secrets")
        return self._transport.watch(where, from_version, accept=_PARTIAL, seconds=seconds)

    async def read_document(self, namespace: str, policy: str) -> StoredDocument | None:
        """What is stored for a policy of that name; None if there is no such Secret."""
        stored = await self.read_secret(namespace, secret_name(policy))
        return None if stored is None else _document(stored)

    async def apply_document(self, namespace: str, policy: str, policy_uid: str, text: str) -> StoredDocument:
        """Stores the document, to be deleted with the policy."""
        name = secret_name(policy)
        owner = {
            "apiVersion": "fairqueue.dev/v1alpha1",
            "kind": "FairnessPolicy",
            "name": policy,
            "uid": policy_uid,
            "controller": True,
            # Who deletes the policy need not wait for us, nor have a right to its finalizers.
            "blockOwnerDeletion": False,
        }
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {_MANAGED_BY: _MANAGER},
                "ownerReferences": [owner],
            },
            "data": encoded({DOCUMENT_ENTRY: text.encode()}),
        }
        where = path(CORE, namespace, "secrets", name)
        answer = await self._transport.ask("PATCH", where, _APPLIED, body=body, content_type=_APPLY, secret=True)
        return _document(stored_secret(answer))

    async def apply_status(self, namespace: str, policy: str, status: Resource) -> None:
        """Writes the policy's whole status. Raises `NotFound` if it is gone."""
        body = {
            "apiVersion": "fairqueue.dev/v1alpha1",
            "kind": "FairnessPolicy",
            "metadata": {"name": policy, "namespace": namespace},
            "status": status,
        }
        where = f"{path(POLICIES, namespace, 'fairnesspolicies', policy)}/status"
        await self._transport.ask("PATCH", where, _APPLIED, body=body, content_type=_APPLY)

    async def nudge_pod(self, namespace: str, pod: str, value: str) -> None:
        """Writes the one annotation that has the kubelet look at the pod. Raises `NotFound` if it is gone."""
        await self._transport.ask(
            "PATCH",
            path(CORE, namespace, "pods", pod),
            body={"metadata": {"annotations": {NUDGE: value}}},
            content_type="application/merge-patch+json",
        )

    async def read_lease(self, namespace: str, name: str) -> StoredLease | None:
        """None if there is none."""
        try:
            answer = await self._transport.ask("GET", path(LEASES, namespace, "leases", name))
        except NotFound:
            return None
        return _stored_lease(answer)

    async def create_lease(self, namespace: str, name: str, spec: Resource) -> StoredLease:
        """Raises `Conflict` if there is one already."""
        body = _lease(namespace, name, spec, None)
        return _stored_lease(await self._transport.ask("POST", path(LEASES, namespace, "leases"), body=body))

    async def replace_lease(self, namespace: str, name: str, spec: Resource, resource_version: str) -> StoredLease:
        """Raises `Conflict` if the Lease is not of that version any more, `NotFound` if it is gone."""
        body = _lease(namespace, name, spec, resource_version)
        return _stored_lease(await self._transport.ask("PUT", path(LEASES, namespace, "leases", name), body=body))


def _document(stored: StoredSecret) -> StoredDocument:
    content = stored.data.get(DOCUMENT_ENTRY)
    text = None if content is None else content.decode(errors="replace")
    is_ours = stored.labels.get(_MANAGED_BY) == _MANAGER
    return StoredDocument(text, stored.owner_uids, stored.resource_version, is_ours)


def _lease(namespace: str, name: str, spec: Resource, resource_version: str | None) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    if resource_version is not None:
        metadata["resourceVersion"] = resource_version
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def _stored_lease(answer: Resource) -> StoredLease:
    spec = mapping(answer.get("spec"))
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    return StoredLease(
        holder=str(spec.get("holderIdentity") or ""),
        duration_seconds=duration if isinstance(duration, int) else 0,
        transitions=transitions if isinstance(transitions, int) else 0,
        resource_version=version_of(answer),
    )
