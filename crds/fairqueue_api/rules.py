"""The rules that the API server checks in CEL, each beside the same check in Python.

A rule holds for every value at its place in the schema. The CRD carries its CEL text and message; `fairqueue` itself
runs the Python check, which finds the entry that is wrong and knows what to do about it. A test evaluates both on
random policies. Policies that are checked here have passed `structure`; rules of ours that are in no CRD are in
`own_rules`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from .cidrs import CidrError, parse_cidr
from .durations import DurationError, parse_duration
from .errors import Problem
from .models import Cost, Engine, FairnessPolicy, IdentitySource, Selector, Spec
from .places import values_at

# A path below the rule's place, what is wrong, what to do.
Finding = tuple[str, str, str]

_MAX_NAME_CHARACTERS = 52
_RESERVED_TENANTS = ("other", "anonymous")
_SOURCE_FIELDS = ("apiKey", "APIKey"), ("jwt", "JWT"), ("serviceAccount", "ServiceAccount"), ("header", "Header")


@dataclass(frozen=True, slots=True)
class Rule:
    """`place` is what CEL calls `self`; `field_path` and `reason` say to the API server which field it should name."""

    place: str
    cel: str
    message: str
    findings: Callable[[Any], Iterable[Finding]]
    field_path: str = ""
    reason: str = ""


def broken_rules(policy: FairnessPolicy, source: str) -> list[Problem]:
    """Every way in which `policy` breaks a rule, in the order of the rules."""
    return [
        Problem(source, f"{path}{below}".removeprefix("."), what, fix)
        for rule in RULES
        for path, value in values_at(policy, rule.place)
        for below, what, fix in rule.findings(value)
    ]


def _short_name(policy: FairnessPolicy) -> Iterator[Finding]:
    if len(policy.metadata.name) > _MAX_NAME_CHARACTERS:
        yield ".metadata.name", f"is longer than {_MAX_NAME_CHARACTERS} characters", "shorten it"


def _selector_is_not_empty(selector: Selector) -> Iterator[Finding]:
    if not selector.match_labels and not selector.match_expressions:
        yield "", "is empty and would match every pod", "add matchLabels or matchExpressions"


def _openai_engine_has_a_port(engine: Engine) -> Iterator[Finding]:
    if engine.kind == "OpenAI" and engine.port is None:
        yield ".port", "is required for kind OpenAI", "add the port that the engine listens on"


def _source_has(field: str, kind: str) -> Callable[[IdentitySource], Iterator[Finding]]:
    attribute = next(name for name, info in IdentitySource.model_fields.items() if info.alias == field)

    def findings(source: IdentitySource) -> Iterator[Finding]:
        is_set = getattr(source, attribute) is not None
        if is_set and source.type != kind:
            yield f".{field}", f"must not be set unless type is {kind}", f"remove it, or use type {kind}"
        elif not is_set and source.type == kind:
            yield f".{field}", f"must be set when type is {kind}", f"add {field}" + ": {}" * (kind == "APIKey")

    return findings


def _is_cidr(text: str) -> Iterator[Finding]:
    try:
        parse_cidr(text)
    except CidrError:
        yield "", "is not a range of addresses", "write one such as 10.0.0.0/8 or fd00::/8"


def _tenants_name_their_group(spec: Spec) -> Iterator[Finding]:
    groups = [group.name for group in spec.groups]
    for index, tenant in enumerate(spec.tenants):
        if tenant.group is not None and tenant.group not in groups:
            fix = _name_fix("group", tenant.group, groups)
            yield f".tenants[{index}].group", "names no entry of spec.groups", fix


def _groups_have_two_levels(spec: Spec) -> Iterator[Finding]:
    # A name that is there twice is refused elsewhere; here either entry may be meant, as in CEL.
    names = {group.name for group in spec.groups}
    tops = {group.name for group in spec.groups if group.parent is None}
    for index, group in enumerate(spec.groups):
        path = f".groups[{index}].parent"
        if group.parent is None:
            continue
        if group.parent == group.name:
            yield path, "names the group itself", "remove it, or name another group"
        elif group.parent not in names:
            yield path, "names no entry of spec.groups", _name_fix("group", group.parent, names)
        elif group.parent not in tops:
            yield path, "names a group that has a parent", "name a top-level group: there are two levels"


def _anonymous_is_there_if_used(spec: Spec) -> Iterator[Finding]:
    if spec.identity.on_unidentified != "Reject" and spec.anonymous is None:
        what = "must be set unless spec.identity.onUnidentified is Reject"
        yield ".anonymous", what, "add anonymous: {}, or use onUnidentified: Reject"


def _subjects_name_a_source(spec: Spec) -> Iterator[Finding]:
    sources = [source.name for source in spec.identity.sources]
    for index, tenant in enumerate(spec.tenants):
        for subject_index, subject in enumerate(tenant.subjects):
            if subject.source not in sources:
                path = f".tenants[{index}].subjects[{subject_index}].source"
                yield path, "names no entry of spec.identity.sources", _name_fix("source", subject.source, sources)


def _keys_have_a_source(spec: Spec) -> Iterator[Finding]:
    # CEL's has() is true of a list that is there and empty.
    named = [n for n, tenant in enumerate(spec.tenants) if "api_key_secret_refs" in tenant.model_fields_set]
    if named and all(source.type != "APIKey" for source in spec.identity.sources):
        what = f"has no source of type APIKey, which spec.tenants[{named[0]}].apiKeySecretRefs needs"
        yield ".identity.sources", what, "add {name: api-key, type: APIKey, apiKey: {}}"


def _name_is_not_reserved(name: str) -> Iterator[Finding]:
    if name in _RESERVED_TENANTS:
        yield "", "other and anonymous are reserved names", "choose another name"


def _quadratic_goes_with_its_type(cost: Cost) -> Iterator[Finding]:
    if cost.type == "Quadratic" and cost.quadratic is None:
        yield ".quadratic", "must be set when type is Quadratic", "add it, or use type Linear"
    if cost.type != "Quadratic" and cost.quadratic is not None:
        yield ".quadratic", "must not be set when type is Linear", "remove it, or use type Quadratic"


def _duration(within: Callable[[float], bool], bounds: str) -> Callable[[str], Iterator[Finding]]:
    def findings(text: str) -> Iterator[Finding]:
        try:
            if not within(parse_duration(text)):
                yield "", f"must be {bounds}", "write a duration in that range"
        except DurationError as error:
            yield "", error.what, error.fix

    return findings


def _name_fix(kind: str, name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    return f"did you mean {close[0]}?" if close else f"add the {kind}, or name one that is there"


RULES: Sequence[Rule] = (
    Rule(
        "",
        f"size(self.metadata.name) <= {_MAX_NAME_CHARACTERS}",
        "name must be at most 52 characters: derived objects append a suffix",
        _short_name,
    ),
    Rule(
        "spec.selector",
        "(has(self.matchLabels) && size(self.matchLabels) > 0) || "
        "(has(self.matchExpressions) && size(self.matchExpressions) > 0)",
        "selector must not be empty: an empty selector would match every pod of the namespace",
        _selector_is_not_empty,
    ),
    Rule(
        "spec.engine",
        "self.kind != 'OpenAI' || has(self.port)",
        "port is required for kind OpenAI",
        _openai_engine_has_a_port,
    ),
    *(
        Rule(
            "spec.identity.sources[]",
            f"has(self.{field}) == (self.type == '{kind}')",
            f"{field} must be set exactly when type is {kind}",
            _source_has(field, kind),
        )
        for field, kind in _SOURCE_FIELDS
    ),
    Rule("spec.identity.sources[].header.trustedCIDRs[]", "isCIDR(self)", "must be a CIDR", _is_cidr),
    Rule(
        "spec",
        "!has(self.tenants) || self.tenants.all(t, !has(t.group) || "
        "(has(self.groups) && self.groups.exists(g, g.name == t.group)))",
        "every tenants[].group must name an entry of groups",
        _tenants_name_their_group,
        ".tenants",
        "FieldValueInvalid",
    ),
    Rule(
        "spec",
        "!has(self.groups) || self.groups.all(g, !has(g.parent) || "
        "(g.parent != g.name && self.groups.exists(p, p.name == g.parent && !has(p.parent))))",
        "groups[].parent must name a top-level group (at most two levels of groups)",
        _groups_have_two_levels,
        ".groups",
    ),
    Rule(
        "spec",
        "self.identity.onUnidentified == 'Reject' || has(self.anonymous)",
        "anonymous must be set unless identity.onUnidentified is Reject",
        _anonymous_is_there_if_used,
    ),
    Rule(
        "spec",
        "!has(self.tenants) || self.tenants.all(t, !has(t.subjects) || "
        "t.subjects.all(s, self.identity.sources.exists(i, i.name == s.source)))",
        "tenants[].subjects[].source must name an identity source",
        _subjects_name_a_source,
        ".tenants",
    ),
    Rule(
        "spec",
        "!has(self.tenants) || self.tenants.all(t, !has(t.apiKeySecretRefs) || "
        "self.identity.sources.exists(s, s.type == 'APIKey'))",
        "tenants[].apiKeySecretRefs needs an identity source of type APIKey",
        _keys_have_a_source,
        ".identity",
    ),
    Rule(
        "spec.tenants[].name",
        "!(self in ['other', 'anonymous'])",
        "other and anonymous are reserved names",
        _name_is_not_reserved,
    ),
    Rule(
        "spec.cost",
        "has(self.quadratic) == (self.type == 'Quadratic')",
        "quadratic must be set exactly when type is Quadratic",
        _quadratic_goes_with_its_type,
    ),
    Rule(
        "spec.queue.holdHeaders",
        "duration(self) >= duration('0s') && duration(self) <= duration('5m')",
        "must be between 0s and 5m",
        _duration(lambda seconds: 0 <= seconds <= 300, "between 0s and 5m"),
    ),
    Rule(
        "spec.queue.timeout",
        "duration(self) > duration('0s') && duration(self) <= duration('1h')",
        "must be a duration between 0s and 1h",
        _duration(lambda seconds: 0 < seconds <= 3600, "more than 0s and at most 1h"),
    ),
    Rule(
        "spec.backpressure.scrapeInterval",
        "duration(self) >= duration('50ms') && duration(self) <= duration('1m')",
        "must be between 50ms and 1m",
        _duration(lambda seconds: 0.05 <= seconds <= 60, "between 50ms and 1m"),
    ),
    Rule(
        "spec.drain.timeout",
        "duration(self) >= duration('0s') && duration(self) <= duration('1h')",
        "must be between 0s and 1h",
        _duration(lambda seconds: 0 <= seconds <= 3600, "between 0s and 1h"),
    ),
)
