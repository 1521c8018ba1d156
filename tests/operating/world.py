"""A cluster in memory with everything that the operator meets: policies, Secrets, pods, kubelets, proxies, rights.

All in virtual time. Kubelets bring a Secret's document into pods a moment after a nudge, else after a minute; whoever
may not, or cannot, is refused as the API server would. Everything that is written is counted.
"""

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fairqueue_api import parse_document
from fairqueue_api.models import Selector
from fairqueue_operator.cluster_model import (
    ClusterError,
    Forbidden,
    NotFound,
    Resource,
    ResourceEvent,
    ResourceList,
    StoredDocument,
    StoredSecret,
    Unauthenticated,
    Unreachable,
)
from fairqueue_operator.documents import Documents
from fairqueue_operator.event_notes import OPERATOR
from fairqueue_operator.event_poster import EventPoster
from fairqueue_operator.follower import Follower
from fairqueue_operator.injection.label_selectors import matches
from fairqueue_operator.planning.pod_facts import read_pod
from fairqueue_operator.planning.programming import Acknowledgement
from fairqueue_operator.reconciler import Reconciler
from fairqueue_operator.secret_watches import SecretWatches
from fairqueue_operator.store import PolicyKey, Store
from fairqueue_operator.unlabelled_pods import UnlabelledPods
from fairqueue_operator.work_queue import WorkQueue
from operating.resources import Json

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
EVENT_SECONDS, KUBELET_SECONDS, KUBELET_SYNC_SECONDS = 0.05, 0.4, 60.0


def _clock() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class _Secret:
    data: dict[str, bytes]
    labels: dict[str, str]
    version: str
    owners: tuple[str, ...] = ()


