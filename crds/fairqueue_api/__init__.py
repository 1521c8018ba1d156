"""The `FairnessPolicy` resource and the document that a proxy runs on: what every part of fairqueue shares.

The order of use: `load_policy` → `render` (with the client keys) → `Document.to_json` → `parse_document`.
Nothing here knows of schedulers, engines or Kubernetes; nothing is asynchronous or holds state. What reads policies
needs pydantic and PyYAML, and is imported when first asked for; a proxy that is given a document needs neither.
"""

from typing import TYPE_CHECKING, Any

from .credentials import digest
from .document import (
    BackpressureSettings,
    CostSettings,
    Document,
    DrainSettings,
    EngineSettings,
    GroupSettings,
    IdentitySettings,
    QuadraticSettings,
    QueueSettings,
    TenantSettings,
)
from .document_reader import ParsedDocument, parse_document
from .errors import DocumentError, PolicyError, Problem, SecretError
from .rendering import render
from .secret_files import SecretDirectory, SecretSource

if TYPE_CHECKING:
    from .loading import load_policy
    from .models import FairnessPolicy

__all__ = [
    "BackpressureSettings",
    "CostSettings",
    "Document",
    "DocumentError",
    "DrainSettings",
    "EngineSettings",
    "FairnessPolicy",
    "GroupSettings",
    "IdentitySettings",
    "ParsedDocument",
    "PolicyError",
    "Problem",
    "QuadraticSettings",
    "QueueSettings",
    "SecretDirectory",
    "SecretError",
    "SecretSource",
    "TenantSettings",
    "digest",
    "load_policy",
    "parse_document",
    "render",
]


def __getattr__(name: str) -> Any:
    if name == "FairnessPolicy":
        from .models import FairnessPolicy

        return FairnessPolicy
    if name == "load_policy":
        from .loading import load_policy

        return load_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
