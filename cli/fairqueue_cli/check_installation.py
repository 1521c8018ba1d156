"""Checks of fairqueue's own namespace and Deployments: there, available, of this command's version. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from fairqueue_cli.check_lines import INSTALL, SYSTEM, Line, failed, passed, warning
from fairqueue_cli.kubernetes_json import (
    Resource,
    at,
    condition_of,
    holds,
    mapping_at,
    name_of,
    number_at,
    objects_at,
    text_at,
)
from fairqueue_cli.kubernetes_unknown import Unknown

DEPLOYMENTS: Final = ("fairqueue-operator", "fairqueue-injector")
_REPLICAS: Final = 2
_VERSION: Final = re.compile(r"v?(\d+\.\d+\.\d+\S*)")
_PROXY_IMAGE: Final = "PROXY_IMAGE"


def judge_namespace(found: Resource | Unknown | None) -> Line:
    """The namespace that all of it is in."""
    if isinstance(found, Unknown):
        return warning(f"the namespace {SYSTEM} cannot be looked at: {found.because}")
    if found is None:
        return failed(f"the namespace {SYSTEM} is not there: fairqueue is not installed", INSTALL)
    return passed(f"the namespace {SYSTEM} is there")


def judge_deployment(
    name: str, found: Resource | Unknown | None, pods: Sequence[Resource] | Unknown, version: str
) -> Iterator[Line]:
    """One of the Deployments, its pods, and whether its images are of the version."""
    if isinstance(found, Unknown):
        yield warning(f"the Deployment {name} cannot be looked at: {found.because}")
        return
    if found is None:
        yield failed(f"the Deployment {name} is not there", INSTALL)
        return
    yield _availability(name, found, () if isinstance(pods, Unknown) else pods)
    for what, image in _images(name, found):
        yield _version(what, image, version)


def _availability(name: str, deployment: Resource, pods: Sequence[Resource]) -> Line:
    wanted = number_at(deployment, "spec", "replicas")
    available = number_at(deployment, "status", "availableReplicas") or 0
    if wanted == 0:
        return failed(f"{name} is scaled to 0", f"kubectl -n {SYSTEM} scale deployment/{name} --replicas={_REPLICAS}")
    of = f"{available} of {1 if wanted is None else wanted} replicas of {name} are available"
    if not available or not holds(deployment, "Available"):
        trouble, mend = _trouble(name, deployment, pods)
        return failed(f"{of}{trouble}", mend)
    if wanted is not None and available < wanted:
        trouble, mend = _trouble(name, deployment, pods)
        return warning(f"{of}{trouble}", mend)
    return passed(of)


def _trouble(name: str, deployment: Resource, pods: Sequence[Resource]) -> tuple[str, str]:
    """What is the matter with its pods, and where more is said."""
    for pod in pods:
        for status in objects_at(pod, "status", "containerStatuses"):
            waiting = mapping_at(status, "state", "waiting")
            reason = text_at(waiting, "reason")
            if reason == "CrashLoopBackOff":
                mend = f"kubectl -n {SYSTEM} logs {name_of(pod)} --previous"
                return f": {name_of(pod)} ends again and again ({reason})", mend
            if reason not in ("", "ContainerCreating", "PodInitializing"):
                message = text_at(waiting, "message")
                return (
                    f": {name_of(pod)}: {reason} {message}".rstrip(),
                    f"kubectl -n {SYSTEM} describe pod {name_of(pod)}",
                )
        scheduled = condition_of(pod, "PodScheduled")
        if scheduled.get("status") == "False":
            return (
                f": {name_of(pod)}: {text_at(scheduled, 'message')}",
                f"kubectl -n {SYSTEM} describe pod {name_of(pod)}",
            )
    for kind in ("ReplicaFailure", "Progressing"):
        said = condition_of(deployment, kind)
        if (kind == "ReplicaFailure" and said) or said.get("status") == "False":
            return f": {text_at(said, 'message')}", f"kubectl -n {SYSTEM} describe deployment/{name}"
    return "", f"kubectl -n {SYSTEM} logs deployment/{name}"


def _images(name: str, deployment: Resource) -> Iterator[tuple[str, str]]:
    for container in objects_at(deployment, "spec", "template", "spec", "containers"):
        if text_at(container, "name") == name.removeprefix("fairqueue-"):
            yield name, text_at(container, "image")
            for variable in objects_at(container, "env"):
                if at(variable, "name") == _PROXY_IMAGE:
                    yield "the proxy that the injector puts into pods", text_at(variable, "value")


def _version(what: str, image: str, version: str) -> Line:
    match = _VERSION.fullmatch(_tag(image))
    if match is None:
        return passed(f"{what} is {image}, whose version its name does not tell")
    if match[1] != version:
        text = f"{what} is of version {match[1]}, this command of {version}: use those of one version"
        return warning(text, INSTALL)
    return passed(f"{what} is of this command's version, {version}")


def _tag(image: str) -> str:
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]
