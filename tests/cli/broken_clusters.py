"""What can be wrong with fairqueue on a cluster, one thing at a time, and what `check` must say of it.

Messages are those of a real API server, word by word.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from aiohttp import web

from cli.kubernetes_objects import condition, failed_create, not_ready, pod, policy
from cli.kubernetes_server import DENIED, KubernetesServer, failing

Change = Callable[[KubernetesServer], None]

INSTALL = "kubectl apply --server-side -k manifests/overlays/default"
GRANT = "kubectl apply -k manifests/overlays/tenant-namespace -n team"
LOCKED = (
    "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'fairqueue-injected' with binding 'fairqueue-injected' denied "
    "request: the pod asks for fairqueue's proxy and has none"
)
UNREACHED = (
    'Internal error occurred: failed calling webhook "inject.fairqueue.dev": failed to call webhook: Post '
    '"https://fairqueue-injector.fairqueue-system.svc:443/inject?timeout=5s": '
)
RETRY = 'kubectl -n team annotate {} fairqueue.dev/retry="$(date +%s)" --overwrite'


def edit(kind: str, name: str, change: Callable[[Any], object]) -> Change:
    namespace = "fairqueue-system" if kind == "Deployment" else ""
    return lambda server: void(change(server.find(kind, name, namespace)))


def fields_of_spec(crd: Any) -> Any:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def container_of(deployment: Any) -> Any:
    return deployment["spec"]["template"]["spec"]["containers"][0]


def void(_: object) -> None:
    return None


def remove(kind: str, name: str, namespace: str = "") -> Change:
    return lambda server: server.remove(kind, name, namespace)


def add(*items: Any) -> Change:
    return lambda server: server.add(*items)


def dry_run(code: int, message: str) -> Change:
    def change(server: KubernetesServer) -> None:
        server.dry_run = failing(code, message)

    return change


def certificate(days: float) -> Change:
    ends = (datetime.now(UTC) + timedelta(days=days)).timestamp() if days else 0

    def change(server: KubernetesServer) -> None:
        text = f"fairqueue_certificate_not_after_seconds {ends}\n"
        server.answers["fairqueue-system", "fairqueue-injector-0:8080", "/metrics"] = text

    return change


def without_right(*right: str) -> Change:
    return lambda server: server.denied_rights.add(right)


def forbid(path: str) -> Change:
    return lambda server: server.forbid(path)


def admitted_bare(server: KubernetesServer) -> None:
    server.dry_run = lambda pod: web.json_response(pod, status=201)


CRD, HOOK = "fairnesspolicies.fairqueue.dev", "fairqueue-injector"
SYSTEM = "kubectl -n fairqueue-system"
RESTART = f"{SYSTEM} rollout restart deployment/fairqueue-injector"
LLM = {"name": "llm", "namespace": "team"}
SCALED = {"desiredNumberScheduled": 2, "currentNumberScheduled": 1}

# What is done, the group and result of the line that says so, words of its text, and a command below it.
BROKEN: dict[str, tuple[Change, str, str, str, str]] = {
    "old Kubernetes": (
        lambda server: setattr(server, "version", {"major": "1", "minor": "31"}),
        "kubernetes-api", "failed", "Kubernetes is 1.31: 1.32 or newer is needed", "",
    ),
    "no CRD": (remove("CustomResourceDefinition", CRD), "custom-resource", "failed", "is not there", INSTALL),
    "CRD not established": (
        edit("CustomResourceDefinition", CRD, lambda it: it["status"].clear()),
        "custom-resource", "failed", "is not established", f"kubectl describe crd {CRD}",
    ),
    "version not served": (
        edit("CustomResourceDefinition", CRD, lambda it: it["spec"]["versions"][0].update(served=False)),
        "custom-resource", "failed", "does not serve v1alpha1", INSTALL,
    ),
    "another schema": (
        edit(
            "CustomResourceDefinition", CRD,
            lambda it: fields_of_spec(it).pop("drain"),
        ),
        "custom-resource", "failed", "it differs at spec.drain;", INSTALL,
    ),
    "no namespace": (remove("Namespace", "fairqueue-system"), "installation", "failed", "is not installed", INSTALL),
    "no operator": (
        remove("Deployment", "fairqueue-operator", "fairqueue-system"),
        "installation", "failed", "the Deployment fairqueue-operator is not there", INSTALL,
    ),
    "injector scaled to 0": (
        edit("Deployment", HOOK, lambda it: it["spec"].update(replicas=0)),
        "installation", "failed", "is scaled to 0", f"{SYSTEM} scale deployment/fairqueue-injector --replicas=2",
    ),
    "one replica of two": (
        edit("Deployment", HOOK, lambda it: it["status"].update(availableReplicas=1)),
        "installation", "warning", "1 of 2 replicas of fairqueue-injector are available",
        f"{SYSTEM} logs deployment/fairqueue-injector",
    ),
    "another version": (
        edit(
            "Deployment", "fairqueue-operator",
            lambda it: container_of(it).update(image="r.example:5000/x/operator:v9.1.0@sha256:0"),
        ),
        "installation", "warning", f"of version 9.1.0, this command of {version('fairqueue')}", INSTALL,
    ),
    "operator without a right": (
        without_right("fairqueue-operator", "patch", "pods", ""),
        "rights", "failed", "fairqueue-operator may not patch pods", INSTALL,
    ),
    "injector without a right": (
        without_right("fairqueue-injector", "create", "events", ""),
        "rights", "failed", "fairqueue-injector may not create events.events.k8s.io", INSTALL,
    ),
    "no grant": (
        without_right("fairqueue-operator", "list", "secrets", "team"),
        "rights", "failed", "in team fairqueue-operator may not list secrets", GRANT,
    ),
    "rights cannot be asked": (
        forbid("/apis/authorization.k8s.io"),
        "rights", "warning", "not known whether fairqueue-injector may do what it must",
        "kubectl auth can-i --list --as=system:serviceaccount:fairqueue-system:fairqueue-injector",
    ),
    "no webhook": (remove("MutatingWebhookConfiguration", HOOK), "webhook", "failed", "is not there", INSTALL),
    "no bundle": (
        edit("MutatingWebhookConfiguration", HOOK, lambda it: it["webhooks"][0]["clientConfig"].pop("caBundle")),
        "webhook", "failed", "caBundle is empty", RESTART,
    ),
    "certificate has ended": (certificate(-1), "webhook", "failed", "certificate has ended on", RESTART),
    "certificate ends soon": (
        certificate(5), "webhook", "warning", "and was not renewed", f"{SYSTEM} logs deployment/fairqueue-injector",
    ),
    "no certificate": (
        certificate(0), "webhook", "failed", "has no certificate", f"{SYSTEM} logs deployment/fairqueue-injector",
    ),
    "webhook not reached": (
        dry_run(500, UNREACHED + 'no endpoints available for service "fairqueue-injector"'),
        "webhook", "failed", "does not reach the webhook", RESTART,
    ),
    "webhook without a Service": (
        dry_run(500, UNREACHED + 'service "fairqueue-injector" not found'), "webhook", "failed", "not found", INSTALL,
    ),
    "webhook not trusted": (
        dry_run(500, UNREACHED + "tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        "webhook", "failed", "signed by unknown authority", RESTART,
    ),
    "webhook not called, second lock holds": (
        dry_run(422, LOCKED), "webhook", "failed", "only the second lock keeps pods out", INSTALL,
    ),
    "pods come up without the proxy": (admitted_bare, "webhook", "failed", "let into default without it", INSTALL),
    "webhook cannot decide": (
        dry_run(503, 'admission webhook "inject.fairqueue.dev" denied the request: policies_unreadable: no answer'),
        "webhook", "failed", "cannot decide: policies_unreadable", f"{SYSTEM} logs deployment/fairqueue-injector",
    ),
    "dry run not allowed": (
        dry_run(403, 'pods is forbidden: User "x" cannot create resource "pods" in API group "" in the namespace'),
        "webhook", "warning", "as you may not create pods in default", "",
    ),
    "dry run refused by another": (
        dry_run(403, 'exceeded quota: q, requested: pods=1'), "webhook", "warning", "could not be tried: ", "",
    ),
    "no second lock": (
        remove("ValidatingAdmissionPolicy", "fairqueue-injected"), "second-lock", "failed", "is not there", INSTALL,
    ),
    "second lock not bound": (
        remove("ValidatingAdmissionPolicyBinding", "fairqueue-injected"),
        "second-lock", "failed", "bound to nothing", INSTALL,
    ),
    "second lock only warns": (
        edit(
            "ValidatingAdmissionPolicyBinding", "fairqueue-nudge-only",
            lambda it: it["spec"].update(validationActions=["Warn"]),
        ),
        "second-lock", "failed", "does not deny", INSTALL,
    ),
    "policy not accepted": (
        add(not_ready("Accepted", "SecretAccessDenied", "no right")),
        "policies", "failed", "team/shared is not accepted: SecretAccessDenied: no right", GRANT,
    ),
    "policy not valid": (
        add(not_ready("Accepted", "Invalid", "spec.x")),
        "policies", "failed", "Invalid: spec.x", "kubectl -n team edit fairnesspolicy shared",
    ),
    "a policy's Secret is missing": (
        add(not_ready("Accepted", "UnresolvedSecret", "no Secret keys")),
        "policies", "failed", "UnresolvedSecret: no Secret keys",
        "kubectl -n team get secrets -l 'fairqueue.dev/api-keys' --show-labels",
    ),
    "policy not judged": (
        add(not_ready("Accepted", "Pending", "", status="Unknown")),
        "policies", "warning", "team/shared is not judged yet: Pending",
        f"{SYSTEM} logs deployment/fairqueue-operator",
    ),
    "policy not looked at": (
        add(policy(generation=2)), "policies", "failed", "has not looked at it as it is now",
        f"{SYSTEM} rollout status deployment/fairqueue-operator --timeout=60s",
    ),
    "policy not in force": (
        add(not_ready("Programmed", "PartiallyProgrammed", "1 of 2")),
        "policies", "failed", "not in force in all its pods: PartiallyProgrammed: 1 of 2", "fairqueue status -n team",
    ),
    "policy that proxies refuse": (
        add(not_ready("Programmed", "ProxiesRefuse", "0 of 2")),
        "policies", "failed", "not in force in all its pods: ProxiesRefuse: 0 of 2", "fairqueue status -n team",
    ),
    "policy whose document is refused": (
        add(not_ready("Programmed", "DocumentNotWritten", "exceeded quota")),
        "policies", "failed", "DocumentNotWritten: exceeded quota", "kubectl -n team describe resourcequotas",
    ),
    "policy without pods": (
        add(not_ready("Programmed", "NoMatchingPods", "none")),
        "policies", "warning", "NoMatchingPods", "kubectl -n team get pods -l 'app=engine' --show-labels",
    ),
    "pods that do not ask": (
        add(policy(pods={"unlabelled": 3})), "policies", "warning", "3 pods that match do not ask for the proxy",
        "kubectl -n team get pods -l 'app=engine,fairqueue.dev/inject!=true'",
    ),
    "bare pod": (
        add(pod("engine-7f-old", bound=None)), "workloads", "failed", "team/engine-7f-old: has not the proxy",
        "kubectl -n team rollout restart deployment/engine",
    ),
    "orphan": (
        add(pod("engine-7f-c", bound="gone")), "workloads", "warning", "the last order of policy team/gone",
        "kubectl -n team get fairnesspolicies gone",
    ),
    "old proxy": (
        add(pod("engine-7f-c", version="0.0.1")), "workloads", "warning", "the proxy is of version 0.0.1",
        "kubectl -n team rollout restart deployment/engine",
    ),
    "Deployment": (
        add({
            "kind": "Deployment", "metadata": LLM,
            "status": {"conditions": [condition("ReplicaFailure", "True", "FailedCreate", DENIED)]},
        }),
        "workloads", "failed", "Deployment llm gets no pods: missing_policy: ", RETRY.format("deployment/llm"),
    ),
    "StatefulSet": (
        add(
            failed_create("StatefulSet", "llm", f"Create Pod llm-0 in StatefulSet llm failed: {UNREACHED}refused"),
            {"kind": "StatefulSet", "metadata": LLM, "spec": {"replicas": 1}, "status": {}},
        ),
        "workloads", "failed", "StatefulSet llm gets no pods: failed to call webhook", RETRY.format("statefulset/llm"),
    ),
    "DaemonSet": (
        add(
            failed_create("DaemonSet", "llm", f"Error creating: {LOCKED}"),
            {"kind": "DaemonSet", "metadata": LLM, "status": SCALED},
        ),
        "workloads", "failed", "DaemonSet llm gets no pods: the pod asks", RETRY.format("daemonset/llm"),
    ),
    "Job": (
        add(
            failed_create("Job", "llm", f"Error creating: {DENIED}"),
            {"kind": "Job", "metadata": LLM, "spec": {"parallelism": 1}, "status": {}},
        ),
        "workloads", "failed", "Job llm gets no pods", RETRY.format("job/llm"),
    ),
    "controller of a kind of somebody's own": (
        add(failed_create("LeaderSet", "llm", f"Error creating: {DENIED}")),
        "workloads", "warning", "LeaderSet llm was denied pods lately", RETRY.format("leaderset/llm"),
    ),
}  # fmt: skip
