"""The `FairnessPolicy` resource, v1alpha1: the fields that this version enforces, with their ranges and defaults.

Only the shape of each field is checked here, as the API server's structural schema does; what relates fields to one
another is in `rules`. Fields of v1alpha1 that are absent here are listed in `structure` and refused by name.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from .durations import DurationError, parse_duration

API_VERSION = "fairqueue.dev/v1alpha1"
KIND = "FairnessPolicy"

DNS_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
_MEBIBYTE = 1_048_576
_DURATION_CHARACTERS = 16


def _seconds(within: Callable[[float], bool], bounds: str) -> object:
    def convert(text: str) -> str:
        if not within(parse_duration(text)):
            raise DurationError(f"must be {bounds}", "write a duration in that range")
        return text

    return AfterValidator(convert)


DnsName = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
SecretName = Annotated[str, Field(min_length=1, max_length=253)]
Weight = Annotated[int, Field(ge=1, le=10_000)]
Int64 = Annotated[int, Field(ge=1, le=_INT64_MAX)]
PerMillion = Annotated[int, Field(ge=0, le=_INT64_MAX)]
QueueBytes = Annotated[int, Field(ge=_MEBIBYTE, le=_INT64_MAX)]
RequestCount = Annotated[int, Field(ge=1, le=100_000)]
QueueTimeout = Annotated[
    str,
    Field(max_length=_DURATION_CHARACTERS),
    _seconds(lambda seconds: 0 < seconds <= 3600, "more than 0s and at most 1h"),
]
DrainTimeout = Annotated[
    str,
    Field(max_length=_DURATION_CHARACTERS),
    _seconds(lambda seconds: 0 <= seconds <= 3600, "between 0s and 1h"),
]


class Model(BaseModel):
    """Names are camelCase in the file; types are taken as written (no "8080" for 8080); unknown fields are errors."""

    # Schemas are built on first use: a proxy that reads a rendered document never pays for them.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, hide_input_in_errors=True, defer_build=True
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: object) -> object:
        # As the API server does: a known field without a value (`limits:`) takes its default.
        if not isinstance(value, dict):
            return value
        known = {field.alias for field in cls.model_fields.values()}
        return {name: item for name, item in value.items() if item is not None or name not in known}


class Metadata(Model):
    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=52, pattern=DNS_SUBDOMAIN)]
    namespace: DnsName = "default"


class LabelExpression(Model):
    key: Annotated[str, Field(max_length=317)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=32)] = []


class Selector(Model):
    match_labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=16)] = {}
    match_expressions: Annotated[list[LabelExpression], Field(max_length=16)] = []


class Engine(Model):
    kind: Literal["TGI", "LlamaCpp", "OpenAI"]
    container: DnsName | None = None
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None


class Injection(Model):
    mode: Literal["PortTakeover", "SidecarOnly", "Disabled"] = "PortTakeover"


class ApiKeySource(Model):
    header: Annotated[str, Field(max_length=64)] = "Authorization"


class IdentitySource(Model):
    name: Annotated[str, Field(max_length=63)]
    type: Literal["APIKey"]
    api_key: ApiKeySource | None = None


def _default_sources() -> list[IdentitySource]:
    return [IdentitySource.model_validate({"name": "api-key", "type": "APIKey", "apiKey": {}})]


class Identity(Model):
    on_unidentified: Literal["Reject"] = "Reject"
    sources: Annotated[list[IdentitySource], Field(min_length=1, max_length=8, default_factory=_default_sources)]


class Group(Model):
    name: DnsName
    parent: DnsName | None = None
    weight: Weight = 1


class SecretRef(Model):
    name: SecretName
    key: SecretName


class Limits(Model):
    max_in_flight: Annotated[int, Field(ge=1, le=_INT32_MAX)] | None = None
    max_queued: Annotated[int, Field(ge=0, le=_INT32_MAX)] | None = None


class Tenant(Model):
    name: DnsName
    group: DnsName | None = None
    weight: Weight = 1
    fair_within: Literal["None"] = "None"
    api_key_secret_refs: Annotated[list[SecretRef], Field(max_length=16)] = []
    limits: Annotated[Limits, Field(default_factory=Limits)]


class Quadratic(Model):
    input_input_per_million: PerMillion = 0
    input_output_per_million: PerMillion = 0
    output_output_per_million: PerMillion = 0


class Cost(Model):
    type: Literal["Linear", "Quadratic"] = "Linear"
    input_token: Annotated[int, Field(ge=0, le=1_000)] = 1
    output_token: Annotated[int, Field(ge=1, le=1_000)] = 2
    request: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    cached_input_percent: Annotated[int, Field(ge=0, le=100)] = 100
    prediction: Literal["Mean", "MaxTokens", "None"] = "Mean"
    quadratic: Quadratic | None = None


class Queue(Model):
    max_requests: RequestCount = 1024
    max_requests_per_tenant: RequestCount = 256
    max_bytes: QueueBytes = 64 * _MEBIBYTE
    max_bytes_per_tenant: QueueBytes = 32 * _MEBIBYTE
    max_body_bytes: Annotated[int, Field(ge=1024, le=_INT64_MAX)] = 16 * _MEBIBYTE
    timeout: QueueTimeout = "60s"


class Backpressure(Model):
    max_requests: RequestCount | None = None
    max_tokens: Int64 | None = None
    max_prefill_tokens: Int64 | None = None


class Drain(Model):
    timeout: DrainTimeout = "120s"


class Spec(Model):
    selector: Selector
    engine: Engine
    mode: Literal["Enforce"] = "Enforce"
    injection: Annotated[Injection, Field(default_factory=Injection)]
    identity: Annotated[Identity, Field(default_factory=Identity)]
    groups: Annotated[list[Group], Field(max_length=64)] = []
    tenants: Annotated[list[Tenant], Field(max_length=256)] = []
    cost: Annotated[Cost, Field(default_factory=Cost)]
    queue: Annotated[Queue, Field(default_factory=Queue)]
    backpressure: Annotated[Backpressure, Field(default_factory=Backpressure)]
    drain: Annotated[Drain, Field(default_factory=Drain)]


class FairnessPolicy(Model):
    """One policy: which engine, which tenants with which weights, what a request costs, what may wait.

    `status` is what the operator writes; it is taken, so that the output of `kubectl get -o yaml` can be used, and
    not read.
    """

    api_version: Literal["fairqueue.dev/v1alpha1"]
    kind: Literal["FairnessPolicy"]
    metadata: Metadata
    spec: Spec
    status: object = None
