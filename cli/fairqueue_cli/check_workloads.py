"""Checks of what is fairqueue's work: controllers whose pods are denied, and pods without the proxy or the policy that
they ask for. Pure.

Controllers try again ever more seldom, up to 17 minutes apart. Each change of a controller's object, an annotation
too, makes Kubernetes look at it at once, and unlike a restart it touches no pod that runs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fairqueue_cli.check_lines import Line, failed, passed, shown, warning
from fairqueue_cli.check_webhook import denial
from fairqueue_cli.kubernetes_json import (
    Resource,
    condition_of,
    controller_of,
    holds,
    name_of,
    namespace_of,
    number_at,
    text_at,
)
from fairqueue_cli.kubernetes_unknown import Unknown
from fairqueue_cli.status_pods import Pod

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "ReplicaSet": ("/apis/apps/v1", "replicasets"),
    "StatefulSet": ("/apis/apps/v1", "statefulsets"),
    "DaemonSet": ("/apis/apps/v1", "daemonsets"),
    "ReplicationController": ("/api/v1", "replicationcontrollers"),
    "Job": ("/apis/batch/v1", "jobs"),
}
"""Controllers whose objects can tell whether pods are still missing: where these are."""
RETRY: Final = "fairqueue.dev/retry"


@dataclass(frozen=True, slots=True)
class Controller:
    """What makes pods."""

    kind: str
    namespace: str
    name: str

    @property
    def command(self) -> str:
        """Makes it try at once."""
        target = f"{self.kind.lower()}/{self.name}"
        return f'kubectl -n {self.namespace} annotate {target} {RETRY}="$(date +%s)" --overwrite'


def refused_by_events(events: Iterable[Resource]) -> dict[Controller, str]:
    """Controllers whose last failure was a denial of ours, and what they were told; by FailedCreate Events (v1)."""
    latest: dict[Controller, tuple[str, str]] = {}
    for event in events:
        controller = Controller(*(text_at(event, "involvedObject", key) for key in ("kind", "namespace", "name")))
        # Times of one format, which sort as texts.
        told = _time_of(event), text_at(event, "message")
        latest[controller] = max(latest.get(controller, told), told)
    return {controller: reason for controller, (_, message) in latest.items() if (reason := denial(message))}


def refused_by_conditions(deployments: Iterable[Resource]) -> dict[Controller, str]:
    """The Deployments that say so themselves."""
    refused = {}
    for deployment in deployments:
        failure = condition_of(deployment, "ReplicaFailure")
        reason = denial(text_at(failure, "message"))
        if failure.get("status") == "True" and reason:
            refused[Controller("Deployment", namespace_of(deployment), name_of(deployment))] = reason
    return refused


def lacks_pods(kind: str, item: Resource) -> bool:
    """Whether it still has fewer pods than it should."""
    if "deletionTimestamp" in (item.get("metadata") or {}):
        return False
    match kind:
        case "DaemonSet":
            wanted = number_at(item, "status", "desiredNumberScheduled")
            return (number_at(item, "status", "currentNumberScheduled") or 0) < (wanted or 0)
        case "Job":
            return _job_lacks_pods(item)
        case _:
            wanted = number_at(item, "spec", "replicas")
            return (number_at(item, "status", "replicas") or 0) < (1 if wanted is None else wanted)


@dataclass(frozen=True, slots=True)
class Refused:
    """Controllers with what they are told: of `certain` ones it is known that they lack pods now, of others that they
    were told so within the hour or so for which a cluster keeps Events."""

    certain: Mapping[Controller, str]
    uncertain: Mapping[Controller, str]


def still_refused(
    by_events: Mapping[Controller, str],
    items: Mapping[Controller, Resource | Unknown | None],
    by_conditions: Mapping[Controller, str],
) -> Refused:
    """Without those that have their pods again. `items` are the objects of those that Events tell of, where their kind
    is known."""
    certain, uncertain = dict(by_conditions), {}
    for controller, reason in by_events.items():
        if controller not in items or isinstance(item := items[controller], Unknown):
            uncertain[controller] = reason
        elif item is not None and lacks_pods(controller.kind, item):
            kind, name = controller_of(item)
            # Told of under its Deployment's name.
            if Controller(kind, controller.namespace, name) not in by_conditions:
                certain[controller] = reason
    return Refused(certain, uncertain)


def judge_controllers(refused: Refused) -> Iterator[Line]:
    """Each with what it is told, and the command that makes it try at once."""
    for controller, reason in _sorted(refused.certain):
        what = f"{controller.namespace}: {controller.kind} {controller.name} gets no pods: {reason}"
        yield failed(f"{what} (when that is mended, this makes it try again at once)", controller.command)
    for controller, reason in _sorted(refused.uncertain):
        what = f"{controller.namespace}: {controller.kind} {controller.name} was denied pods lately: {reason}"
        yield warning(f"{what} (if it still is, this makes it try again at once)", controller.command)
    if not refused.certain and not refused.uncertain:
        yield passed("no controller's pods are denied")


def judge_pods(pods: Iterable[Pod], orphans: Iterable[Pod], commands: Mapping[tuple[str, str], str]) -> Iterator[Line]:
    """Pods that ask for the proxy and have none, and those whose policy is gone; `commands` replace them."""
    bare: dict[str, list[str]] = {}
    for pod in pods:
        if pod.is_bare:
            bare.setdefault(commands[pod.namespace, pod.name], []).append(f"{pod.namespace}/{pod.name}")
    for command, names in sorted(bare.items()):
        what = f"{shown(names)}: {_have(names)} not the proxy that {_ask(names)} for"
        yield failed(f"{what}, being older than the injector or the label", command)
    gone: dict[str, list[str]] = {}
    for pod in orphans:
        gone.setdefault(f"{pod.namespace}/{pod.bound}", []).append(f"{pod.namespace}/{pod.name}")
    for policy, names in sorted(gone.items()):
        namespace, _, name = policy.partition("/")
        what = f"{shown(names)}: {_have(names)} the last order of policy {policy}, which is not there any more"
        yield warning(f"{what}; apply it again", f"kubectl -n {namespace} get fairnesspolicies {name}")
    if not bare and not gone:
        yield passed("all pods that ask for the proxy have it")


def judge_versions(pods: Iterable[Pod], commands: Mapping[tuple[str, str], str], version: str) -> Iterator[Line]:
    """Proxies of other versions than this command: pods keep the one that they were made with."""
    others: dict[tuple[str, str], list[str]] = {}
    for pod in pods:
        if pod.is_injected and pod.version and pod.version != version:
            command = commands[pod.namespace, pod.name]
            others.setdefault((pod.version, command), []).append(f"{pod.namespace}/{pod.name}")
    for (other, command), names in sorted(others.items()):
        yield warning(f"{shown(names)}: the proxy is of version {other}, this command of {version}", command)


def _job_lacks_pods(job: Resource) -> bool:
    if holds(job, "Complete") or holds(job, "Failed") or _flag(job, "suspend"):
        return False
    wanted = number_at(job, "spec", "parallelism")
    completions = number_at(job, "spec", "completions")
    left = None if completions is None else completions - (number_at(job, "status", "succeeded") or 0)
    at_once = 1 if wanted is None else wanted
    return (number_at(job, "status", "active") or 0) < (at_once if left is None else min(at_once, left))


def _flag(item: Resource, name: str) -> bool:
    return (item.get("spec") or {}).get(name) is True


def _sorted(refused: Mapping[Controller, str]) -> list[tuple[Controller, str]]:
    return sorted(refused.items(), key=lambda each: (each[0].namespace, each[0].kind, each[0].name))


def _time_of(event: Resource) -> str:
    series = text_at(event, "series", "lastObservedTime")
    return series or text_at(event, "lastTimestamp") or text_at(event, "eventTime")


def _have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _ask(names: list[str]) -> str:
    return "it asks" if len(names) == 1 else "they ask"
