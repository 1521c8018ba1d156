"""The volume that a pod has for its usage log, if it has one."""

from typing import Final

from .names import USAGE_VOLUME, Json
from .reasons import Reason, Refused

# Kubernetes writes them; nobody else can.
_READ_ONLY: Final = ("configMap", "downwardAPI", "image", "projected", "secret")


def usage_volume(pod: Json) -> str | None:
    """The name of the volume that the pod's annotation names. Raises `Refused` where there is none that can be written
    to."""
    name: str | None = pod["metadata"].get("annotations", {}).get(USAGE_VOLUME)
    if name is None:
        return None
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    if name not in volumes:
        raise Refused(Reason.BAD_ANNOTATION, f"{USAGE_VOLUME}: the pod has no volume {name!r}")
    if any(volumes[name].get(kind) is not None for kind in _READ_ONLY):
        raise Refused(Reason.BAD_ANNOTATION, f"{USAGE_VOLUME}: nothing can be written to volume {name!r}")
    return name
