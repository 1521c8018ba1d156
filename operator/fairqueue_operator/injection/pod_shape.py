"""The shape of a pod, as far as the injector reads it: afterwards no field is of a wrong type, and none is null.

Fields that are not listed pass unread: the API server checks the whole pod after us.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from .names import Json
from .reasons import Reason, Refused


@dataclass(frozen=True, slots=True)
class _Fields:
    known: "Mapping[str, _Shape]"
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _ListOf:
    item: "_Shape"
    at_least_one: bool = False


@dataclass(frozen=True, slots=True)
class _MapOf:
    item: "_Shape"


_Shape = _Fields | _ListOf | _MapOf | tuple[type, ...]

_TEXT: Final = (str,)
_NUMBER: Final = (int,)
_QUANTITY: Final = (str, int, float)
_NAMED: Final = _Fields({"name": _TEXT}, ("name",))
_ANYTHING: Final = _Fields({})
_TEXTS: Final = _MapOf(_TEXT)
_WITH_PORT: Final = _Fields({"port": (int, str)})
_HANDLER: Final = _Fields({"httpGet": _WITH_PORT, "tcpSocket": _WITH_PORT})
_RESOURCES: Final = _Fields(
    {"limits": _MapOf(_QUANTITY), "requests": _MapOf(_QUANTITY), "claims": _ListOf(_ANYTHING)},
)
_PORT: Final = _Fields(
    {"name": _TEXT, "containerPort": _NUMBER, "hostPort": _NUMBER, "protocol": _TEXT}, ("containerPort",)
)
_ENV: Final = _Fields({"name": _TEXT, "value": _TEXT, "valueFrom": _ANYTHING}, ("name",))
_CONTAINER: Final = _Fields(
    {
        "name": _TEXT,
        "image": _TEXT,
        "command": _ListOf(_TEXT),
        "args": _ListOf(_TEXT),
        "env": _ListOf(_ENV),
        "envFrom": _ListOf(_ANYTHING),
        "ports": _ListOf(_PORT),
        "resources": _RESOURCES,
        "restartPolicy": _TEXT,
        "livenessProbe": _HANDLER,
        "readinessProbe": _HANDLER,
        "startupProbe": _HANDLER,
        "lifecycle": _Fields({"postStart": _HANDLER, "preStop": _HANDLER}),
    },
    ("name",),
)
_POD: Final = _Fields(
    {
        "metadata": _Fields({"name": _TEXT, "namespace": _TEXT, "labels": _TEXTS, "annotations": _TEXTS}),
        "spec": _Fields(
            {
                "containers": _ListOf(_CONTAINER, at_least_one=True),
                "initContainers": _ListOf(_CONTAINER),
                "volumes": _ListOf(_NAMED),
                "hostNetwork": (bool,),
                "terminationGracePeriodSeconds": _NUMBER,
                "resources": _RESOURCES,
                "securityContext": _Fields(
                    {"sysctls": _ListOf(_Fields({"name": _TEXT, "value": _TEXT}, ("name", "value")))}
                ),
            },
            ("containers",),
        ),
    },
    ("metadata", "spec"),
)
_CALLED: Final = {str: "a string", int: "a whole number", bool: "true or false", float: "a number"}


def shaped_pod(pod: object) -> Json:
    """A deep copy of `pod` that may be changed. Raises `Refused` with the path of what is wrong."""
    copy = _shaped(pod, _POD, "")
    assert isinstance(copy, dict)
    return copy


def _shaped(value: object, shape: _Shape, path: str) -> Any:
    match shape:
        case _Fields():
            return _shaped_fields(value, shape, path)
        case _MapOf():
            entries = _checked(value, Mapping, path, "an object")
            return {key: _shaped(item, shape.item, f"{path}[{key}]") for key, item in entries.items()}
        case _ListOf():
            items = _checked(value, list, path, "a list")
            if shape.at_least_one and not items:
                raise Refused(Reason.BAD_POD, f"{path} is empty")
            return [_shaped(item, shape.item, f"{path}[{index}]") for index, item in enumerate(items)]
    # In Python, true is a whole number.
    if not isinstance(value, shape) or (isinstance(value, bool) and bool not in shape):
        raise Refused(Reason.BAD_POD, f"{path} must be {' or '.join(_CALLED[kind] for kind in shape)}")
    return value


def _shaped_fields(value: object, shape: _Fields, path: str) -> Json:
    fields = _checked(value, Mapping, path, "an object")
    copy: Json = {}
    for key, item in fields.items():
        below = f"{path}.{key}".removeprefix(".")
        if key not in shape.known:
            copy[key] = deepcopy(item)
        elif item is not None:
            copy[key] = _shaped(item, shape.known[key], below)
    for key in shape.required:
        if key not in copy:
            raise Refused(Reason.BAD_POD, f"{path}.{key} is missing".removeprefix("."))
    return copy


def _checked(value: object, kind: type, path: str, called: str) -> Any:
    if not isinstance(value, kind):
        raise Refused(Reason.BAD_POD, f"{path or 'the pod'} must be {called}")
    return value
