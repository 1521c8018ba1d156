"""The annotations that say what was done to a pod; read again to know a pod that has been through here."""

import hashlib
import json
from collections.abc import Mapping

from .names import BOUND_POLICY, PROXY_CONTAINER, STATUS, VOLUMES, Json
from .ports import containers_of
from .reasons import Reason, Refused

_HASH_CHARACTERS = 16


def is_injected(pod: Json) -> bool:
    """Whether the proxy is there and is ours. Raises `Refused` if something else has one of its names."""
    sidecars = [container["name"] for container in pod["spec"].get("initContainers", [])]
    if PROXY_CONTAINER in sidecars and "hash" in _status(pod):
        return True
    for container in containers_of(pod):
        if container["name"] == PROXY_CONTAINER:
            raise Refused(Reason.NAME_TAKEN, f"container {PROXY_CONTAINER}, which fairqueue did not write")
    for volume in pod["spec"].get("volumes", []):
        if volume["name"] in VOLUMES:
            raise Refused(Reason.NAME_TAKEN, f"volume {volume['name']}")
    return False


def write_status(pod: Json, status: Mapping[str, object]) -> None:
    annotations = pod["metadata"].setdefault("annotations", {})
    # Without blanks: the second lock (a ValidatingAdmissionPolicy) looks for "mode":"Disabled" in it.
    annotations[STATUS] = json.dumps(status, sort_keys=True, separators=(",", ":"))


def bind(pod: Json, policy: str) -> None:
    pod["metadata"].setdefault("annotations", {})[BOUND_POLICY] = policy


def spec_hash(injected: object) -> str:
    """Changes when what is put into the pod does: by it, pods with an old proxy are told from new ones."""
    text = json.dumps(injected, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]


def _status(pod: Json) -> Mapping[str, object]:
    try:
        status = json.loads(pod["metadata"].get("annotations", {}).get(STATUS, "{}"))
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}
