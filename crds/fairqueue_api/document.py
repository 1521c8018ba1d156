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
    """`port` is the one that clients know; a standalone proxy is told where its engine is. `api_key` is sent to the
    engine in place of the client's: the only secret that a document holds in clear."""

    kind: Literal["TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI"]
    port: Annotated[int, Between(1, 65_535)] | None
    api_key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One way to know a client; `header` is in lower case.

    An API key names its tenant by digest. A trusted header names an identity, and is believed only from TCP peers in
    `trusted_cidrs` (empty for API keys).
    """

    name: str
    type: Literal["APIKey", "Header"]
    header: str
    trusted_cidrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Sources in the order in which they are tried, and what becomes of a request that none of them identifies."""

    on_unidentified: Literal["Reject", "Anonymous"]
    sources: tuple[SourceSettings, ...]


@dataclass(frozen=True, slots=True)
class SubjectSettings:
    """An identity, as a source other than API keys verifies it."""

    source: str
    value: str


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """None: bounded by the pod's limits only. `tokens_per_minute` counts prompt and output."""

    max_in_flight: PositiveCount | None
    max_queued: Count | None
    tokens_per_minute: PositiveCount | None


@dataclass(frozen=True, slots=True)
class GroupSettings:
    name: str
    parent: str | None
    weight: Weight


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """`fair_within` of `User`: the tenant's share is split among the users that its requests name."""

    name: str
    group: str | None
    weight: Weight
    fair_within: Literal["None", "User"]
    limits: LimitSettings
    subjects: tuple[SubjectSettings, ...]
    # A digest of a guessable key can be searched for: digests stay out of logs.
    key_digests: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class AnonymousSettings:
    """The class of those who belong to no tenant; `per_identity`: one leaf for each verified identity."""

    weight: Weight
    per_identity: bool
    limits: LimitSettings


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
    hold_headers_seconds: Seconds
    timeout_seconds: Seconds


@dataclass(frozen=True, slots=True)
class BackpressureSettings:
    """None: as the engine reports, else learned. `scrape_interval_seconds` is the shortest time between two looks at
    what the engine reports."""

    scrape_interval_seconds: Seconds
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
    mode: Literal["Enforce"]
    engine: EngineSettings
    identity: IdentitySettings
    groups: tuple[GroupSettings, ...]
    tenants: tuple[TenantSettings, ...]
    anonymous: AnonymousSettings | None
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
