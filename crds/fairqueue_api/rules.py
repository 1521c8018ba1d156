"""What relates the fields of a policy to one another: the rules that the API server writes in CEL, and ours.

Each rule yields its problems; the policy it reads has passed `structure`. Rules of v1alpha1 about fields that this
version does not support are left out: they could not fail.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from difflib import get_close_matches

from .errors import Problem
from .models import FairnessPolicy, Spec

_RESERVED_TENANTS = frozenset({"other", "anonymous"})
# RFC 9110, section 5.1: a field name is a token. Any other header can never arrive.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# Path, what is wrong, what to do.
Finding = tuple[str, str, str]


def broken_rules(policy: FairnessPolicy, source: str) -> list[Problem]:
    """Every rule that `policy` breaks, in the order of the fields."""
    return [Problem(source, *finding) for rule in _RULES for finding in rule(policy.spec)]


def _selector_is_not_empty(spec: Spec) -> Iterator[Finding]:
    if not spec.selector.match_labels and not spec.selector.match_expressions:
        yield "spec.selector", "is empty and would match every pod", "add matchLabels or matchExpressions"


def _openai_engine_has_a_port(spec: Spec) -> Iterator[Finding]:
    if spec.engine.kind == "OpenAI" and spec.engine.port is None:
        yield "spec.engine.port", "is required for kind OpenAI", "add the port that the engine listens on"


def _identity_sources(spec: Spec) -> Iterator[Finding]:
    for index, source in enumerate(spec.identity.sources):
        path = f"spec.identity.sources[{index}].apiKey"
        if source.api_key is None:
            yield path, "must be set when type is APIKey", "add apiKey: {}"
        elif not _HEADER_NAME.fullmatch(source.api_key.header):
            yield f"{path}.header", "is not an HTTP header name", "write one such as Authorization"


def _names_are_unique(spec: Spec) -> Iterator[Finding]:
    sources, groups, tenants = spec.identity.sources, spec.groups, spec.tenants
    yield from _repeated("spec.identity.sources", ".name", [source.name for source in sources])
    yield from _repeated("spec.groups", ".name", [group.name for group in groups])
    yield from _repeated("spec.tenants", ".name", [tenant.name for tenant in tenants])


def _groups_have_two_levels(spec: Spec) -> Iterator[Finding]:
    parents = {group.name: group.parent for group in spec.groups}
    for index, group in enumerate(spec.groups):
        path = f"spec.groups[{index}].parent"
        if group.parent is None:
            continue
        if group.parent == group.name:
            yield path, "names the group itself", "remove it, or name another group"
        elif group.parent not in parents:
            yield path, "names no entry of spec.groups", _name_fix("group", group.parent, parents)
        elif parents[group.parent] is not None:
            yield path, "names a group that has a parent", "name a top-level group: there are two levels"


def _tenants_name_their_group(spec: Spec) -> Iterator[Finding]:
    groups = [group.name for group in spec.groups]
    for index, tenant in enumerate(spec.tenants):
        if tenant.group is not None and tenant.group not in groups:
            yield (
                f"spec.tenants[{index}].group",
                "names no entry of spec.groups",
                _name_fix("group", tenant.group, groups),
            )


def _tenant_names_are_not_reserved(spec: Spec) -> Iterator[Finding]:
    for index, tenant in enumerate(spec.tenants):
        if tenant.name in _RESERVED_TENANTS:
            yield f"spec.tenants[{index}].name", "other and anonymous are reserved names", "choose another name"


def _a_key_has_one_tenant(spec: Spec) -> Iterator[Finding]:
    owners: dict[tuple[str, str], tuple[int, str]] = {}
    for tenant_index, tenant in enumerate(spec.tenants):
        for index, ref in enumerate(tenant.api_key_secret_refs):
            path = f"spec.tenants[{tenant_index}].apiKeySecretRefs[{index}]"
            owner_index, owner = owners.setdefault((ref.name, ref.key), (tenant_index, path))
            if owner == path:
                continue
            if owner_index == tenant_index:
                yield path, f"repeats {owner}", "remove it"
            else:
                yield path, f"names the same key as {owner}", "give each tenant keys of its own"


def _quadratic_goes_with_its_type(spec: Spec) -> Iterator[Finding]:
    if spec.cost.type == "Quadratic" and spec.cost.quadratic is None:
        yield "spec.cost.quadratic", "must be set when type is Quadratic", "add it, or use type Linear"
    if spec.cost.type == "Linear" and spec.cost.quadratic is not None:
        yield "spec.cost.quadratic", "must not be set when type is Linear", "remove it, or use type Quadratic"


_RULES: Sequence[Callable[[Spec], Iterable[Finding]]] = (
    _selector_is_not_empty,
    _openai_engine_has_a_port,
    _identity_sources,
    _names_are_unique,
    _groups_have_two_levels,
    _tenants_name_their_group,
    _tenant_names_are_not_reserved,
    _a_key_has_one_tenant,
    _quadratic_goes_with_its_type,
)


def _repeated(path: str, suffix: str, names: Sequence[Hashable]) -> Iterator[Finding]:
    first: dict[Hashable, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            yield f"{path}[{index}]{suffix}", f"is the name of {path}[{first[name]}] too", "choose another name"


def _name_fix(kind: str, name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else f"add the {kind}, or name one that is there"
