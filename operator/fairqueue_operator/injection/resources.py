"""What the proxy's container requests and is limited to.

A pod of class Guaranteed stays in it. A pod with a budget for the pod as a whole keeps that: the proxy lives within it.
Annotations of the pod stand before both.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from .names import Json
from .ports import containers_of
from .quantities import parse_quantity
from .reasons import Reason, Refused
from .settings import InjectionSettings

CPU_REQUEST: Final = "fairqueue.dev/proxy-cpu-request"
CPU_LIMIT: Final = "fairqueue.dev/proxy-cpu-limit"
MEMORY_REQUEST: Final = "fairqueue.dev/proxy-memory-request"
MEMORY_LIMIT: Final = "fairqueue.dev/proxy-memory-limit"
_LEAST_MEMORY: Final = "320Mi"
"""The proxy keeps 256 MiB for itself and takes clients by what is above."""


@dataclass(frozen=True, slots=True)
class _Share:
    request: str | None = None
    limit: str | None = None


def sidecar_resources(pod: Json, settings: InjectionSettings) -> Json:
    """`resources` of the proxy's container; empty if it has none of its own. Raises `Refused`."""
    if pod["spec"].get("resources"):
        defaults = {"cpu": _Share(), "memory": _Share()}
    elif is_guaranteed(pod):
        cpu, memory = settings.guaranteed_cpu, settings.memory_limit
        defaults = {"cpu": _Share(cpu, cpu), "memory": _Share(memory, memory)}
    else:
        defaults = {
            "cpu": _Share(settings.cpu_request),
            "memory": _Share(settings.memory_request, settings.memory_limit),
        }
    annotations = pod["metadata"].get("annotations", {})
    shares = {
        "cpu": _overridden(annotations, defaults["cpu"], CPU_REQUEST, CPU_LIMIT),
        "memory": _overridden(annotations, defaults["memory"], MEMORY_REQUEST, MEMORY_LIMIT),
    }
    requests = {name: share.request for name, share in shares.items() if share.request is not None}
    limits = {name: share.limit for name, share in shares.items() if share.limit is not None}
    return {key: values for key, values in (("limits", limits), ("requests", requests)) if values}


def is_guaranteed(pod: Json) -> bool:
    """Whether every container, init containers too, has limits of CPU and memory and requests just as much."""
    return all(
        _requests_its_limit(container.get("resources", {}), name)
        for container in containers_of(pod)
        for name in ("cpu", "memory")
    )


def _requests_its_limit(resources: Json, name: str) -> bool:
    limit = parse_quantity(resources.get("limits", {}).get(name))
    # What is not requested is requested as it is limited.
    request = resources.get("requests", {}).get(name)
    return bool(limit) and (request is None or parse_quantity(request) == limit)


def _overridden(annotations: dict[str, str], default: _Share, request_name: str, limit_name: str) -> _Share:
    request, limit = annotations.get(request_name), annotations.get(limit_name)
    asked, allowed = _quantity(request_name, request), _quantity(limit_name, limit)
    if limit_name == MEMORY_LIMIT and allowed is not None and allowed < (parse_quantity(_LEAST_MEMORY) or 0):
        raise Refused(Reason.BAD_ANNOTATION, f"{limit_name}: {limit} is less than {_LEAST_MEMORY}")
    if asked is not None and allowed is not None and asked > allowed:
        raise Refused(Reason.BAD_ANNOTATION, f"{request_name}: {request} is more than {limit_name}: {limit}")
    if default.request is not None and default.request == default.limit:
        # Of a Guaranteed pod: what is said of one holds for the other.
        return _Share(request or limit or default.request, limit or request or default.limit)
    return _consistent(_Share(request or default.request, limit or default.limit), limit_is_given=limit is not None)


def _consistent(share: _Share, limit_is_given: bool) -> _Share:
    """A default gives way to what is given, so that the request is within the limit."""
    request, limit = parse_quantity(share.request), parse_quantity(share.limit)
    if request is None or limit is None or request <= limit:
        return share
    return _Share(share.limit, share.limit) if limit_is_given else _Share(share.request, share.request)


def _quantity(name: str, text: str | None) -> Fraction | None:
    if text is None:
        return None
    quantity = parse_quantity(text)
    if not quantity:
        raise Refused(Reason.BAD_ANNOTATION, f"{name}: {text!r} is not a quantity such as 250m or 512Mi")
    return quantity
