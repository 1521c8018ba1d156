"""The API server: the only module that knows the client library, and every call that the injector makes.

The library (`kubernetes.aio`) finds the server, its certificate and our token, and renews the token; requests are
sent through its generic call rather than through its generated methods, which check every argument's type against a
list and build objects that nobody needs here. Each method is one request with a time limit; none tries again: that
is for those who know what may wait. Errors are `ClusterError`s, whose text never has anything of a Secret.
"""

import base64
import json
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import OpenApiException
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from .cluster_model import (
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    PolicyEvent,
    PolicyList,
    Resource,
    StoredSecret,
    Unreachable,
    WebhookConfiguration,
)
from .injection.names import INJECT_LABEL
from .watch_lines import LineReader, read_event

_POLICIES: Final = "/apis/fairqueue.dev/v1alpha1"
_WEBHOOKS: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_EVENTS: Final = "/apis/events.k8s.io/v1"
_PAGE: Final = 500
_JSON: Final = "application/json"
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_REQUEST_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 5.0
# Bookmarks come every minute: a watch that is silent for longer is dead.
SILENCE_SECONDS: Final = 90.0
# Then the server ends it, and the next one may find a server that has less to do.
_WATCH_SECONDS: Final = 600
_REASON_CHARACTERS: Final = 300
_ERRORS: Final[Mapping[int, type[ClusterError]]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: Unreachable,
}


async def connect() -> "Cluster":
    """The cluster that KUBECONFIG names, else the one that this pod runs in. Raises `ClusterError` without either."""
    configuration = Configuration()
    try:
        if path := os.environ.get("KUBECONFIG"):
            await load_kube_config(path, client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
        else:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, ValueError) as error:
        where = "KUBECONFIG" if os.environ.get("KUBECONFIG") else "this pod's service account"
        raise ClusterError(f"no cluster: {where} cannot be used: {_one_line(str(error))}") from None
    return Cluster(configuration)


