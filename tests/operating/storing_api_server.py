"""The injector's API server in memory, with what the operator asks for besides: objects that are stored by their
path, applied, merged and replaced under preconditions, Secrets that are listed and watched as metadata, and rights to
Secrets that are given by namespace.

A watch begins with what has happened since the version that it names, or says that this is forgotten; taking a right
away ends no watch. `read` has the names of the Secrets whose content was given to anybody, `watching` the namespaces
of the watches that there are.
"""

import asyncio
import base64
import json
from collections import defaultdict
from collections.abc import Callable

from aiohttp import web

from injector.api_server import Answer, ApiServer, Json, status

_GROUPS = ("/api/v1", "/apis/fairqueue.dev/v1alpha1", "/apis/coordination.k8s.io/v1")
_PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class StoringApiServer(ApiServer):
    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.granted: set[str] = {"team"}
        self.read: list[str] = []
        self.forgotten = 0
        self.closes_at_once = False
        self.watching: list[str] = []
        self._breaks = 0
        # Namespace → version, kind and metadata of what happened to Secrets.
        self._history: dict[str, list[tuple[int, str, Json]]] = defaultdict(list)
        self._happened = asyncio.Event()
        super().__init__()

    def put_secret(self, name: str, labels: Json | None = None, namespace: str = "team", **data: bytes) -> None:
        """Somebody writes a Secret. As `kubectl apply` does, its content is in an annotation as well."""
        metadata: Json = {"name": name, "namespace": namespace, "labels": labels or {}}
        metadata["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": str(data)}
        encoded = {entry: base64.b64encode(content).decode() for entry, content in data.items()}
        self._store(_secret(name, namespace), {"kind": "Secret", "metadata": metadata, "data": encoded})

    def delete_secret(self, name: str, namespace: str = "team") -> None:
        """Somebody deletes it."""
        item = self.objects.pop(_secret(name, namespace))
        self._tell("DELETED", item)

    def bookmark(self, namespace: str = "team") -> None:
        """Tells those who watch of the present version."""
        version = self._next()
        self._history[namespace].append((int(version), "BOOKMARK", {"metadata": {"resourceVersion": version}}))
        self._happened.set()

    def forget(self) -> None:
        """Watches that would begin at a version before now are refused."""
        self.forgotten = self._version

    def grant(self, namespace: str, *, given: bool = True) -> None:
        (self.granted.add if given else self.granted.discard)(namespace)

    def requests_for(self, path: str, method: str = "GET") -> int:
        return sum((seen.method, seen.path) == (method, path) for seen in self.requests)

    def break_watches(self) -> None:
        super().break_watches()
        self._breaks += 1
        self._happened.set()

    def _add_routes(self, add: Callable[[str, str, Answer], object]) -> None:
        for group in _GROUPS:
            one = group + "/namespaces/{namespace}/{kind}/{name}"
            add("GET", one, self._get)
            add("PUT", one, self._replace)
            add("PATCH", one, self._patch)
            add("PATCH", one + "/status", self._patch)
            add("POST", group + "/namespaces/{namespace}/{kind}", self._create)
        add("GET", "/api/v1/namespaces/{namespace}/secrets", self._list_secrets)
        add("GET", "/api/v1/namespaces/{namespace}/pods", self._get_pods)
        super()._add_routes(add)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._without_right(request):
            return refusal
        found = self.objects.get(request.path)
        if found is None:
            return status(404, "not found")
        if request.match_info["kind"] == "secrets":
            self.read.append(request.match_info["name"])
        return web.json_response(found)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        path = f"{request.path}/{body['metadata']['name']}"
        if path in self.objects:
            return status(409, "already exists")
        return web.json_response(self._store(path, body), status=201)

    async def _replace(self, request: web.Request) -> web.StreamResponse:
        body, found = await request.json(), self.objects.get(request.path)
        if found is None:
            return status(404, "not found")
        if body["metadata"].get("resourceVersion", found["metadata"]["resourceVersion"]) != _version(found):
            return status(409, "the object has been modified")
        return web.json_response(self._store(request.path, body))

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._without_right(request):
            return refusal
        body, path = await request.json(), request.path.removesuffix("/status")
        found = self.objects.get(path)
        if request.content_type == "application/apply-patch+yaml":
            if request.query.get("fieldManager") != "fairqueue-operator" or request.query.get("force") != "true":
                return status(409, "conflict with another manager")
            if found is None and path != request.path:
                return status(404, "not found")
            return web.json_response(self._store(path, _merged(found or {}, body)))
        if request.content_type != "application/merge-patch+json":
            return status(415, "the body of the request was in an unknown format")
        if found is None:
            return status(404, "not found")
        return web.json_response(self._store(path, _merged(found, body)))

    async def _list_secrets(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._without_right(request):
            return refusal
        watching = request.query.get("watch") == "true"
        if request.headers["Accept"] != (_PARTIAL if watching else _PARTIAL_LIST):
            return status(406, "this would give the content of all Secrets away")
        namespace = request.match_info["namespace"]
        if watching:
            return await self._watch_secrets(request, namespace)
        prefix = _secret("", namespace)
        return self._paged(request, [_metadata(it) for path, it in self.objects.items() if path.startswith(prefix)])

    async def _watch_secrets(self, request: web.Request, namespace: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        seen, breaks = int(request.query["resourceVersion"]), self._breaks
        if seen < self.forgotten:
            gone = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
            await response.write((json.dumps(gone) + "\n").encode())
            return response
        self.watching.append(namespace)
        try:
            while not self.closes_at_once:
                for version, kind, item in self._history[namespace]:
                    if version > seen:
                        await response.write((json.dumps({"type": kind, "object": item}) + "\n").encode())
                        seen = version
                if self._breaks != breaks:
                    break
                self._happened.clear()
                await self._happened.wait()
        finally:
            self.watching.remove(namespace)
        return response

    def _without_right(self, request: web.Request) -> web.Response | None:
        namespace = request.match_info["namespace"]
        if request.match_info.get("kind", "secrets") != "secrets" or namespace in self.granted:
            return None
        return status(403, f'secrets is forbidden: cannot ask for it in the namespace "{namespace}"')

    def _store(self, path: str, item: Json) -> Json:
        existed = path in self.objects
        item["metadata"]["resourceVersion"] = self._next()
        self.objects[path] = item
        if item.get("kind") == "Secret":
            self._tell("MODIFIED" if existed else "ADDED", item)
        return item

    def _tell(self, kind: str, item: Json) -> None:
        version = int(_version(item)) if kind != "DELETED" else int(self._next())
        metadata = _metadata(item)
        metadata["metadata"] = {**metadata["metadata"], "resourceVersion": str(version)}
        self._history[item["metadata"]["namespace"]].append((version, kind, metadata))
        self._happened.set()


def _secret(name: str, namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/{name}"


def _version(item: Json) -> str:
    return str(item["metadata"]["resourceVersion"])


def _metadata(item: Json) -> Json:
    return {"kind": "PartialObjectMetadata", "metadata": dict(item["metadata"])}


def _merged(old: Json, change: Json) -> Json:
    result = dict(old)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result
