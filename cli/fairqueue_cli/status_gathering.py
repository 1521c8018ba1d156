"""What `fairqueue status` asks the API server and, through it, the proxies."""

from collections.abc import Iterable
from typing import Final

from fairqueue_cli.kubernetes_json import Resource
from fairqueue_cli.kubernetes_reading import Reader
from fairqueue_cli.kubernetes_unknown import Unknown
from fairqueue_cli.status_pods import Pod, read_pod
from fairqueue_cli.status_policies import Policy, divide, read
from fairqueue_cli.status_proxy import ProxyReport, read_report
from fairqueue_cli.status_report import Overview, Reports
from fairqueue_operator.cluster_model import ClusterError
from fairqueue_operator.injection.names import ADMIN_PORT, INJECT_LABEL
from fairqueue_operator.policy_cache import InvalidPolicy
from fairqueue_operator.resource_json import CORE, path
from fairqueue_operator.selector_query import query_of

_NOT_ASKING: Final = f"{INJECT_LABEL}!=true"


async def overview_of(reader: Reader, namespace: str | None) -> Overview:
    """Of one namespace, or of all. Raises `ClusterError` if policies cannot be listed."""
    items = await reader.policies(namespace)
    if isinstance(items, Unknown):
        raise ClusterError(items.because)
    policies = sorted(map(read, items), key=lambda policy: (policy.namespace, policy.name))
    gaps: list[str] = []
    found = {(pod.namespace, pod.name): pod for pod in await _asking(reader, namespace, gaps)}
    for pods in await reader.together(lambda policy: _not_asking(reader, policy), policies):
        if isinstance(pods, Unknown):
            gaps.append(f"pods that do not ask for the proxy: {pods.because}")
        else:
            found |= {(pod.namespace, pod.name): pod for pod in pods}
    divided, of_none = divide(policies, found.values())
    return Overview(policies, divided, of_none, await _reports(reader, found.values()), sorted(set(gaps)))


async def _asking(reader: Reader, namespace: str | None, gaps: list[str]) -> list[Pod]:
    where = f"{CORE}/pods" if namespace is None else path(CORE, namespace, "pods")
    items = await reader.items(where, {"labelSelector": f"{INJECT_LABEL}=true"})
    if isinstance(items, Unknown):
        gaps.append(f"pods that ask for the proxy: {items.because}")
        return []
    return _read(items)


async def _not_asking(reader: Reader, policy: Policy) -> list[Pod] | Unknown:
    if isinstance(policy.parsed, InvalidPolicy):
        # What cannot be read of its selector selects everything.
        return []
    selected = query_of(policy.parsed.spec.selector)
    if not selected:
        return []
    items = await reader.items(path(CORE, policy.namespace, "pods"), {"labelSelector": f"{selected},{_NOT_ASKING}"})
    return items if isinstance(items, Unknown) else _read(items)


async def _reports(reader: Reader, pods: Iterable[Pod]) -> Reports:
    """What the proxies say. Where one cannot be asked for want of a right, no more of its namespace are."""
    refused: dict[str, Unknown] = {}

    async def ask(pod: Pod) -> ProxyReport | Unknown:
        if pod.namespace in refused:
            return refused[pod.namespace]
        answer = await reader.pod_text(pod.namespace, pod.name, ADMIN_PORT, "/metrics")
        if isinstance(answer, Unknown):
            if answer.is_forbidden:
                refused[pod.namespace] = answer
            return answer
        try:
            return read_report(answer)
        except ValueError as error:
            return Unknown(str(error))

    started = [pod for pod in pods if pod.has_started]
    reports = await reader.together(ask, started)
    return {(pod.namespace, pod.name): report for pod, report in zip(started, reports, strict=True)}


def _read(items: Iterable[Resource]) -> list[Pod]:
    return [pod for pod in map(read_pod, items) if pod is not None]