@dataclass
class World:
    """What there is. `operator` are the parts of one operator, working on it."""

    seed: int = 1
    policies: dict[PolicyKey, Json] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    secrets: dict[str, dict[str, _Secret]] = field(default_factory=dict)
    granted: set[str] = field(default_factory=set)
    is_up: bool = True
    is_known: bool = True
    writes: list[tuple[str, Any]] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    # What each pod's proxy runs on, by address; those that do not answer.
    running: dict[str, tuple[str, str]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    # What proxies have against what they are given, by address.
    refusing: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    unlabelled: int = 0
    # Where Secrets may be read and not written; whether writing fails; whether what a deleted policy owns stays; how
    # many nudges come too early for the kubelet to see the Secret's change.
    read_only: set[str] = field(default_factory=set)
    writing_fails: bool = False
    collects_garbage: bool = True
    early_nudges: int = 0
    # How long it takes to find that there is no answer.
    silence_seconds: float = 0.01
    # From when a kubelet has read a Secret to when the proxy runs on it.
    delivery_seconds: float = 0.0
    # Slower than a proxy's answer.
    count_seconds: float = 0.5
    _version: int = 100
    _watches: dict[str, list[asyncio.Queue[ResourceEvent]]] = field(default_factory=dict)
    _listeners: list[Any] = field(default_factory=list)
    _on_the_way: deque[Any] = field(default_factory=deque)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    # What people do.

    def apply_policy(self, item: Json) -> PolicyKey:
        key = PolicyKey(item["metadata"]["namespace"], item["metadata"]["name"])
        before = self.policies.get(key)
        item = json.loads(json.dumps(item))
        if before is not None:
            item["metadata"]["uid"] = before["metadata"]["uid"]
            changed = before["spec"] != item["spec"]
            item["metadata"]["generation"] = before["metadata"]["generation"] + changed
            if "status" in before:
                item["status"] = before["status"]
        self.policies[key] = item
        self._tell("policy", "MODIFIED", item)
        return key

    def delete_policy(self, key: PolicyKey) -> None:
        item = self.policies.pop(key)
        if self.collects_garbage:
            self.delete_secret(key.namespace, f"{key.name}-fairqueue")
        self._tell("policy", "DELETED", item)

    def apply_pod(self, item: Json) -> None:
        self.pods[item["metadata"]["name"]] = json.loads(json.dumps(item))
        self._tell("pod", "MODIFIED", item)
        self._sync(item["metadata"]["name"], 0.0)

    def delete_pod(self, name: str) -> None:
        self._tell("pod", "DELETED", self.pods.pop(name))

    def apply_secret(
        self, namespace: str, name: str, data: Mapping[str, str], label: str | None, value: str = "true"
    ) -> None:
        labels = {} if label is None else {label: value}
        content = {key: value.encode() for key, value in data.items()}
        self._put_secret(namespace, name, _Secret(content, labels, self._next_version()))

    def touch_secret(self, namespace: str, name: str) -> None:
        """Changes nothing of what is in it, as another's label does."""
        self._put_secret(namespace, name, replace(self.secrets[namespace][name], version=self._next_version()))

    def delete_secret(self, namespace: str, name: str) -> None:
        secret = self.secrets.get(namespace, {}).pop(name, None)
        if secret is not None:
            self._tell_watches("DELETED", namespace, name, secret)

    def status(self, key: PolicyKey) -> dict[str, str]:
        """Condition → its status and reason."""
        conditions = self.policies[key].get("status", {}).get("conditions", [])
        return {it["type"]: f"{it['status']} {it['reason']}" for it in conditions}

    def document(self, key: PolicyKey) -> Any:
        """What is stored for the policy; None if nothing is."""
        secret = self.secrets.get(key.namespace, {}).get(f"{key.name}-fairqueue")
        return None if secret is None else parse_document(secret.data["document.json"]).document

    # What the API server does.

    async def read_document(self, namespace: str, policy: str) -> StoredDocument | None:
        stored = await self.read_secret(namespace, f"{policy}-fairqueue")
        if stored is None:
            return None
        content = stored.data.get("document.json", b"").decode()
        is_ours = stored.labels.get("app.kubernetes.io/managed-by") == "fairqueue"
        return StoredDocument(content, stored.owner_uids, stored.resource_version, is_ours)

    async def apply_document(self, namespace: str, policy: str, policy_uid: str, text: str) -> StoredDocument:
        self._check(namespace)
        if namespace in self.read_only:
            raise Forbidden(f"403 patch secrets of {namespace}")
        if self.writing_fails:
            raise Unreachable("500 etcd is slow today")
        version = self._next_version()
        labels = {"app.kubernetes.io/managed-by": "fairqueue"}
        secret = _Secret({"document.json": text.encode()}, labels, version, (policy_uid,))
        self._put_secret(namespace, f"{policy}-fairqueue", secret)
        self.writes.append(("document", PolicyKey(namespace, policy)))
        return StoredDocument(text, (policy_uid,), version)

    async def apply_status(self, namespace: str, policy: str, status: Resource) -> None:
        self._check()
        item = self.policies.get(PolicyKey(namespace, policy))
        if item is None:
            raise NotFound("404")
        item["status"] = json.loads(json.dumps(status))
        self.writes.append(("status", PolicyKey(namespace, policy)))
        self._tell("policy", "MODIFIED", item)

    async def list_policies(self, namespace: str | None = None) -> ResourceList:
        self._check()
        return ResourceList(tuple(it for key, it in self.policies.items() if key.namespace == namespace), "1")

    async def nudge_pod(self, namespace: str, pod: str, value: str) -> None:
        self._check()
        item = self.pods.get(pod)
        if item is None or item["metadata"]["namespace"] != namespace:
            raise NotFound("404")
        item["metadata"]["annotations"]["fairqueue.dev/config-nudge"] = value
        self.writes.append(("nudge", pod))
        self._tell("pod", "MODIFIED", item)
        if self.early_nudges > 0:
            self.early_nudges -= 1
        else:
            self._sync(pod, KUBELET_SECONDS)

    async def count_unlabelled_pods(self, namespace: str, selector: Selector) -> int:
        self._check()
        await asyncio.sleep(self.count_seconds)
        return self.unlabelled if matches(selector, {"app": "engine"}) else 0

    async def create_event(self, namespace: str, event: Json) -> None:
        self._check()
        self.events.append(event)

    async def list_secrets(self, namespace: str) -> ResourceList:
        self._check(namespace)
        secrets = self.secrets.get(namespace, {})
        return ResourceList(tuple(self._metadata(namespace, *it) for it in secrets.items()), str(self._version))

    async def watch_secrets(
        self, namespace: str, from_version: str, seconds: float
    ) -> AsyncGenerator[ResourceEvent, None]:
        self._check(namespace)
        queue: asyncio.Queue[ResourceEvent] = asyncio.Queue()
        for name, secret in self.secrets.get(namespace, {}).items():
            if int(secret.version) > int(from_version):
                yield ResourceEvent("MODIFIED", self._metadata(namespace, name, secret), secret.version)
        self._watches.setdefault(namespace, []).append(queue)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    yield await queue.get()
        except TimeoutError:
            return
        finally:
            self._watches[namespace].remove(queue)

    async def read_secret(self, namespace: str, name: str) -> StoredSecret | None:
        self._check(namespace)
        secret = self.secrets.get(namespace, {}).get(name)
        return None if secret is None else StoredSecret(secret.data, secret.version, secret.labels, secret.owners)

    async def ask(self, address: str) -> Acknowledgement:
        """What a pod's proxy says."""
        self.asked.append(address)
        await asyncio.sleep(self.silence_seconds if address in self.silent else 0.01)
        if address in self.silent:
            return Acknowledgement("", "", f"no answer at {address}", answered=False)
        if address in self.refusing:
            return Acknowledgement("", "", self.refusing[address])
        return Acknowledgement(*self.running.get(address, ("", "")), "")

    def _check(self, namespace: str | None = None) -> None:
        if not self.is_up:
            raise Unreachable("the API server is down")
        if not self.is_known:
            raise Unauthenticated("401")
        if namespace is not None and namespace not in self.granted:
            raise Forbidden(f"403 secrets of {namespace}")

    def _sync(self, pod: str, seconds: float) -> None:
        """The kubelet looks at the pod a little later."""

        async def later() -> None:
            await asyncio.sleep(seconds)
            item = self.pods.get(pod)
            if item is None:
                return
            policy = item["metadata"]["annotations"].get("fairqueue.dev/bound-policy")
            namespace = item["metadata"]["namespace"]
            secret = self.secrets.get(namespace, {}).get(f"{policy}-fairqueue")
            if secret is not None:
                found = parse_document(secret.data["document.json"]).document
                await asyncio.sleep(self.delivery_seconds)
                self.running[item["status"]["podIP"]] = found.policy, found.revision

        self._later(later())

    async def sync_all(self) -> None:
        """As kubelets do by themselves."""
        while True:
            await asyncio.sleep(KUBELET_SYNC_SECONDS)
            for name in self.pods:
                self._sync(name, 0.0)

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _put_secret(self, namespace: str, name: str, secret: _Secret) -> None:
        self.secrets.setdefault(namespace, {})[name] = secret
        self._tell_watches("MODIFIED", namespace, name, secret)

    def _tell_watches(self, kind: Any, namespace: str, name: str, secret: _Secret) -> None:
        for queue in self._watches.get(namespace, []):
            queue.put_nowait(ResourceEvent(kind, self._metadata(namespace, name, secret), self._next_version()))

    def _metadata(self, namespace: str, name: str, secret: _Secret) -> Json:
        owners = [{"uid": uid} for uid in secret.owners]
        return {
            "metadata": {
                "namespace": namespace,
                "name": name,
                "labels": secret.labels,
                "resourceVersion": secret.version,
                "ownerReferences": owners,
            }
        }

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    def listen(self, listener: Any) -> None:
        self._listeners.append(listener)

    def deafen(self, listener: Any) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _tell(self, what: str, kind: str, item: Json) -> None:
        item = json.loads(json.dumps(item))
        for listener in list(self._listeners):
            # Watches are behind what they watch, and in its order: timers of one moment have none.
            self._on_the_way.append((listener, what, kind, item))
            asyncio.get_running_loop().call_later(EVENT_SECONDS, self._hear)

    def _hear(self) -> None:
        listener, *event = self._on_the_way.popleft()
        if listener in self._listeners:
            listener(*event)


class OperatorInMemory:
    """The operator's parts as `operating` puts them together, but for kopf, the Lease and the network."""

    def __init__(self, world: World) -> None:
        self.world = world
        jitter = random.Random(world.seed)
        self.store = Store()
        self.queue: WorkQueue[PolicyKey] = WorkQueue(_clock, jitter)
        self.errors: list[Exception] = []
        follower = Follower(world, world.ask, self.queue.add_after, _clock, jitter, lambda: None)
        unlabelled = UnlabelledPods(
            world,
            lambda: [(key, it.facts.parsed.spec.selector) for key, it in self.store.policies()],  # type: ignore[union-attr]
            self.queue.add,
            jitter,
        )
        poster = EventPoster(world, OPERATOR, "operator-0", self._now, _clock)
        self.secrets = SecretWatches(world, self._secrets_changed, jitter)
        self.reconciler = Reconciler(
            cluster=world,
            store=self.store,
            secrets=self.secrets,
            documents=Documents(world, lambda: None),
            follower=follower,
            unlabelled=unlabelled,
            poster=poster,
            now=self._now,
            monotonic=_clock,
            written=lambda: None,
            touched=self.touched,
        )
        self._parts = [follower.run(), unlabelled.run(), poster.run(), self.secrets.run()]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Lists, watches and works from now on."""
        self.store.begin_listing()
        pods = [facts for item in self.world.pods.values() if (facts := read_pod(item))]
        self.touched(self.store.end_listing(self.world.policies.values(), pods))
        self.world.listen(self._heard)
        self._tasks = [asyncio.create_task(each) for each in (*self._parts, self._work(), self._work())]

    async def stop(self) -> None:
        """At once, as if killed. Does nothing if it was stopped before."""
        self.world.deafen(self._heard)
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(it, asyncio.CancelledError) for it in ended), ended

    def touched(self, keys: Any) -> None:
        for key in keys:
            self.queue.add(key)
        self.secrets.keep({key.namespace for key, _ in self.store.policies()})

    def _heard(self, what: str, kind: str, item: Json) -> None:
        self.touched(getattr(self.store, f"{'drop' if kind == 'DELETED' else 'put'}_{what}")(item))

    def _secrets_changed(self, namespace: str, policy: str | None) -> None:
        concerned = self.store.policies_of(namespace) if policy is None else (policy,)
        self.touched([PolicyKey(namespace, name) for name in concerned])

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                again = await self.reconciler.reconcile(key)
            except ClusterError as error:
                self.errors.append(error)
                self.queue.failed(key)
            else:
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again)
            finally:
                self.queue.done(key)

    def _now(self) -> datetime:
        return BEGINNING + timedelta(seconds=_clock())
