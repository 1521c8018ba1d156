"""Rules of ours that are in no CRD: what the API server takes, and a proxy could not act on or would act on wrongly.

The operator says them in the policy's status. Entries that are there twice are looked for here too, since pydantic
does not: the API server refuses those by itself, from the kind of list.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from pydantic import BaseModel

from .crd_markers import LIST_MAP_KEYS, LIST_TYPE, CrdMarker
from .errors import NOT_SUPPORTED_YET, Problem
from .models import DNS_SUBDOMAIN, FairnessPolicy, LabelExpression, Spec
from .rules import Finding

# RFC 9110, section 5.1: a field name is a token. Any other header can never arrive.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Taken out as credentials are, these would leave a request that an engine cannot read.
_HEADERS_OF_HTTP = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "expect", "host", "transfer-encoding"}
)
_SOURCES_NOT_SUPPORTED_YET = frozenset({"JWT", "ServiceAccount"})
# What Kubernetes takes as the name of a label, after its prefix, and as its value.
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_MAX_PREFIX_CHARACTERS = 253
_MAX_SHOWN_CHARACTERS = 80
_UNFIT_IN_A_HEADER = re.compile(r"\A[ \t]|[ \t]\Z|[\x00-\x1f\x7f]")


def broken_own_rules(policy: FairnessPolicy, source: str) -> list[Problem]:
    """Every way in which `policy` breaks one, in the order of the rules."""
    findings = [*_repeated_entries(policy, "")]
    for rule in _RULES:
        findings += rule(policy.spec)
    return [Problem(source, *finding) for finding in findings]


def _repeated_entries(model: BaseModel, path: str) -> Iterator[Finding]:
    for name, field in type(model).model_fields.items():
        value, below = getattr(model, name), f"{path}.{field.alias}".removeprefix(".")
        if isinstance(value, BaseModel):
            yield from _repeated_entries(value, below)
        elif isinstance(value, list):
            for marker in field.metadata:
                if isinstance(marker, CrdMarker) and marker.keywords.get(LIST_TYPE) in ("map", "set"):
                    yield from _repeated(below, value, marker.keywords.get(LIST_MAP_KEYS, []))
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _repeated_entries(item, f"{below}[{index}]")


def _repeated(path: str, entries: Sequence[object], keys: Sequence[str]) -> Iterator[Finding]:
    first: dict[Hashable, int] = {}
    for index, entry in enumerate(entries):
        identity = tuple(getattr(entry, key) for key in keys) if keys else entry
        earlier = f"{path}[{first.setdefault(identity, index)}]"
        if earlier == f"{path}[{index}]":
            continue
        if keys == ["name"]:
            yield f"{path}[{index}].name", f"is the name of {earlier} too", "choose another name"
        else:
            yield f"{path}[{index}]", f"repeats {earlier}", "remove it"


def _selector_is_one_of_labels(spec: Spec) -> Iterator[Finding]:
    for key, value in spec.selector.match_labels.items():
        if found := list(_label("spec.selector.matchLabels", key)):
            yield from found
        else:
            yield from _label_value(f"spec.selector.matchLabels.{key}", value)
    for index, expression in enumerate(spec.selector.match_expressions):
        path = f"spec.selector.matchExpressions[{index}]"
        yield from _label(f"{path}.key", expression.key)
        yield from _label_values(f"{path}.values", expression)


def _label(path: str, key: str) -> Iterator[Finding]:
    prefix, slash, name = key.rpartition("/")
    has_prefix = len(prefix) <= _MAX_PREFIX_CHARACTERS and re.fullmatch(DNS_SUBDOMAIN, prefix) is not None
    if not _LABEL.fullmatch(name) or (slash and not has_prefix):
        yield path, f"{_shown(key)} cannot be the name of a label", "write one such as app or example.org/app"


def _label_value(path: str, value: str) -> Iterator[Finding]:
    if value and not _LABEL.fullmatch(value):
        what = f"{_shown(value)} cannot be the value of a label"
        yield path, what, "use letters, digits, and - _ . within, as the label of the pod has it"


def _label_values(path: str, expression: LabelExpression) -> Iterator[Finding]:
    if expression.operator in ("In", "NotIn"):
        if not expression.values:
            yield path, f"is empty, and {expression.operator} needs a value", "add one, or use Exists or DoesNotExist"
        for index, value in enumerate(expression.values):
            yield from _label_value(f"{path}[{index}]", value)


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}...")


def _headers_can_arrive(spec: Spec) -> Iterator[Finding]:
    for index, source in enumerate(spec.identity.sources):
        headers = {}
        if source.api_key is not None:
            headers["apiKey.header"] = source.api_key.header
        if source.header is not None:
            headers["header.name"] = source.header.name
        for field, name in headers.items():
            path = f"spec.identity.sources[{index}].{field}"
            if not _HEADER_NAME.fullmatch(name):
                yield path, "is not an HTTP header name", "write one such as Authorization"
            elif name.lower() in _HEADERS_OF_HTTP:
                yield path, "is a header that HTTP itself needs", "use one of your own, such as x-tenant"


def _sources_are_supported(spec: Spec) -> Iterator[Finding]:
    for index, source in enumerate(spec.identity.sources):
        if source.type in _SOURCES_NOT_SUPPORTED_YET:
            path = f"spec.identity.sources[{index}].type"
            yield path, f"{source.type} {NOT_SUPPORTED_YET}", "use APIKey or Header"


def _a_key_has_one_tenant(spec: Spec) -> Iterator[Finding]:
    owners: dict[tuple[str, str], tuple[int, str]] = {}
    for tenant_index, tenant in enumerate(spec.tenants):
        for index, ref in enumerate(tenant.api_key_secret_refs):
            path = f"spec.tenants[{tenant_index}].apiKeySecretRefs[{index}]"
            owner_index, owner = owners.setdefault((ref.name, ref.key), (tenant_index, path))
            if owner_index != tenant_index:
                yield path, f"names the same key as {owner}", "give each tenant keys of its own"


def _a_subject_has_one_tenant(spec: Spec) -> Iterator[Finding]:
    owners: dict[tuple[str, str], tuple[int, str]] = {}
    for tenant_index, tenant in enumerate(spec.tenants):
        for index, subject in enumerate(tenant.subjects):
            path = f"spec.tenants[{tenant_index}].subjects[{index}]"
            owner_index, owner = owners.setdefault((subject.source, subject.value), (tenant_index, path))
            if owner == path:
                continue
            if owner_index == tenant_index:
                yield path, f"repeats {owner}", "remove it"
            else:
                yield path, f"is the same identity as {owner}", "leave it with one tenant"


def _subjects_can_be_verified(spec: Spec) -> Iterator[Finding]:
    key_sources = {source.name for source in spec.identity.sources if source.type == "APIKey"}
    for tenant_index, tenant in enumerate(spec.tenants):
        for index, subject in enumerate(tenant.subjects):
            path = f"spec.tenants[{tenant_index}].subjects[{index}]"
            if subject.source in key_sources:
                what = "names a source of type APIKey, whose keys say themselves whose they are"
                yield f"{path}.source", what, "use apiKeySecretRefs, or name another source"
            if _UNFIT_IN_A_HEADER.search(subject.value):
                what = "has white space around it or control characters in it, and can never arrive"
                yield f"{path}.value", what, "write it as the gateway sends it"


_RULES: Sequence[Callable[[Spec], Iterable[Finding]]] = (
    _selector_is_one_of_labels,
    _headers_can_arrive,
    _sources_are_supported,
    _a_key_has_one_tenant,
    _a_subject_has_one_tenant,
    _subjects_can_be_verified,
)
