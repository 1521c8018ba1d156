"""What `fairqueue check` asks about the cluster and fairqueue's own parts: a function for each group of checks.

Each asks, and hands what it was told to those who judge it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from fairqueue_cli import check_cluster, check_crd, check_installation, check_rights, check_webhook
from fairqueue_cli.check_inspection import Inspection
from fairqueue_cli.check_lines import SYSTEM, Line
from fairqueue_cli.kubernetes_json import Resource, holds, name_of, namespace_of
from fairqueue_cli.kubernetes_reading import Reader
from fairqueue_cli.kubernetes_unknown import Unknown, unknown
from fairqueue_operator.cluster_model import ClusterError
from fairqueue_operator.resource_json import CORE, path

_APPS: Final = "/apis/apps/v1"
_CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_REGISTRATION: Final = "/apis/admissionregistration.k8s.io/v1"
_HEALTH_PORT: Final = 8080
_CERTIFICATE: Final = "fairqueue_certificate_not_after_seconds"
_LOCKS: Final = (
    (check_webhook.LOCK, "keeps pods that ask for the proxy from starting without it"),
    (check_webhook.NUDGE_LOCK, "holds the operator to one annotation of pods"),
)


async def cluster(inspection: Inspection) -> list[Line]:
    """Raises `ClusterError` if there is no answer: nothing can be checked then."""
    return [check_cluster.judge_version(await inspection.reader.version())]


async def resource_definition(inspection: Inspection) -> list[Line]:
    """The CRD."""
    return [*check_crd.judge_crd(await inspection.reader.get(f"{_CRDS}/{check_crd.NAME}"))]


async def installation(inspection: Inspection) -> list[Line]:
    """The namespace and the Deployments."""
    reader = inspection.reader
    namespace = await reader.get(f"{CORE}/namespaces/{SYSTEM}")
    lines = [check_installation.judge_namespace(namespace)]
    if namespace is not None:
        for name in check_installation.DEPLOYMENTS:
            deployment = await reader.get(path(_APPS, SYSTEM, "deployments", name))
            pods = await _pods_of(inspection, name)
            lines += check_installation.judge_deployment(name, deployment, pods, inspection.version)
    return lines


async def rights(inspection: Inspection) -> list[Line]:
    """What the ServiceAccounts may do, in all namespaces and in those with policies."""
    inspection.policies = await inspection.reader.policies(inspection.namespace)
    policies = () if isinstance(inspection.policies, Unknown) else inspection.policies
    namespaces = sorted({namespace_of(policy) for policy in policies})
    asked = [right for rights in check_rights.CLUSTER_RIGHTS.values() for right in rights]
    asked += [right for namespace in namespaces for right in check_rights.grant(namespace)]
    answers = dict(zip(asked, await inspection.reader.together(_Reviewer(inspection.reader), asked), strict=True))
    lines = [check_rights.judge_account(*account, answers) for account in check_rights.CLUSTER_RIGHTS.items()]
    return [*lines, *check_rights.judge_grants(namespaces, answers)]


async def webhook(inspection: Inspection) -> list[Line]:
    """Its configuration, its certificate, whether it answers."""
    found = await inspection.reader.get(f"{_REGISTRATION}/mutatingwebhookconfigurations/{check_webhook.CONFIGURATION}")
    lines = [*check_webhook.judge_configuration(found, inspection.now)]
    if found is not None:
        lines.append(check_webhook.judge_certificate(await _certificate_end(inspection), inspection.now))
    namespace = inspection.namespace or "default"
    lines.append(check_webhook.judge_probe(await _probe(inspection.reader, namespace), namespace))
    return lines


async def second_lock(inspection: Inspection) -> list[Line]:
    """The ValidatingAdmissionPolicies."""
    lines = []
    for name, does in _LOCKS:
        policy = await inspection.reader.get(f"{_REGISTRATION}/validatingadmissionpolicies/{name}")
        binding = await inspection.reader.get(f"{_REGISTRATION}/validatingadmissionpolicybindings/{name}")
        lines.append(check_webhook.judge_lock(policy, binding, name, does))
    return lines


class _Reviewer:
    """Asks for one right after the other. Once it is clear that this may not be asked, no more are."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._refused: Unknown | None = None

    async def __call__(self, right: check_rights.Right) -> bool | Unknown:
        if self._refused is not None:
            return self._refused
        try:
            answer = await self._reader.post(check_rights.REVIEWS, right.review())
        except ClusterError as error:
            refusal = unknown(error)
            if refusal.is_forbidden:
                self._refused = refusal
            return refusal
        return bool(answer.get("status", {}).get("allowed"))


async def _pods_of(inspection: Inspection, deployment: str) -> Sequence[Resource] | Unknown:
    selector = {"labelSelector": f"app.kubernetes.io/name={deployment}"}
    return await inspection.reader.items(path(CORE, SYSTEM, "pods"), selector)


async def _certificate_end(inspection: Inspection) -> datetime | Unknown | None:
    """The first end of those that the injectors serve."""
    pods = await _pods_of(inspection, "fairqueue-injector")
    if isinstance(pods, Unknown):
        return pods
    ready = [pod for pod in pods if holds(pod, "Ready")]
    if not ready:
        return Unknown("no injector is ready")
    ends: list[datetime] = []
    last = Unknown("")
    for pod in ready:
        answer = await inspection.reader.pod_text(SYSTEM, name_of(pod), _HEALTH_PORT, "/metrics")
        if isinstance(answer, Unknown):
            last = answer
            continue
        ends += _ends(answer)
    if not ends:
        return last if last.because else None
    return min(ends)


def _ends(metrics: str) -> list[datetime]:
    try:
        values = [
            sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if sample.name == _CERTIFICATE
        ]
        return [datetime.fromtimestamp(value, UTC) for value in values if value > 0]
    except (ValueError, OverflowError, OSError):
        return []


async def _probe(reader: Reader, namespace: str) -> Resource | ClusterError:
    try:
        return await reader.post(path(CORE, namespace, "pods"), check_webhook.probe(), {"dryRun": "All"})
    except ClusterError as error:
        return error
