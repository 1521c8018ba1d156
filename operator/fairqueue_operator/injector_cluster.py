"""What the injector asks of the API server: policies, pods that ask, its certificate's Secrets, webhooks, Events."""

import base64
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final
from urllib.parse import quote

from .cluster_model import NotFound, Resource, ResourceEvent, WebhookConfiguration
from .injection.names import INJECT_LABEL
from .resource_json import CORE, encoded, mapping, path, version_of
from .shared_cluster import ALL_POLICIES, SharedCluster

_WEBHOOKS: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class InjectorCluster(SharedCluster):
    """See the module's text."""

    async def asking_pods(self) -> AsyncGenerator[Resource, None]:
        """Metadata of all pods that ask for the proxy, in all namespaces, but for those that have ended; no more than a
        page of them is held at a time."""
        query = {
            "labelSelector": f"{INJECT_LABEL}=true",
            "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed",
        }
        async for page in self._transport.pages(f"{CORE}/pods", query, accept=_METADATA_ONLY):
            for item in page.items:
                yield item

    def watch_policies(self, from_version: str) -> AsyncGenerator[ResourceEvent, None]:
        """What changes in all namespaces from then on, until the server ends it; it does so now and then.

        Raises `Gone` when the server does not remember that version, and `Unreachable` after a long silence.
        """
        return self._transport.watch(ALL_POLICIES, from_version)

    async def create_secret(self, namespace: str, name: str, data: Mapping[str, bytes]) -> None:
        """Raises `Conflict` if there is one already."""
        body = _secret(namespace, name, data)
        await self._transport.ask("POST", path(CORE, namespace, "secrets"), body=body, secret=True)

    async def replace_secret(self, namespace: str, name: str, data: Mapping[str, bytes], resource_version: str) -> None:
        """Sets what is named in `data`. Raises `Conflict` if the Secret is not of that version any more."""
        # Not a PUT: that would have to name the Secret's type, which cannot be changed, and whatever others wrote.
        await self._transport.ask(
            "PATCH",
            path(CORE, namespace, "secrets", name),
            body={"metadata": {"resourceVersion": resource_version}, "data": encoded(data)},
            content_type="application/merge-patch+json",
            secret=True,
        )

    async def read_webhooks(self, name: str) -> WebhookConfiguration | None:
        """The MutatingWebhookConfiguration; None if there is none."""
        try:
            answer = await self._transport.ask("GET", f"{_WEBHOOKS}/{quote(name, safe='')}")
        except NotFound:
            return None
        bundles = {}
        for webhook in answer.get("webhooks") or ():
            text = mapping(webhook.get("clientConfig")).get("caBundle") or ""
            bundles[str(webhook["name"])] = base64.b64decode(text)
        return WebhookConfiguration(bundles, version_of(answer))

    async def patch_bundles(self, name: str, bundles: Mapping[str, bytes], resource_version: str) -> None:
        """Sets the `caBundle` of the webhooks that are named, and nothing else. Raises `Conflict` like the above."""
        webhooks = [
            {"name": webhook, "clientConfig": {"caBundle": base64.b64encode(bundle).decode()}}
            for webhook, bundle in bundles.items()
        ]
        # Webhooks are merged by their names.
        await self._transport.ask(
            "PATCH",
            f"{_WEBHOOKS}/{quote(name, safe='')}",
            body={"metadata": {"resourceVersion": resource_version}, "webhooks": webhooks},
            content_type="application/strategic-merge-patch+json",
        )


def _secret(namespace: str, name: str, data: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "fairqueue", "app.kubernetes.io/component": "injector"},
        },
        "data": encoded(data),
    }
