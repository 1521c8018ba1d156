"""Policies for the lab: the product's defaults for the tenants of a workload, and policies from files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import structs

from fairqueue_api import Document, LimitSettings, TenantSettings, check_policy, load_policy, render

__all__ = ["open_policy", "read_policy"]

_NO_LIMITS = LimitSettings(max_in_flight=None, max_queued=None, tokens_per_minute=None)
_ENDLESS_SECONDS = float("inf")
_ENDLESS = 2**62


def open_policy(kind: str, tenants: Sequence[str], weights: Mapping[str, int]) -> Document:
    """Everything by default, for these tenants; but whoever waits waits as long as it takes."""
    engine = {"kind": kind, "port": 8080}
    spec = {"selector": {"matchLabels": {"app": "lab"}}, "engine": engine, "tenants": [{"name": "nobody"}]}
    metadata = {"name": "lab", "namespace": "lab"}
    policy = check_policy(
        {"apiVersion": "fairqueue.dev/v1alpha1", "kind": "FairnessPolicy", "metadata": metadata, "spec": spec}, "lab"
    )
    document = render(policy, None)
    return structs.replace(
        document,
        tenants=tuple(
            TenantSettings(
                name=name,
                group=None,
                weight=weights.get(name, 1),
                fair_within="None",
                limits=_NO_LIMITS,
                subjects=(),
                key_digests=(),
            )
            for name in tenants
        ),
        queue=structs.replace(
            document.queue,
            max_requests=_ENDLESS,
            max_requests_per_tenant=_ENDLESS,
            max_bytes=_ENDLESS,
            max_bytes_per_tenant=_ENDLESS,
            timeout_seconds=_ENDLESS_SECONDS,
        ),
    )


def read_policy(path: Path) -> Document:
    """A policy file as the proxy would have it, but for keys: a trace names tenants, and no secret is read.

    Raises:
        PolicyError: it can't be used.
    """
    return render(load_policy(path), _MadeUpKeys())


class _MadeUpKeys:
    """Each key of each Secret, by its name."""

    def read(self, secret: str, key: str) -> bytes:
        return f"{secret}/{key}".encode()
