"""From a policy and its secrets to the document: the one path of configuration, standalone and on Kubernetes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from .credentials import digest
from .document import (
    SCHEMA,
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
    TenantSettings,
    revision_of,
)
from .durations import parse_duration
from .errors import Problem, SecretError
from .secret_files import SecretSource

if TYPE_CHECKING:
    from .models import Cost, FairnessPolicy, Quadratic, Queue, Spec, Tenant


def render(policy: "FairnessPolicy", secrets: SecretSource | None) -> Document:
    """The document of `policy`. Raises `SecretError` with every key that cannot be had.

    Without `secrets` a policy that names keys is refused: rendered without them, it would lock its tenants out.
    """
    spec = policy.spec
    document = Document(
        schema=SCHEMA,
        policy=f"{policy.metadata.namespace}/{policy.metadata.name}",
        revision="",
        mode=spec.mode,
        engine=EngineSettings(spec.engine.kind, spec.engine.port, None),
        identity=IdentitySettings(spec.identity.on_unidentified, _sources(spec)),
        groups=tuple(
            GroupSettings(group.name, group.parent, group.weight)
            for group in sorted(spec.groups, key=lambda group: group.name)
        ),
        tenants=_tenants(spec.tenants, _Keys(policy, secrets)),
        anonymous=None,
        cost=_cost(spec.cost),
        queue=_queue(spec.queue),
        backpressure=BackpressureSettings(
            0.5,
            spec.backpressure.max_requests, spec.backpressure.max_tokens, spec.backpressure.max_prefill_tokens
        ),
        drain=DrainSettings(parse_duration(spec.drain.timeout)),
    )
    return replace(document, revision=revision_of(document))


class _Keys:
    """Reads the keys of one tenant after another; remembers whose each is, as digest, and what went wrong."""

    def __init__(self, policy: "FairnessPolicy", secrets: SecretSource | None) -> None:
        self._source = f"policy {policy.metadata.namespace}/{policy.metadata.name}"
        self._secrets = secrets
        self._owners: dict[str, tuple[int, str]] = {}
        self.problems: list[Problem] = []

    def digests(self, index: int, tenant: "Tenant") -> tuple[str, ...]:
        return tuple(sorted(set(self._read(index, tenant))))

    def _read(self, index: int, tenant: "Tenant") -> Iterator[str]:
        for ref_index, ref in enumerate(tenant.api_key_secret_refs):
            path = f"spec.tenants[{index}].apiKeySecretRefs[{ref_index}]"
            if self._secrets is None:
                what = "names a key, and no directory of secrets is given"
                self.problems.append(Problem(self._source, path, what, "pass --secrets DIR"))
                continue
            try:
                key = digest(self._secrets.read(ref.name, ref.key))
            except SecretError as error:
                self.problems += [replace(problem, fix=f"{problem.fix}, or mend {path}") for problem in error.problems]
                continue
            owner, owner_path = self._owners.setdefault(key, (index, path))
            if owner == index:
                yield key
            else:
                what = f"holds the same key as {owner_path}"
                self.problems.append(Problem(self._source, path, what, "give each tenant keys of its own"))


def _tenants(tenants: "list[Tenant]", keys: _Keys) -> tuple[TenantSettings, ...]:
    rendered = [
        TenantSettings(
            name=tenant.name,
            group=tenant.group,
            weight=tenant.weight,
            fair_within=tenant.fair_within,
            limits=LimitSettings(tenant.limits.max_in_flight, tenant.limits.max_queued, None),
            subjects=(),
            key_digests=keys.digests(index, tenant),
        )
        for index, tenant in enumerate(tenants)
    ]
    if keys.problems:
        raise SecretError(keys.problems)
    return tuple(sorted(rendered, key=lambda tenant: tenant.name))


def _sources(spec: "Spec") -> tuple[SourceSettings, ...]:
    return tuple(
        SourceSettings(source.name, source.type, source.api_key.header.lower(), ())
        for source in spec.identity.sources
        if source.api_key
    )


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
        hold_headers_seconds=5.0,
        timeout_seconds=parse_duration(queue.timeout),
    )
