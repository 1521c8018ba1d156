"""An API server as far as the injector speaks to one: real HTTP on a real port, and everything in memory. There is one
in `operating` that does more.

Watches get what `change` and `break_watches` say. `script` puts answers before the real ones, by method and path. What
came is in `requests`.
"""

import asyncio
import base64
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

Json = dict[str, Any]
POLICIES = "/apis/fairqueue.dev/v1alpha1/fairnesspolicies"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = field(repr=False)


class ApiServer:
    def __init__(self) -> None:
        self.version: Any = {"major": "1", "minor": "36"}
        self.policies: dict[tuple[str, str], Json] = {}
        self.secrets: dict[str, Json] = {}
        self.webhooks: dict[str, Json] = {}
        self.pods: list[Json] = []
        self.events: list[Json] = []
        self.requests: list[Seen] = []
        self.script: dict[tuple[str, str], list[Answer]] = defaultdict(list)
        self.page = 500
        self.watches: list[asyncio.Queue[bytes | None]] = []
        self._version = 100
        self._runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=0.01, handler_cancellation=True
        )

    async def start(self) -> "ApiServer":
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def stop(self) -> None:
        self.break_watches()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def kubeconfig(self, path: Path, token: str = "a-token") -> Path:
        """A file for KUBECONFIG."""
        named = {"clusters": [{"name": "c", "cluster": {"server": self.url}}], "current-context": "c"}
        named |= {"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}
        path.write_text(yaml.safe_dump(named | {"users": [{"name": "u", "user": {"token": token}}]}))
        return path

    def put(self, policy: Json) -> Json:
        """Stores a policy, without a word to those who watch."""
        metadata = policy["metadata"]
        metadata["resourceVersion"] = self._next()
        self.policies[metadata["namespace"], metadata["name"]] = policy
        return policy

    def change(self, kind: str, item: Json) -> None:
        """Tells those who watch."""
        self.send((json.dumps({"type": kind, "object": item}) + "\n").encode())

    def send(self, content: bytes) -> None:
        for watch in self.watches:
            watch.put_nowait(content)

    def break_watches(self) -> None:
        for watch in self.watches:
            watch.put_nowait(None)

    def add_webhooks(self, name: str, *webhooks: str) -> None:
        entries = [{"name": webhook, "clientConfig": {"service": {"name": "s"}}} for webhook in webhooks]
        self.webhooks[name] = {"metadata": {"name": name, "resourceVersion": self._next()}, "webhooks": entries}

    def bundle(self, name: str = "fairqueue-injector", index: int = 0) -> bytes:
        return base64.b64decode(self.webhooks[name]["webhooks"][index]["clientConfig"].get("caBundle", ""))

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._scripted])
        self._add_routes(application.router.add_route)
        return application

    def _add_routes(self, add: Callable[[str, str, Answer], object]) -> None:
        """Of several that match, the first one answers."""
        add("GET", "/version", self._get_version)
        add("GET", POLICIES, self._get_policies)
        add("GET", "/apis/fairqueue.dev/v1alpha1/namespaces/{namespace}/fairnesspolicies", self._get_policies)
        add("GET", "/api/v1/pods", self._get_pods)
        add("POST", "/api/v1/namespaces/{namespace}/secrets", self._create_secret)
        add("GET", "/api/v1/namespaces/{namespace}/secrets/{name}", self._get_secret)
        add("PATCH", "/api/v1/namespaces/{namespace}/secrets/{name}", self._patch_secret)
        add("GET", WEBHOOKS + "/{name}", self._get_webhooks)
        add("PATCH", WEBHOOKS + "/{name}", self._patch_webhooks)
        add("POST", "/apis/events.k8s.io/v1/namespaces/{namespace}/events", self._create_event)

    @web.middleware
    async def _scripted(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        content = await request.read()
        seen = Seen(request.method, request.path, dict(request.query), dict(request.headers), None)
        seen.body = json.loads(content) if content else None
        self.requests.append(seen)
        scripted = self.script[request.method, request.path]
        return await (scripted.pop(0) if scripted else handler)(request)

    async def _get_version(self, request: web.Request) -> web.Response:
        return web.json_response(self.version)

    async def _get_policies(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            return await self._watch(request)
        namespace = request.match_info.get("namespace")
        return self._paged(
            request, [it for (place, _), it in sorted(self.policies.items()) if namespace in (None, place)]
        )

    async def _get_pods(self, request: web.Request) -> web.StreamResponse:
        return self._paged(request, self.pods)

    def _paged(self, request: web.Request, items: list[Json]) -> web.Response:
        start = int(request.query.get("continue", 0))
        metadata = {"resourceVersion": str(self._version)}
        if start + self.page < len(items):
            metadata["continue"] = str(start + self.page)
        return web.json_response({"metadata": metadata, "items": items[start : start + self.page]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.watches.append(queue)
        try:
            while (content := await queue.get()) is not None:
                await response.write(content)
        finally:
            self.watches.remove(queue)
        return response

    async def _create_secret(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["metadata"]["name"] in self.secrets:
            return status(409, "already exists")
        return self._stored(body)

    async def _get_secret(self, request: web.Request) -> web.Response:
        found = self.secrets.get(request.match_info["name"])
        return web.json_response(found) if found else status(404, "not found")

    async def _patch_secret(self, request: web.Request) -> web.Response:
        if request.content_type != "application/merge-patch+json":
            return status(415, "the body of the request was in an unknown format")
        body, found = await request.json(), self.secrets[request.match_info["name"]]
        if found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            return status(409, "the object has been modified")
        return self._stored({**found, "data": found["data"] | body["data"]})

    def _stored(self, body: Json) -> web.Response:
        body["metadata"]["resourceVersion"] = self._next()
        self.secrets[body["metadata"]["name"]] = body
        return web.json_response(body)

    async def _get_webhooks(self, request: web.Request) -> web.Response:
        found = self.webhooks.get(request.match_info["name"])
        return web.json_response(found) if found else status(404, "not found")

    async def _patch_webhooks(self, request: web.Request) -> web.Response:
        if request.content_type != "application/strategic-merge-patch+json":
            return status(415, "the body of the request was in an unknown format")
        body, found = await request.json(), self.webhooks[request.match_info["name"]]
        if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            return status(409, "the object has been modified")
        for change in body["webhooks"]:
            for webhook in found["webhooks"]:
                if webhook["name"] == change["name"]:
                    webhook["clientConfig"] |= change["clientConfig"]
        found["metadata"]["resourceVersion"] = self._next()
        return web.json_response(found)

    async def _create_event(self, request: web.Request) -> web.Response:
        self.events.append(await request.json())
        return web.json_response(self.events[-1], status=201)


def status(code: int, message: str, **more: Any) -> web.Response:
    """A refusal as an API server writes it."""
    body = {"kind": "Status", "status": "Failure", "message": message, "code": code, **more}
    return web.json_response(body, status=code)


def refusing(code: int, message: str) -> Answer:
    async def refuse(request: web.Request) -> web.Response:
        return status(code, message)

    return refuse
