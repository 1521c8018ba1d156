"""The `FairnessPolicy` resource and the document that a proxy runs on: what every part of fairqueue shares.

The order of use: `load_policy` → `render` (with the client keys) → `Document.to_json` → `parse_document`.
Nothing here knows of schedulers, engines or Kubernetes; nothing holds state or is asynchronous, but for the word that a
process is told to end (`told`). What reads policies needs pydantic and PyYAML, and is imported when first asked for; a
proxy that is given a document needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .credentials import digest
from .document import (
    AnonymousSettings,
    BackpressureSettings,
    CostSettings,
    Document,
    DrainSettings,
    EngineSettings,
    GroupSettings,
    IdentitySettings,
    LimitSettings,
    QuadraticSettings,
    QueueSettings,
    SourceSettings,
    SubjectSettings,
    TenantSettings,
)
from .document_reader import ParsedDocument, parse_document
from .errors import DocumentError, PolicyError, Problem, SecretError
from .rendering import render
from .secret_files import SecretDirectory, SecretSource

if TYPE_CHECKING:
    from .loading import check_policy, load_policy
    from .models import FairnessPolicy
    from .trust_warnings import policy_warnings
    from .yaml_reader import read_resources

__all__ = [
    "AnonymousSettings",
    "BackpressureSettings",
    "CostSettings",
    "Document",
    "DocumentError",
    "DrainSettings",
    "EngineSettings",
    "FairnessPolicy",
    "GroupSettings",
    "IdentitySettings",
    "LimitSettings",
    "ParsedDocument",
    "PolicyError",
    "Problem",
    "QuadraticSettings",
    "QueueSettings",
    "SecretDirectory",
    "SecretError",
    "SecretSource",
    "SourceSettings",
    "SubjectSettings",
    "TenantSettings",
    "check_policy",
    "digest",
    "load_policy",
    "parse_document",
    "policy_warnings",
    "read_resources",
    "render",
]

# Name → module, of what needs pydantic or PyYAML.
_IMPORTED_ON_DEMAND = {
    "FairnessPolicy": "models",
    "check_policy": "loading",
    "load_policy": "loading",
    "policy_warnings": "trust_warnings",
    "read_resources": "yaml_reader",
}


def __getattr__(name: str) -> Any:
    if name in _IMPORTED_ON_DEMAND:
        return getattr(import_module(f".{_IMPORTED_ON_DEMAND[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
