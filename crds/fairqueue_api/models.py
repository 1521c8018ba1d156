"""The `FairnessPolicy` resource, v1alpha1: every field with its range, default and meaning.

The models are the one source of the fields: the CRD and the table in `docs/policy.md` are made from them. Only the
shape of each field is checked here, as the API server's structural schema does; what a schema cannot say is in
`rules`. None means that a field is absent.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .crd_markers import ATOMIC_LIST, ATOMIC_MAP, INT32, INT32_MAX, INT64, INT64_MAX, SET, default, unique_by
from .model import Model

API_VERSION = "fairqueue.dev/v1alpha1"
KIND = "FairnessPolicy"

DNS_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
HTTPS = "^https://"
_MEBIBYTE = 1_048_576

DnsName = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
SecretName = Annotated[str, Field(min_length=1, max_length=253)]
SourceName = Annotated[str, Field(max_length=63)]
LabelValue = Annotated[str, Field(max_length=63)]
HeaderName = Annotated[str, Field(max_length=64)]
Url = Annotated[str, Field(max_length=512, pattern=HTTPS)]
Word = Annotated[str, Field(max_length=128)]
Audiences = Annotated[list[Annotated[str, Field(max_length=256)]], Field(min_length=1, max_length=8), SET]
Weight = Annotated[int, Field(ge=1, le=10_000), INT32]
PositiveInt64 = Annotated[int, Field(ge=1, le=INT64_MAX), INT64]
PerMillion = Annotated[int, Field(ge=0, le=INT64_MAX), INT64]
QueueBytes = Annotated[int, Field(ge=_MEBIBYTE, le=INT64_MAX), INT64]
RequestCount = Annotated[int, Field(ge=1, le=100_000), INT32]
# Written as Go does; read, and held within its bounds, by a rule.
Duration = Annotated[str, Field(max_length=16)]


class Metadata(Model):
    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
    namespace: DnsName = "default"


class LabelExpression(Model):
    key: Annotated[str, Field(max_length=317)] = Field(description="a label")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="how it must be")
    values: Annotated[list[LabelValue], Field(max_length=32), ATOMIC_LIST] = Field(
        [], description="for `In` and `NotIn`"
    )


class Selector(Model):
    match_labels: Annotated[dict[str, LabelValue], Field(max_length=16)] = Field(
        {}, description="labels that a pod must have"
    )
    match_expressions: Annotated[list[LabelExpression], Field(max_length=16), ATOMIC_LIST] = Field(
        [], description="conditions that all must hold"
    )


class SecretRef(Model):
    name: SecretName = Field(description="the Secret; standalone, a directory below `--secrets`")
    key: SecretName = Field(description="the entry in it; standalone, a file in that directory")


class Listen(Model):
    host_env: Word | None = Field(None, description="environment variable that holds the address to listen on")
    port_env: Word | None = Field(None, description="environment variable that holds the port")
    host_arg: Word | None = Field(None, description="argument that is followed by the address, such as `--host`")
    port_arg: Word | None = Field(None, description="argument that is followed by the port, such as `--port`")


class Engine(Model):
    kind: Literal["TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI"] = Field(
        description="how to speak to the engine; `OpenAI` is any server with the OpenAI API"
    )
    container: Annotated[str, Field(max_length=63, pattern=DNS_LABEL)] | None = Field(
        None, description="on Kubernetes, the engine's container in the pod"
    )
    port: Annotated[int, Field(ge=1, le=65_535), INT32] | None = Field(
        None, description="on Kubernetes, the port that clients know; required for `OpenAI`"
    )
    api_key_secret_ref: SecretRef | None = Field(
        None, description="the engine's own key, sent to it in place of the client's credential"
    )
    listen: Listen | None = Field(None, description="on Kubernetes, how an `OpenAI` engine is told where to listen")


class Injection(Model):
    mode: Literal["PortTakeover", "SidecarOnly", "Disabled"] = Field(
        "PortTakeover", description="on Kubernetes, whether the proxy takes the engine's port"
    )


class ApiKeySource(Model):
    header: HeaderName = Field(
        "Authorization", description="the header that carries the key, after `Bearer ` where it is `Authorization`"
    )


class JwtSource(Model):
    issuer: Url = Field(description="who signs the tokens")
    audiences: Audiences = Field(description="of which a token must name one")
    jwks_uri: Url | None = Field(None, alias="jwksURI", description="where the issuer's keys are; else as it says")
    tenant_claim: Word = Field(description="the claim that names the tenant")
    user_claim: Word = Field("sub", description="the claim that names the user")


class ServiceAccountSource(Model):
    audiences: Audiences = Field(description="of which a token must name one")


class HeaderSource(Model):
    name: HeaderName = Field(
        "x-gateway-inference-fairness-id", description="the header that names the identity; set by your gateway"
    )
    trusted_cidrs: Annotated[list[Annotated[str, Field(max_length=43)]], Field(min_length=1, max_length=32), SET] = (
        Field(
            alias="trustedCIDRs",
            description="the only TCP peers whose header is believed: your gateway; loopback is not implied",
        )
    )


class IdentitySource(Model):
    name: SourceName = Field(description="what subjects call it")
    type: Literal["APIKey", "JWT", "ServiceAccount", "Header"] = Field(
        description="how a client is known; the field of that name must be set, and no other"
    )
    api_key: ApiKeySource | None = Field(None, description="a key that one of the tenants has; `{}` will do")
    jwt: JwtSource | None = Field(None, description="a signed token")
    service_account: ServiceAccountSource | None = Field(None, description="a token of a Kubernetes ServiceAccount")
    header: HeaderSource | None = Field(None, description="a header that a gateway sets")


_DEFAULT_SOURCES = [{"name": "api-key", "type": "APIKey", "apiKey": {}}]


def _default_sources() -> list[IdentitySource]:
    return [IdentitySource.model_validate(source) for source in _DEFAULT_SOURCES]


class Identity(Model):
    on_unidentified: Literal["Reject", "Anonymous"] = Field(
        "Reject",
        description="what becomes of a request without a credential, or of an identity without a tenant: 401, or "
        "served as `anonymous`. An unknown key is 401 in any case",
    )
    sources: Annotated[
        list[IdentitySource], Field(min_length=1, max_length=8), unique_by("name"), default(_DEFAULT_SOURCES)
    ] = Field(default_factory=_default_sources, description="tried in order; the first that yields an identity wins")


class Group(Model):
    name: DnsName = Field(description="unique among groups")
    parent: DnsName | None = Field(None, description="a group that has no parent itself: there are two levels at most")
    weight: Weight = Field(1, description="share among its siblings")


class Subject(Model):
    source: SourceName = Field(description="the identity source that verifies it; not one of type `APIKey`")
    value: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="the identity")


class Limits(Model):
    max_in_flight: Annotated[int, Field(ge=1, le=INT32_MAX), INT32] | None = Field(
        None, description="requests in the engine at once"
    )
    max_queued: Annotated[int, Field(ge=0, le=INT32_MAX), INT32] | None = Field(
        None, description="requests that may wait; more get 429"
    )
    tokens_per_minute: PositiveInt64 | None = Field(
        None, description="prompt and output tokens; over it, the tenant's requests wait. Fairness needs none"
    )


class Tenant(Model):
    name: DnsName = Field(description="unique among tenants; `other` and `anonymous` are reserved")
    group: DnsName | None = Field(None, description="without one, a sibling of the top-level groups")
    weight: Weight = Field(1, description="share among its siblings")
    fair_within: Literal["None", "User"] = Field(
        "None", description="`User`: the tenant's share is split evenly among the users that its requests name"
    )
    api_key_secret_refs: Annotated[list[SecretRef], Field(max_length=16), unique_by("name", "key")] = Field(
        [], description="its keys; several, so that one can be replaced while another works"
    )
    subjects: Annotated[list[Subject], Field(max_length=32), ATOMIC_LIST] = Field(
        [], description="identities that are this tenant; each belongs to one tenant"
    )
    limits: Limits | None = Field(None, description="caps that hold whoever else is there")


class Anonymous(Model):
    weight: Weight = Field(1, description="share of all of them together, beside the top-level groups and tenants")
    per_identity: bool = Field(
        True, description="each verified identity has an even part of it; `false`: all wait in one queue"
    )
    limits: Limits | None = Field(None, description="caps on all of them together")


class Quadratic(Model):
    input_input_per_million: PerMillion = Field(0, description="millionths for each pair of prompt tokens")
    input_output_per_million: PerMillion = Field(0, description="millionths for each prompt token with each generated")
    output_output_per_million: PerMillion = Field(0, description="millionths for each pair of generated tokens")


class Cost(Model):
    type: Literal["Linear", "Quadratic"] = Field("Linear", description="`Quadratic` adds the terms of `quadratic`")
    input_token: Annotated[int, Field(ge=0, le=1_000), INT32] = Field(1, description="cost of a prompt token")
    output_token: Annotated[int, Field(ge=1, le=1_000), INT32] = Field(2, description="cost of a generated token")
    request: Annotated[int, Field(ge=0, le=1_000_000), INT32] = Field(0, description="cost of a request as such")
    cached_input_percent: Annotated[int, Field(ge=0, le=100), INT32] = Field(
        100, description="what a prompt token that the engine found in its prefix cache costs, in percent"
    )
    prediction: Literal["Mean", "MaxTokens", "None"] = Field(
        "Mean",
        description="output reserved at dispatch: the tenant's mean, what the request allows, or none. `None` is the "
        "word; an empty value means the default",
    )
    quadratic: Quadratic | None = Field(None, description="the terms of a cost that grows with the square of length")


class Queue(Model):
    max_requests: RequestCount = Field(1024, description="requests that may wait in the proxy")
    max_requests_per_tenant: RequestCount = Field(256, description="likewise, of one tenant")
    max_bytes: QueueBytes = Field(64 * _MEBIBYTE, description="bodies of all requests that wait")
    max_bytes_per_tenant: QueueBytes = Field(32 * _MEBIBYTE, description="likewise, of one tenant")
    max_body_bytes: Annotated[int, Field(ge=1024, le=INT64_MAX), INT64] = Field(
        16 * _MEBIBYTE, description="one request's body"
    )
    hold_headers: Duration = Field(
        "5s", description="how long a stream that waits gets no byte; then `200` and a comment now and then"
    )
    timeout: Duration = Field("60s", description="longest wait, more than 0s; then 504")


class Backpressure(Model):
    max_requests: RequestCount | None = Field(None, description="in the engine at once")
    max_tokens: PositiveInt64 | None = Field(None, description="prompt and reserved output tokens in the engine")
    max_prefill_tokens: PositiveInt64 | None = Field(None, description="prompt tokens sent, no output token yet")
    scrape_interval: Duration = Field("500ms", description="shortest time between two looks at the engine's metrics")


class Drain(Model):
    timeout: Duration = Field("120s", description="how long requests may take to finish before the proxy ends")


class Spec(Model):
    selector: Annotated[Selector, ATOMIC_MAP] = Field(
        description="on Kubernetes, which pods; required everywhere, used there only"
    )
    engine: Engine = Field(description="the model server")
    mode: Literal["Enforce", "Observe"] = Field(
        "Enforce",
        description="`Observe`: relay everything at once, refuse nothing, and report what `Enforce` would have done",
    )
    injection: Annotated[
        Injection,
        default({}),
        Field(default_factory=Injection, description="on Kubernetes, how the proxy gets into a pod"),
    ]
    identity: Annotated[
        Identity, default({}), Field(default_factory=Identity, description="how it is found out whose a request is")
    ]
    groups: Annotated[list[Group], Field(max_length=64), unique_by("name")] = Field(
        [], description="organisations and teams, which share first"
    )
    tenants: Annotated[list[Tenant], Field(max_length=256), unique_by("name")] = Field(
        [], description="who shares the engine"
    )
    anonymous: Anonymous | None = Field(
        None, description="those who are nobody's; required when `onUnidentified` is `Anonymous`; `{}` will do"
    )
    # Not {}: the default itself must pass the rule on `quadratic`, before the defaults within it are filled in.
    cost: Annotated[
        Cost,
        default({"type": "Linear"}),
        Field(default_factory=Cost, description="what a request costs its tenant, in units of its counter"),
    ]
    queue: Annotated[Queue, default({}), Field(default_factory=Queue, description="what may wait, and how long")]
    backpressure: Annotated[
        Backpressure,
        default({}),
        Field(
            default_factory=Backpressure,
            description="how much the engine may hold; unset, what it reports, else what is learned",
        ),
    ]
    drain: Annotated[Drain, default({}), Field(default_factory=Drain, description="how the proxy ends")]


class FairnessPolicy(Model):
    """One policy: which engine, which tenants with which weights, what a request costs, what may wait.

    `status` is what the operator writes; it is taken, so that the output of `kubectl get -o yaml` can be used, and
    not read.
    """

    api_version: Literal["fairqueue.dev/v1alpha1"]
    kind: Literal["FairnessPolicy"]
    metadata: Metadata
    spec: Spec = Field(description="what is asked for")
    status: object = None
