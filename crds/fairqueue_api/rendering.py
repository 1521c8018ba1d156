"""From a policy and its secrets to the document: the one path of configuration, standalone and on Kubernetes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import structs

from .cidrs import parse_cidr
from .credentials import digest
from .document import (
    SCHEMA,
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
    revision_of,
)
from .durations import parse_duration
from .errors import Problem, SecretError
from .secret_files import SecretSource

if TYPE_CHECKING:
    from .models import (
        Anonymous,
        Cost,
        Engine,
        FairnessPolicy,
        IdentitySource,
        Limits,
        Quadratic,
        Queue,
        SecretRef,
        Subject,
        Tenant,
    )


def render(
    policy: "FairnessPolicy", secrets: SecretSource | None, engine_secrets: SecretSource | None = None
) -> Document:
    """The document of `policy`. Raises `SecretError` with every key that cannot be had.

    Without `secrets` a policy that names keys is refused: rendered without them, it would lock its tenants out. The
    engine's key is read from `engine_secrets` where they are others.
    """
    spec = policy.spec
    keys = _Keys(policy, secrets, secrets if engine_secrets is None else engine_secrets)
    document = Document(
        schema=SCHEMA,
        policy=f"{policy.metadata.namespace}/{policy.metadata.name}",
        revision="",
        mode=spec.mode,
        engine=EngineSettings(spec.engine.kind, spec.engine.port, keys.of_engine(spec.engine)),
        identity=IdentitySettings(spec.identity.on_unidentified, tuple(_sources(spec.identity.sources))),
        groups=tuple(
            GroupSettings(group.name, group.parent, group.weight)
            for group in sorted(spec.groups, key=lambda group: group.name)
        ),
        tenants=_tenants(spec.tenants, keys),
        anonymous=None if spec.anonymous is None else _anonymous(spec.anonymous),
        cost=_cost(spec.cost),
        queue=_queue(spec.queue),
        backpressure=BackpressureSettings(
            scrape_interval_seconds=parse_duration(spec.backpressure.scrape_interval),
            max_requests=spec.backpressure.max_requests,
            max_tokens=spec.backpressure.max_tokens,
            max_prefill_tokens=spec.backpressure.max_prefill_tokens,
        ),
        drain=DrainSettings(parse_duration(spec.drain.timeout)),
    )
    if keys.problems:
        raise SecretError(keys.problems)
    return structs.replace(document, revision=revision_of(document))


class _Keys:
    """Reads the keys that a policy names; remembers whose each is, as digest, and what went wrong."""

    def __init__(
        self, policy: "FairnessPolicy", secrets: SecretSource | None, engine_secrets: SecretSource | None
    ) -> None:
        self._source = f"policy {policy.metadata.namespace}/{policy.metadata.name}"
        self._secrets = secrets
        self._engine_secrets = engine_secrets
        self._owners: dict[str, tuple[int, str]] = {}
        self.problems: list[Problem] = []

    def of_engine(self, engine: "Engine") -> str | None:
        """The engine's key in clear: it must be sent."""
        if engine.api_key_secret_ref is None:
            return None
        key = self._read(self._engine_secrets, engine.api_key_secret_ref, "spec.engine.apiKeySecretRef")
        return None if key is None else key.decode("ascii")

    def digests(self, index: int, tenant: "Tenant") -> tuple[str, ...]:
        """The digests of a tenant's keys, without those that an earlier tenant has."""
        own = set()
        for ref_index, ref in enumerate(tenant.api_key_secret_refs):
            path = f"spec.tenants[{index}].apiKeySecretRefs[{ref_index}]"
            content = self._read(self._secrets, ref, path)
            if content is None:
                continue
            key = digest(content)
            owner, owner_path = self._owners.setdefault(key, (index, path))
            if owner == index:
                own.add(key)
            else:
                what = f"holds the same key as {owner_path}"
                self.problems.append(Problem(self._source, path, what, "give each tenant keys of its own"))
        return tuple(sorted(own))

    def _read(self, secrets: SecretSource | None, ref: "SecretRef", path: str) -> bytes | None:
        if secrets is None:
            what = "names a key, and no directory of secrets is given"
            self.problems.append(Problem(self._source, path, what, "pass --secrets DIR"))
            return None
        try:
            return secrets.read(ref.name, ref.key)
        except SecretError as error:
            self.problems += [replace(problem, fix=f"{problem.fix}, or mend {path}") for problem in error.problems]
            return None


def _tenants(tenants: "list[Tenant]", keys: _Keys) -> tuple[TenantSettings, ...]:
    rendered = [
        TenantSettings(
            name=tenant.name,
            group=tenant.group,
            weight=tenant.weight,
            fair_within=tenant.fair_within,
            limits=_limits(tenant.limits),
            subjects=_subjects(tenant.subjects),
            key_digests=keys.digests(index, tenant),
        )
        for index, tenant in enumerate(tenants)
    ]
    return tuple(sorted(rendered, key=lambda tenant: tenant.name))


def _sources(sources: "list[IdentitySource]") -> Iterator[SourceSettings]:
    """In the policy's order, in which they are tried. Types that are not supported yet have been refused."""
    for source in sources:
        if source.api_key is not None:
            yield SourceSettings(source.name, "APIKey", source.api_key.header.lower(), ())
        if source.header is not None:
            networks = {str(parse_cidr(text)) for text in source.header.trusted_cidrs}
            yield SourceSettings(source.name, "Header", source.header.name.lower(), tuple(sorted(networks)))


def _subjects(subjects: "list[Subject]") -> tuple[SubjectSettings, ...]:
    identities = sorted({(subject.source, subject.value) for subject in subjects})
    return tuple(SubjectSettings(source, value) for source, value in identities)


def _anonymous(anonymous: "Anonymous") -> AnonymousSettings:
    return AnonymousSettings(anonymous.weight, anonymous.per_identity, _limits(anonymous.limits))


def _limits(limits: "Limits | None") -> LimitSettings:
    if limits is None:
        return LimitSettings(None, None, None)
    return LimitSettings(limits.max_in_flight, limits.max_queued, limits.tokens_per_minute)


def _cost(cost: "Cost") -> CostSettings:
    return CostSettings(
        type=cost.type,
        input_token=cost.input_token,
        output_token=cost.output_token,
        request=cost.request,
        cached_input_percent=cost.cached_input_percent,
        prediction=cost.prediction,
        quadratic=None if cost.quadratic is None else _quadratic(cost.quadratic),
    )


def _quadratic(quadratic: "Quadratic") -> QuadraticSettings:
    return QuadraticSettings(
        input_input_per_million=quadratic.input_input_per_million,
        input_output_per_million=quadratic.input_output_per_million,
        output_output_per_million=quadratic.output_output_per_million,
    )


def _queue(queue: "Queue") -> QueueSettings:
    return QueueSettings(
        max_requests=queue.max_requests,
        max_requests_per_tenant=queue.max_requests_per_tenant,
        max_bytes=queue.max_bytes,
        max_bytes_per_tenant=queue.max_bytes_per_tenant,
        max_body_bytes=queue.max_body_bytes,
        hold_headers_seconds=parse_duration(queue.hold_headers),
        timeout_seconds=parse_duration(queue.timeout),
    )
