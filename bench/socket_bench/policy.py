"""The one policy of all cells: a few tenants of equal weight, and everything else as it is by default."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from socket_bench.cells import POLICY_KINDS, EngineName

__all__ = ["TENANTS", "Policy", "key_of", "write_policy"]

TENANTS = ("ada", "ben", "cleo", "dan")


@dataclass(frozen=True, slots=True)
class Policy:
    """What `fairqueue serve` is given."""

    path: Path
    secrets: Path


def key_of(client: int) -> str:
    """The API key of a client's tenant: clients are theirs in turn."""
    return f"key-of-{TENANTS[client % len(TENANTS)]}"


def write_policy(folder: Path, engine: EngineName) -> Policy:
    """Only the kind of engine is told."""
    keys = folder / "secrets" / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    for client, tenant in enumerate(TENANTS):
        (keys / tenant).write_text(key_of(client))
    # The port is what an operator would need; a proxy that stands alone ignores it.
    port = {"port": 8000} if engine == "openai" else {}
    document = {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": "bench"},
        "spec": {
            "selector": {"matchLabels": {"app": "bench"}},
            "engine": {"kind": POLICY_KINDS[engine], **port},
            "tenants": [{"name": name, "apiKeySecretRefs": [{"name": "keys", "key": name}]} for name in TENANTS],
        },
    }
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return Policy(path, folder / "secrets")