class Cluster:
    """One API server. To be closed."""

    def __init__(self, configuration: Configuration, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._client = ApiClient(configuration)
        self._client.user_agent = "fairqueue-injector"
        self._silence_seconds = silence_seconds

    async def close(self) -> None:
        """Ends all connections, watches too."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def server_version(self) -> tuple[int, int]:
        """Such as (1, 32)."""
        answer = await self._ask("GET", "/version")
        try:
            # Some providers write "32+".
            return int(answer["major"]), int(answer["minor"].rstrip("+"))
        except (KeyError, ValueError, AttributeError):
            raise Unreachable("GET /version: the answer is not a Kubernetes version") from None

    def asking_pods(self) -> AsyncGenerator[Resource, None]:
        """Metadata of all pods that ask for the proxy, in all namespaces, but for those that have ended; no more than a
        page of them is held at a time."""
        query = {
            "labelSelector": f"{INJECT_LABEL}=true",
            "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed",
        }
        return self._items("/api/v1/pods", query, accept=_METADATA_ONLY)

    async def _items(self, path: str, query: Mapping[str, str], *, accept: str) -> AsyncGenerator[Resource, None]:
        page = {"limit": str(_PAGE)}
        while True:
            answer = await self._ask("GET", path, {**query, **page}, accept=accept)
            for item in answer.get("items") or ():
                if isinstance(item, dict):
                    yield item
            if not (further := _mapping(answer.get("metadata")).get("continue")):
                return
            page["continue"] = further

    async def list_policies(self, namespace: str | None = None) -> PolicyList:
        """The FairnessPolicies of one namespace, or of all."""
        path = f"{_POLICIES}/fairnesspolicies"
        if namespace is not None:
            path = f"{_POLICIES}/namespaces/{quote(namespace, safe='')}/fairnesspolicies"
        items: list[Resource] = []
        query: dict[str, str] = {"limit": str(_PAGE)}
        while True:
            answer = await self._ask("GET", path, query)
            metadata = _mapping(answer.get("metadata"))
            items += [item for item in answer.get("items") or () if isinstance(item, dict)]
            if not metadata.get("continue"):
                return PolicyList(tuple(items), str(metadata.get("resourceVersion", "")))
            query = {"limit": str(_PAGE), "continue": metadata["continue"]}

    async def watch_policies(self, resource_version: str) -> AsyncGenerator[PolicyEvent, None]:
        """What changes in all namespaces from then on, until the server ends it; it does so now and then.

        Raises `Gone` when the server does not remember that version, and `Unreachable` after a long silence.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        path = f"{_POLICIES}/fairnesspolicies"
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=self._silence_seconds)
        response = await self._send("GET", path, query, None, timeout)
        try:
            if response.status >= 400:
                raise _refusal("GET", path, response.status, await _body(response, f"GET {path}"))
            lines = LineReader()
            with _named_failures(f"GET {path}"):
                async for chunk in response.content.iter_any():
                    for line in lines.feed(chunk):
                        yield read_event(line)
        finally:
            response.close()

    async def read_secret(self, namespace: str, name: str) -> StoredSecret | None:
        """None if there is none."""
        try:
            answer = await self._ask("GET", _secrets(namespace, name), secret=True)
        except NotFound:
            return None
        data = {}
        for entry, text in _mapping(answer.get("data")).items():
            # The API server takes nothing else than base64.
            data[str(entry)] = base64.b64decode(text)
        return StoredSecret(data, _resource_version(answer))

    async def create_secret(self, namespace: str, name: str, data: Mapping[str, bytes]) -> None:
        """Raises `Conflict` if there is one already."""
        await self._ask("POST", _secrets(namespace), body=_secret(namespace, name, data), secret=True)

    async def replace_secret(self, namespace: str, name: str, data: Mapping[str, bytes], resource_version: str) -> None:
        """Sets what is named in `data`. Raises `Conflict` if the Secret is not of that version any more."""
        # Not a PUT: that would have to name the Secret's type, which cannot be changed, and whatever others wrote.
        body = {"metadata": {"resourceVersion": resource_version}, "data": _encoded(data)}
        await self._ask(
            "PATCH", _secrets(namespace, name), body=body, content_type="application/merge-patch+json", secret=True
        )

    async def read_webhooks(self, name: str) -> WebhookConfiguration | None:
        """The MutatingWebhookConfiguration; None if there is none."""
        try:
            answer = await self._ask("GET", f"{_WEBHOOKS}/{quote(name, safe='')}")
        except NotFound:
            return None
        bundles = {}
        for webhook in answer.get("webhooks") or ():
            text = _mapping(webhook.get("clientConfig")).get("caBundle") or ""
            bundles[str(webhook["name"])] = base64.b64decode(text)
        return WebhookConfiguration(bundles, _resource_version(answer))

    async def patch_bundles(self, name: str, bundles: Mapping[str, bytes], resource_version: str) -> None:
        """Sets the `caBundle` of the webhooks that are named, and nothing else. Raises `Conflict` like the above."""
        webhooks = [
            {"name": webhook, "clientConfig": {"caBundle": base64.b64encode(bundle).decode()}}
            for webhook, bundle in bundles.items()
        ]
        body = {"metadata": {"resourceVersion": resource_version}, "webhooks": webhooks}
        # Webhooks are merged by their names.
        await self._ask(
            "PATCH",
            f"{_WEBHOOKS}/{quote(name, safe='')}",
            body=body,
            content_type="application/strategic-merge-patch+json",
        )

    async def create_event(self, namespace: str, event: Resource) -> None:
        """An Event of events.k8s.io/v1."""
        await self._ask("POST", f"{_EVENTS}/namespaces/{quote(namespace, safe='')}/events", body=event)

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Resource | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        secret: bool = False,
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=_CONNECT_SECONDS)
        response = await self._send(method, path, query, body, timeout, content_type, accept)
        try:
            content = await _body(response, f"{method} {path}")
        finally:
            response.release()
        if response.status >= 400:
            raise _refusal(method, path, response.status, b"" if secret else content)
        answer = _decoded(content)
        if answer is None:
            raise Unreachable(f"{method} {path}: the answer is not a JSON object")
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Resource | None,
        limits: aiohttp.ClientTimeout,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept, "Content-Type": content_type}
        with _named_failures(f"{method} {path}"):
            _, url, headers, _, _ = await self._client.param_serialize(
                method, path, header_params=headers, auth_settings=["BearerToken"]
            )
            if query:
                url += "?" + urlencode(query)
            answer = await self._client.call_api(method, url, headers, body, _request_timeout=limits)
        response: aiohttp.ClientResponse = answer.response
        return response


@contextmanager
def _named_failures(request: str) -> Iterator[None]:
    """What the network or the library raises becomes `Unreachable`, with the request's name."""
    try:
        yield
    except TimeoutError:
        raise Unreachable(f"{request}: no answer in time") from None
    except (aiohttp.ClientError, OpenApiException, ConfigException, OSError) as error:
        raise Unreachable(f"{request}: {_one_line(str(error) or type(error).__name__)}") from None


async def _body(response: aiohttp.ClientResponse, request: str) -> bytes:
    with _named_failures(request):
        return await response.read()


def _refusal(method: str, path: str, status: int, content: bytes) -> ClusterError:
    kind = _ERRORS.get(status, Unreachable if status >= 500 else ClusterError)
    message = (_decoded(content) or {}).get("message")
    return kind(f"{method} {path}: {status} {_one_line(str(message)) if message else ''}".rstrip())


def _decoded(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _resource_version(answer: Resource) -> str:
    return str(_mapping(answer.get("metadata")).get("resourceVersion", ""))


def _secrets(namespace: str, name: str | None = None) -> str:
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets"
    return path if name is None else f"{path}/{quote(name, safe='')}"


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
        "data": _encoded(data),
    }


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {entry: base64.b64encode(content).decode() for entry, content in data.items()}


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_REASON_CHARACTERS]
