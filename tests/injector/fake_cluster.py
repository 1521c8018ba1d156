"""An API server in memory, behind the same methods as `fairqueue_operator.injector_cluster.InjectorCluster`.

Resource versions only grow; a write that names another one than the object's own is a conflict, as is creating what
exists. `fail` makes calls fail by their method's name; `before` runs something just before a call, which is how another
replica gets in between.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from fairqueue_operator.cluster_model import (
    ClusterError,
    Conflict,
    ResourceEvent,
    ResourceList,
    StoredSecret,
    WebhookConfiguration,
)


class FakeCluster:
    def __init__(self, webhooks: Mapping[str, bytes] | None = None) -> None:
        self.secrets: dict[str, StoredSecret] = {}
        self.bundles: dict[str, bytes] | None = dict({"inject.fairqueue.dev": b""} if webhooks is None else webhooks)
        self.policies: list[dict[str, Any]] = []
        self.pods: list[dict[str, Any]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.calls: list[str] = []
        self.fail: dict[str, ClusterError] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.changes: asyncio.Queue[ResourceEvent | ClusterError | None] = asyncio.Queue()
        self.watched_from: list[str] = []
        self._version = 0
        self._webhooks_version = self._next()

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith(("read", "list", "watch"))]

    async def server_version(self) -> tuple[int, int]:
        self._called("server_version")
        return 1, 36

    async def asking_pods(self) -> AsyncGenerator[dict[str, Any], None]:
        self._called("asking_pods")
        for pod in self.pods:
            yield pod

    async def read_secret(self, namespace: str, name: str) -> StoredSecret | None:
        self._called("read_secret")
        return self.secrets.get(f"{namespace}/{name}")

    async def create_secret(self, namespace: str, name: str, data: Mapping[str, bytes]) -> None:
        self._called("create_secret")
        if f"{namespace}/{name}" in self.secrets:
            raise Conflict(f"{name} exists")
        self.put(name, data, namespace)

    async def replace_secret(self, namespace: str, name: str, data: Mapping[str, bytes], resource_version: str) -> None:
        self._called("replace_secret")
        if self.secrets[f"{namespace}/{name}"].resource_version != resource_version:
            raise Conflict(f"{name} has changed")
        self.put(name, data, namespace)

    async def read_webhooks(self, name: str) -> WebhookConfiguration | None:
        self._called("read_webhooks")
        if self.bundles is None:
            return None
        return WebhookConfiguration(dict(self.bundles), self._webhooks_version)

    async def patch_bundles(self, name: str, bundles: Mapping[str, bytes], resource_version: str) -> None:
        self._called("patch_bundles")
        assert self.bundles is not None
        if resource_version != self._webhooks_version:
            raise Conflict(f"{name} has changed")
        self.set_bundles(**bundles)

    async def list_policies(self, namespace: str | None = None) -> ResourceList:
        self._called("list_policies")
        items = [item for item in self.policies if namespace in (None, item["metadata"]["namespace"])]
        return ResourceList(tuple(items), self._next())

    async def watch_policies(self, resource_version: str) -> AsyncGenerator[ResourceEvent, None]:
        self._called("watch_policies")
        self.watched_from.append(resource_version)
        while (change := await self.changes.get()) is not None:
            if isinstance(change, ClusterError):
                raise change
            yield change

    async def create_event(self, namespace: str, event: dict[str, Any]) -> None:
        self._called("create_event")
        self.events.append((namespace, event))

    async def close(self) -> None:
        """As the real one."""

    def put(self, name: str, data: Mapping[str, bytes], namespace: str = "fairqueue-system") -> None:
        """Somebody writes a Secret."""
        self.secrets[f"{namespace}/{name}"] = StoredSecret(dict(data), self._next())

    def delete(self, name: str, namespace: str = "fairqueue-system") -> None:
        """Somebody deletes a Secret."""
        del self.secrets[f"{namespace}/{name}"]

    def set_bundles(self, **bundles: bytes) -> None:
        """Somebody writes the webhook configuration."""
        self.bundles = {**(self.bundles or {}), **bundles}
        self._webhooks_version = self._next()

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if method in self.before:
            self.before.pop(method)()
        if method in self.fail:
            raise self.fail[method]
