"""What `fairqueue check` asks about policies, and about the controllers and pods that they are for."""

from typing import Final

from fairqueue_cli import check_policies, check_workloads
from fairqueue_cli.check_inspection import Inspection
from fairqueue_cli.check_lines import Line, warning
from fairqueue_cli.kubernetes_json import name_of, namespace_of
from fairqueue_cli.kubernetes_unknown import Unknown
from fairqueue_cli.status_pods import read_pod
from fairqueue_cli.status_policies import divide, read
from fairqueue_operator.bare_pods import replacement
from fairqueue_operator.injection.names import INJECT_LABEL
from fairqueue_operator.resource_json import CORE, path

_APPS: Final = "/apis/apps/v1"


async def policies(inspection: Inspection) -> list[Line]:
    """What became of each."""
    if isinstance(inspection.policies, Unknown):
        return [warning(f"policies cannot be listed: {inspection.policies.because}")]
    return [*check_policies.judge_policies([*map(read, inspection.policies)])]


async def workloads(inspection: Inspection) -> list[Line]:
    """Controllers and pods."""
    return [*await _controllers(inspection), *await _pods(inspection)]


async def _controllers(inspection: Inspection) -> list[Line]:
    reader, lines = inspection.reader, []
    deployments = await reader.items(inspection.all_of("deployments", _APPS))
    if isinstance(deployments, Unknown):
        lines.append(warning(f"Deployments whose pods are denied cannot be looked for: {deployments.because}"))
        deployments = ()
    events = await reader.items(inspection.all_of("events", CORE), {"fieldSelector": "reason=FailedCreate"})
    if isinstance(events, Unknown):
        lines.append(warning(f"other controllers whose pods are denied cannot be looked for: {events.because}"))
        events = ()
    by_events = check_workloads.refused_by_events(events)
    known = [controller for controller in by_events if controller.kind in check_workloads.KINDS]
    items = await reader.together(lambda one: reader.get(_where(one)), known)
    refused = check_workloads.still_refused(
        by_events, dict(zip(known, items, strict=True)), check_workloads.refused_by_conditions(deployments)
    )
    return [*lines, *check_workloads.judge_controllers(refused)]


def _where(controller: check_workloads.Controller) -> str:
    group, kind = check_workloads.KINDS[controller.kind]
    return path(group, controller.namespace, kind, controller.name)


async def _pods(inspection: Inspection) -> list[Line]:
    items = await inspection.reader.items(inspection.all_of("pods", CORE), {"labelSelector": f"{INJECT_LABEL}=true"})
    if isinstance(items, Unknown):
        return [warning(f"pods that ask for the proxy cannot be listed: {items.because}")]
    pods = [pod for pod in map(read_pod, items) if pod is not None]
    commands = {(namespace_of(item), name_of(item)): replacement(item) for item in items}
    orphans = []
    if not isinstance(inspection.policies, Unknown):
        of_none = divide([*map(read, inspection.policies)], pods)[1]
        orphans = [pod for pod in of_none if pod.is_injected]
    return [
        *check_workloads.judge_pods(pods, orphans, commands),
        *check_workloads.judge_versions(pods, commands, inspection.version),
    ]
