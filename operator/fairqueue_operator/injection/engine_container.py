"""Which of a pod's containers is the engine."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from fairqueue_api.models import Engine

from .engine_kinds import ENGINE_KINDS
from .meshes import MESH_PROXIES
from .names import Json
from .reasons import Reason, Refused

# nvidia.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-1g.5gb, amd.com/gpu, gpu.intel.com/xe, google.com/tpu,
# aws.amazon.com/neuron, habana.ai/gaudi and their like.
_ACCELERATOR: Final = re.compile(r"gpu\.[^/]*/.*|[^/]*/(gpu|mig-|tpu|neuron|gaudi|npu).*")


def engine_container(containers: Sequence[Json], engine: Engine) -> Json:
    """The one that the policy names, else the only one, the only one with an accelerator, or the only one that looks
    like the engine. Raises `Refused`.
    """
    if engine.container is not None:
        for container in containers:
            if container["name"] == engine.container:
                return container
        raise Refused(Reason.NO_ENGINE_CONTAINER, f"{engine.container} is none of {_names(containers)}")
    candidates = [container for container in containers if container["name"] not in MESH_PROXIES]
    narrowing: tuple[Callable[[Json], bool], ...] = (lambda _: True, _has_accelerator, _looks_like(engine.kind))
    for fits in narrowing:
        fitting = [container for container in candidates if fits(container)]
        if len(fitting) == 1:
            return fitting[0]
        candidates = fitting or candidates
    raise Refused(Reason.ENGINE_AMBIGUOUS, f"it may be any of {_names(candidates)}")


def _has_accelerator(container: Json) -> bool:
    resources = container.get("resources", {})
    asked = {*resources.get("limits", {}), *resources.get("requests", {})}
    return bool(resources.get("claims")) or any(_ACCELERATOR.fullmatch(name) for name in asked)


def _looks_like(kind: str) -> Callable[[Json], bool]:
    marks = ENGINE_KINDS[kind].marks

    def looks_like(container: Json) -> bool:
        # Not the arguments: a router names the engines that it sends to.
        said = " ".join([container.get("image", ""), *container.get("command", [])]).lower()
        return any(mark in said for mark in marks)

    return looks_like


def _names(containers: Sequence[Json]) -> str:
    return ", ".join(container["name"] for container in containers) or "no container"
