"""Names, ports and paths that the injector, the operator and the documents share.

Labels and annotations are what users write or read; all else is what the injected container is made of.
"""

from typing import Any, Final

Json = dict[str, Any]

INJECT_LABEL: Final = "fairqueue.dev/inject"
"""`"true"` asks for the proxy."""
POLICY_LABEL: Final = "fairqueue.dev/policy"
"""Chooses a policy by its name where several select the pod."""

ON_MISSING_POLICY: Final = "fairqueue.dev/on-missing-policy"
"""Annotation; `Allow` admits a pod that no policy selects, without a proxy."""
USAGE_VOLUME: Final = "fairqueue.dev/usage-volume"
"""Annotation; names a volume of the pod, to which the proxy writes its usage log."""
STATUS: Final = "fairqueue.dev/status"
"""Annotation, written: what was done, as JSON with sorted keys."""
BOUND_POLICY: Final = "fairqueue.dev/bound-policy"
"""Annotation, written: the policy whose document the pod's proxy reads, whatever selectors say later."""
NUDGE: Final = "fairqueue.dev/config-nudge"
"""Annotation, written: another value has the kubelet look at the pod again, and at what is mounted in it."""

PROXY_CONTAINER: Final = "fairqueue-proxy"
ADMIN_PORT: Final = 9820
LOCAL_PORT: Final = 9821
SIDECAR_ONLY_PORT: Final = 8100
"""Where the proxy listens that leaves the engine its port; another one if that is taken."""
# Names of ports have 15 characters at most.
DATA_PORT_NAME: Final = "fairqueue"
ADMIN_PORT_NAME: Final = "fairqueue-admin"
ENGINE_PORT_NAME: Final = "engine"

CONFIG_VOLUME: Final = "fairqueue-config"
RUN_VOLUME: Final = "fairqueue-run"
NO_TOKEN_VOLUME: Final = "fairqueue-no-token"
VOLUMES: Final = (CONFIG_VOLUME, RUN_VOLUME, NO_TOKEN_VOLUME)


def secret_name(policy: str) -> str:
    """The Secret that holds the document which the operator renders from `policy`."""
    return f"{policy}-fairqueue"
