"""An API server as far as `status` and `check` ask one: objects by their path, lists of these by label, what pods
answer through it, reviews of rights, and what becomes of a dry run. Nothing can be written.

`forbid` takes the right to a path away, with everything below it.
"""

import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from injector.api_server import Answer, ApiServer, Json, status

_COLLECTIONS = {
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "DaemonSet": "/apis/apps/v1/daemonsets",
    "Deployment": "/apis/apps/v1/deployments",
    "Event": "/api/v1/events",
    "FairnessPolicy": "/apis/fairqueue.dev/v1alpha1/fairnesspolicies",
    "Job": "/apis/batch/v1/jobs",
    "MutatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "Namespace": "/api/v1/namespaces",
    "Pod": "/api/v1/pods",
    "ReplicaSet": "/apis/apps/v1/replicasets",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}
_CLUSTER_WIDE = {"Namespace", "CustomResourceDefinition"}
_PROXIED = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/proxy(/.*)")
DENIED = (
    'admission webhook "inject.fairqueue.dev" denied the request: missing_policy: No FairnessPolicy of the namespace '
    "selects the pod"
)


class KubernetesServer(ApiServer):
    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        # (namespace, pod:port, path) → text, or an answer of another kind.
        self.answers: dict[tuple[str, str, str], str | Callable[[], web.Response]] = {}
        self.denied_rights: set[tuple[str, ...]] = set()
        self.dry_run: Callable[[Json], web.Response] = lambda pod: status(403, DENIED)
        self.forbidden: list[str] = []
        super().__init__()

    def add(self, *items: Json) -> None:
        """Stores objects, in place of those of the same name."""
        for item in items:
            self.objects[path_of(item)] = item

    def remove(self, kind: str, name: str, namespace: str = "") -> None:
        del self.objects[path_of({"kind": kind, "metadata": {"name": name, "namespace": namespace}})]

    def find(self, kind: str, name: str, namespace: str = "") -> Json:
        return self.objects[path_of({"kind": kind, "metadata": {"name": name, "namespace": namespace}})]

    def forbid(self, path: str) -> None:
        self.forbidden.append(path)

    def asked(self, method: str = "GET") -> list[str]:
        """The paths of all requests."""
        return [seen.path for seen in self.requests if seen.method == method]

    def _add_routes(self, add: Callable[[str, str, Answer], object]) -> None:
        add("GET", "/version", self._get_version)
        add("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", self._review)
        add("POST", "/api/v1/namespaces/{namespace}/pods", self._dry_run)
        add("GET", "/{path:.+}", self._get_any)

    async def _get_any(self, request: web.Request) -> web.StreamResponse:
        if any(request.path.startswith(path) for path in self.forbidden):
            return status(403, f'User "somebody" cannot get {request.path}')
        if proxied := _PROXIED.fullmatch(request.path):
            answer = self.answers.get((proxied[1], proxied[2], proxied[3]))
            if answer is None:
                return status(503, "error trying to reach service: dial tcp: connection refused")
            return web.Response(text=answer) if isinstance(answer, str) else answer()
        if request.path in self.objects:
            return web.json_response(self.objects[request.path])
        if _collection(request.path) not in _COLLECTIONS.values():
            return status(404, "not found")
        return self._paged(request, [*self._selected(request)])

    def _selected(self, request: web.Request) -> list[Json]:
        found = [
            item
            for path, item in self.objects.items()
            if path.startswith(request.path + "/") or _collection(path.rpartition("/")[0]) == request.path
        ]
        for condition in filter(None, request.query.get("labelSelector", "").split(",")):
            found = [item for item in found if _fits(item["metadata"].get("labels", {}), condition)]
        if "reason=" in (wanted := request.query.get("fieldSelector", "")):
            found = [item for item in found if item.get("reason") == wanted.partition("reason=")[2]]
        return found

    async def _review(self, request: web.Request) -> web.Response:
        if "/apis/authorization.k8s.io" in self.forbidden:
            return status(403, 'User "somebody" cannot create resource "subjectaccessreviews"')
        spec = (await request.json())["spec"]
        asked = spec["resourceAttributes"]
        account = spec["user"].removeprefix("system:serviceaccount:fairqueue-system:")
        right = account, asked["verb"], asked["resource"], asked.get("namespace", "")
        return web.json_response({"status": {"allowed": right not in self.denied_rights}}, status=201)

    async def _dry_run(self, request: web.Request) -> web.Response:
        if request.query.get("dryRun") != "All":
            return status(500, "somebody wrote")
        return self.dry_run(await request.json())


def path_of(item: Json) -> str:
    """Where an object is."""
    collection, namespace = _COLLECTIONS[item["kind"]], item["metadata"].get("namespace")
    if namespace and item["kind"] not in _CLUSTER_WIDE:
        group, _, kind = collection.rpartition("/")
        collection = f"{group}/namespaces/{namespace}/{kind}"
    return f"{collection}/{item['metadata']['name']}"


def _collection(path: str) -> str:
    return re.sub(r"/namespaces/[^/]+(?=/)", "", path)


def _fits(labels: dict[str, str], condition: str) -> bool:
    key, no, value = condition.partition("!=")
    if no:
        return labels.get(key) != value
    key, _, value = condition.partition("=")
    return labels.get(key) == value


def failing(code: int, message: str) -> Callable[[Any], web.Response]:
    """What a dry run is answered."""
    return lambda pod: status(code, message)
