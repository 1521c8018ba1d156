"""The rendered document: all that a proxy needs to know of one policy, and nothing that a reader could misuse.

Client keys are in it as digests only. Names are snake_case; times are seconds, sizes bytes. The same policy and keys
give the same bytes: everything is sorted, nothing depends on the clock.
"""

from hashlib import sha256
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, json, structs

SCHEMA: Final = 1

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
PositiveCount = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Weight = Annotated[int, Meta(ge=1, le=10_000)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]


class EngineSettings(Struct, frozen=True):
    """`port` is the one that clients know; a standalone proxy is told where its engine is. `api_key` is sent to the
    engine in place of the client's: the only secret that a document holds in clear."""

    kind: Literal["TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI"]
    port: Annotated[int, Meta(ge=1, le=65_535)] | None
    api_key: str | None

    def __repr__(self) -> str:
        return _repr_without("api_key", self)


class SourceSettings(Struct, frozen=True):
    """One way to know a client; `header` is in lower case.

    An API key names its tenant by digest. A trusted header names an identity, and is believed only from TCP peers in
    `trusted_cidrs` (empty for API keys).
    """

    name: str
    type: Literal["APIKey", "Header"]
    header: str
    trusted_cidrs: tuple[str, ...]


class IdentitySettings(Struct, frozen=True):
    """Sources in the order in which they are tried, and what becomes of a request that none of them identifies."""

    on_unidentified: Literal["Reject", "Anonymous"]
    sources: tuple[SourceSettings, ...]


class SubjectSettings(Struct, frozen=True):
    """An identity, as a source other than API keys verifies it."""

    source: str
    value: str


class LimitSettings(Struct, frozen=True):
    """None: bounded by the pod's limits only. `tokens_per_minute` counts prompt and output."""

    max_in_flight: PositiveCount | None
    max_queued: Count | None
    tokens_per_minute: PositiveCount | None


class GroupSettings(Struct, frozen=True):
    name: str
    parent: str | None
    weight: Weight


class TenantSettings(Struct, frozen=True):
    """`fair_within` of `User`: the tenant's share is split among the users that its requests name."""

    name: str
    group: str | None
    weight: Weight
    fair_within: Literal["None", "User"]
    limits: LimitSettings
    subjects: tuple[SubjectSettings, ...]
    key_digests: tuple[str, ...]

    def __repr__(self) -> str:
        # A digest of a guessable key can be searched for: digests stay out of logs.
        return _repr_without("key_digests", self)


class AnonymousSettings(Struct, frozen=True):
    """The class of those who belong to no tenant; `per_identity`: one leaf for each verified identity."""

    weight: Weight
    per_identity: bool
    limits: LimitSettings


class QuadraticSettings(Struct, frozen=True):
    input_input_per_million: Count
    input_output_per_million: Count
    output_output_per_million: Count


class CostSettings(Struct, frozen=True):
    """Cost units per token and per request; `quadratic` is None when `type` is Linear."""

    type: Literal["Linear", "Quadratic"]
    input_token: Count
    output_token: PositiveCount
    request: Count
    cached_input_percent: Percent
    prediction: Literal["Mean", "MaxTokens", "None"]
    quadratic: QuadraticSettings | None


class QueueSettings(Struct, frozen=True):
    max_requests: PositiveCount
    max_requests_per_tenant: PositiveCount
    max_bytes: PositiveCount
    max_bytes_per_tenant: PositiveCount
    max_body_bytes: PositiveCount
    hold_headers_seconds: Seconds
    timeout_seconds: Seconds


class BackpressureSettings(Struct, frozen=True):
    """None: as the engine reports, else learned. `scrape_interval_seconds` is the shortest time between two looks at
    what the engine reports."""

    scrape_interval_seconds: Seconds
    max_requests: PositiveCount | None
    max_tokens: PositiveCount | None
    max_prefill_tokens: PositiveCount | None


class DrainSettings(Struct, frozen=True):
    timeout_seconds: Seconds


class Document(Struct, frozen=True):
    """`policy` is namespace/name; `revision` changes with anything else in the document, rotated keys included."""

    schema: Literal[1]
    policy: str
    revision: str
    mode: Literal["Enforce", "Observe"]
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
        """Canonical JSON: sorted keys, no white space, UTF-8. `parse_document` reads it."""
        return json.encode(self, order="sorted")


def revision_of(document: Document) -> str:
    """SHA-256, hex, of the document's canonical JSON without its revision."""
    content = structs.asdict(document)
    del content["revision"]
    return sha256(json.encode(content, order="sorted")).hexdigest()


def _repr_without(secret: str, settings: Struct) -> str:
    shown = [f"{name}={value!r}" for name, value in structs.asdict(settings).items() if name != secret]
    return f"{type(settings).__name__}({', '.join(shown)})"
