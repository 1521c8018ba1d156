"""The rendered document: all that a proxy needs to know of one policy, and nothing that a reader could misuse.

Client keys are in it as digests only. Names are snake_case; times are seconds, sizes bytes. The same policy and keys
give the same bytes: everything is sorted, nothing depends on the clock.
"""

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Annotated, Final, Literal

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Between:
    """A number's range, both ends included."""

    minimum: float
    maximum: float


Count = Annotated[int, Between(0, 2**63 - 1)]
PositiveCount = Annotated[int, Between(1, 2**63 - 1)]
Weight = Annotated[int, Between(1, 10_000)]
Percent = Annotated[int, Between(0, 100)]
Seconds = Annotated[float, Between(0, 3600)]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """`port` is the one that clients know; a standalone proxy is told where its engine is."""

    kind: Literal["TGI", "LlamaCpp", "OpenAI"]
    port: Annotated[int, Between(1, 65_535)] | None


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Headers that may carry a key, lower case, in the order in which they are tried."""

    api_key_headers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupSettings:
    name: str
    parent: str | None
    weight: Weight


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """`max_in_flight` and `max_queued` of None: bounded by the pod's limits only."""

    name: str
    group: str | None
    weight: Weight
    max_in_flight: PositiveCount | None
    max_queued: Count | None
    # A digest of a guessable key can be searched for: digests stay out of logs.
    key_digests: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class QuadraticSettings:
    input_input_per_million: Count
    input_output_per_million: Count
    output_output_per_million: Count


@dataclass(frozen=True, slots=True)
class CostSettings:
    """Cost units per token and per request; `quadratic` is None when `type` is Linear."""

    type: Literal["Linear", "Quadratic"]
    input_token: Count
    output_token: PositiveCount
    request: Count
    cached_input_percent: Percent
    prediction: Literal["Mean", "MaxTokens", "None"]
    quadratic: QuadraticSettings | None


@dataclass(frozen=True, slots=True)
class QueueSettings:
    max_requests: PositiveCount
    max_requests_per_tenant: PositiveCount
    max_bytes: PositiveCount
    max_bytes_per_tenant: PositiveCount
    max_body_bytes: PositiveCount
    timeout_seconds: Seconds


@dataclass(frozen=True, slots=True)
class BackpressureSettings:
    """None: as the engine reports, else learned."""

    max_requests: PositiveCount | None
    max_tokens: PositiveCount | None
    max_prefill_tokens: PositiveCount | None


@dataclass(frozen=True, slots=True)
class DrainSettings:
    timeout_seconds: Seconds


@dataclass(frozen=True, slots=True)
class Document:
    """`policy` is namespace/name; `revision` changes with anything else in the document, rotated keys included."""

    schema: Literal[1]
    policy: str
    revision: str
    engine: EngineSettings
    identity: IdentitySettings
    groups: tuple[GroupSettings, ...]
    tenants: tuple[TenantSettings, ...]
    cost: CostSettings
    queue: QueueSettings
    backpressure: BackpressureSettings
    drain: DrainSettings

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no white space, ASCII. `parse_document` reads it."""
        return _canonical_json(asdict(self))


def revision_of(document: Document) -> str:
    """SHA-256, hex, of the document's canonical JSON without its revision."""
    content = asdict(document)
    del content["revision"]
    return sha256(_canonical_json(content)).hexdigest()


def _canonical_json(content: dict[str, object]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
