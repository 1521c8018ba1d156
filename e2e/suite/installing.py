"""fairqueue as its page says that it is installed."""

import os
from pathlib import Path

from suite.kubectl import Json, Kubectl, KubectlError, until

SYSTEM = "fairqueue-system"
OVERLAYS = Path(__file__).resolve().parents[2] / "manifests" / "overlays"
# Asks for the proxy in a namespace without a policy.
NOBODY: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "nobody", "labels": {"fairqueue.dev/inject": "true"}},
    "spec": {"containers": [{"name": "c", "image": "none"}]},
}


def install() -> Kubectl:
    """Applies the manifests, and returns once the API server reaches the injector and trusts it, and operators run."""
    system = Kubectl(SYSTEM)
    overlay = OVERLAYS / os.environ.get("E2E_OVERLAY", "default")
    system.run("apply", "--server-side", "-k", str(overlay))
    for name in ("fairqueue-injector", "fairqueue-operator"):
        system.run("rollout", "status", f"deployment/{name}", "--timeout=90s")
    until(_admits, "an admission by the injector", seconds=90)
    return system


def _admits() -> bool:
    try:
        Kubectl("default").dry_run(NOBODY)
    except KubectlError as error:
        return "missing_policy" in str(error)
    return False
