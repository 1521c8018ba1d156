"""The rules between fields: each is broken once on purpose, and kept once as closely as possible.

For those that the CRD has in CEL, the same examples are put to the API server's side as well.
"""

from typing import Any

import pytest

from api import api_server
from api.policies import SELECTOR, policy, refusals
from fairqueue_api.crd import schema
from fairqueue_api.rules import RULES, Rule

FIRST_KEY = "spec.tenants[0].apiKeySecretRefs[0]"


def groups(*entries: tuple[str, str | None]) -> dict[str, Any]:
    return {"groups": [{"name": name, "parent": parent} for name, parent in entries]}


def owners(*refs: list[str]) -> dict[str, Any]:
    """One tenant for each list of Secret names."""
    return {
        "tenants": [
            {"name": f"t{index}", "apiKeySecretRefs": [{"name": name, "key": "token"} for name in names]}
            for index, names in enumerate(refs)
        ]
    }


def sources(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"identity": {"sources": [{"name": f"s{n}", "type": "APIKey"} | entry for n, entry in enumerate(entries)]}}


KEYS = {"name": "keys", "type": "APIKey", "apiKey": {}}
GATEWAY = {"name": "gateway", "type": "Header", "header": {"trustedCIDRs": ["10.0.0.0/8"]}}
JWT = {"issuer": "https://a", "audiences": ["a"], "tenantClaim": "t"}
RANGE_FIX = "write a duration in that range"


def trusted(cidr: str) -> dict[str, Any]:
    return {"identity": {"sources": [{"name": "g", "type": "Header", "header": {"trustedCIDRs": [cidr]}}]}}


def subject(source: str) -> dict[str, Any]:
    return {
        "identity": {"sources": [GATEWAY]},
        "tenants": [{"name": "a", "subjects": [{"source": source, "value": "v"}]}],
    }


# Place and message of each rule of the CRD → a spec that keeps it, a spec that breaks it, what is said of that one.
EXAMPLES: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any], str]] = {
    ("spec.selector", "selector must not be empty: an empty selector would match every pod of the namespace"): (
        {"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}},
        {"selector": {"matchLabels": {}, "matchExpressions": []}},
        "spec.selector: is empty and would match every pod: add matchLabels or matchExpressions",
    ),
    ("spec.engine", "port is required for kind OpenAI"): (
        {"engine": {"kind": "OpenAI", "port": 1}},
        {"engine": {"kind": "OpenAI"}},
        "spec.engine.port: is required for kind OpenAI: add the port that the engine listens on",
    ),
    ("spec.identity.sources[]", "apiKey must be set exactly when type is APIKey"): (
        {"identity": {"sources": [KEYS]}},
        {"identity": {"sources": [GATEWAY | {"apiKey": {}}]}},
        "spec.identity.sources[0].apiKey: must not be set unless type is APIKey: remove it, or use type APIKey",
    ),
    ("spec.identity.sources[]", "jwt must be set exactly when type is JWT"): (
        {"identity": {"sources": [KEYS]}},
        {"identity": {"sources": [KEYS | {"jwt": JWT}]}},
        "spec.identity.sources[0].jwt: must not be set unless type is JWT: remove it, or use type JWT",
    ),
    ("spec.identity.sources[]", "serviceAccount must be set exactly when type is ServiceAccount"): (
        {"identity": {"sources": [KEYS]}},
        {"identity": {"sources": [KEYS | {"serviceAccount": {"audiences": ["a"]}}]}},
        "spec.identity.sources[0].serviceAccount: must not be set unless type is ServiceAccount: "
        "remove it, or use type ServiceAccount",
    ),
    ("spec.identity.sources[]", "header must be set exactly when type is Header"): (
        {"identity": {"sources": [GATEWAY]}},
        {"identity": {"sources": [{"name": "g", "type": "Header"}]}},
        "spec.identity.sources[0].header: must be set when type is Header: add header",
    ),
    ("spec.identity.sources[].header.trustedCIDRs[]", "must be a CIDR"): (
        trusted("fd00::/8"),
        trusted("10.0.0.0"),
        "spec.identity.sources[0].header.trustedCIDRs[0]: is not a range of addresses: "
        "write one such as 10.0.0.0/8 or fd00::/8",
    ),
    ("spec", "every tenants[].group must name an entry of groups"): (
        {"groups": [{"name": "g"}], "tenants": [{"name": "g", "group": "g"}]},
        {"tenants": [{"name": "a", "group": "x"}]},
        "spec.tenants[0].group: names no entry of spec.groups: add the group, or name one that is there",
    ),
    ("spec", "groups[].parent must name a top-level group (at most two levels of groups)"): (
        groups(("team", "org"), ("org", None)),
        groups(("a", None), ("b", "a"), ("c", "b")),
        "spec.groups[2].parent: names a group that has a parent: name a top-level group: there are two levels",
    ),
    ("spec", "anonymous must be set unless identity.onUnidentified is Reject"): (
        {"identity": {"onUnidentified": "Anonymous"}, "anonymous": {}},
        {"identity": {"onUnidentified": "Anonymous"}},
        "spec.anonymous: must be set unless spec.identity.onUnidentified is Reject: "
        "add anonymous: {}, or use onUnidentified: Reject",
    ),
    ("spec", "tenants[].subjects[].source must name an identity source"): (
        subject("gateway"),
        subject("gatevay"),
        "spec.tenants[0].subjects[0].source: names no entry of spec.identity.sources: did you mean gateway?",
    ),
    ("spec", "tenants[].apiKeySecretRefs needs an identity source of type APIKey"): (
        owners(["a"]) | {"identity": {"sources": [GATEWAY, KEYS]}},
        owners(["a"]) | {"identity": {"sources": [GATEWAY]}},
        "spec.identity.sources: has no source of type APIKey, which spec.tenants[0].apiKeySecretRefs needs: "
        "add {name: api-key, type: APIKey, apiKey: {}}",
    ),
    ("spec.tenants[].name", "other and anonymous are reserved names"): (
        {"tenants": [{"name": "others"}, {"name": "anonymous-1"}]},
        {"tenants": [{"name": "anonymous"}]},
        "spec.tenants[0].name: other and anonymous are reserved names: choose another name",
    ),
    ("spec.cost", "quadratic must be set exactly when type is Quadratic"): (
        {"cost": {"type": "Quadratic", "quadratic": {}}},
        {"cost": {"type": "Quadratic"}},
        "spec.cost.quadratic: must be set when type is Quadratic: add it, or use type Linear",
    ),
    ("spec.queue.holdHeaders", "must be between 0s and 5m"): (
        {"queue": {"holdHeaders": "5m"}},
        {"queue": {"holdHeaders": "5m1ms"}},
        f"spec.queue.holdHeaders: must be between 0s and 5m: {RANGE_FIX}",
    ),
    ("spec.queue.timeout", "must be a duration between 0s and 1h"): (
        {"queue": {"timeout": "1h"}},
        {"queue": {"timeout": "0s"}},
        f"spec.queue.timeout: must be more than 0s and at most 1h: {RANGE_FIX}",
    ),
    ("spec.backpressure.scrapeInterval", "must be between 50ms and 1m"): (
        {"backpressure": {"scrapeInterval": "50ms"}},
        {"backpressure": {"scrapeInterval": "49ms"}},
        f"spec.backpressure.scrapeInterval: must be between 50ms and 1m: {RANGE_FIX}",
    ),
    ("spec.drain.timeout", "must be between 0s and 1h"): (
        {"drain": {"timeout": "0s"}},
        {"drain": {"timeout": "1h1s"}},
        f"spec.drain.timeout: must be between 0s and 1h: {RANGE_FIX}",
    ),
}
SCHEMA = schema()
RULE_OF_THE_NAME, *RULES_OF_THE_SPEC = RULES
IDS = [rule.message for rule in RULES_OF_THE_SPEC]


def cel_holds(rule: Rule, content: dict[str, Any]) -> bool:
    stored = api_server.defaulted(SCHEMA, content)
    return all(api_server.holds(rule.cel, value) for value in api_server.values_at(stored, rule.place))


def test_there_is_an_example_for_each_rule_of_the_spec_and_no_other() -> None:
    assert list(EXAMPLES) == [(rule.place, rule.message) for rule in RULES_OF_THE_SPEC]


@pytest.mark.parametrize("rule", RULES_OF_THE_SPEC, ids=IDS)
def test_a_policy_that_keeps_the_rule_is_accepted_here_and_by_the_api_server(rule: Rule) -> None:
    kept, _, _ = EXAMPLES[rule.place, rule.message]
    assert refusals(policy(**kept)) == []
    assert cel_holds(rule, policy(**kept))


@pytest.mark.parametrize("rule", RULES_OF_THE_SPEC, ids=IDS)
def test_a_policy_that_breaks_the_rule_is_refused_with_path_and_fix_and_by_the_api_server(rule: Rule) -> None:
    _, broken, line = EXAMPLES[rule.place, rule.message]
    assert refusals(policy(**broken)) == [f"policy.yaml: {line}"]
    assert [each for each in RULES if not cel_holds(each, policy(**broken))] == [rule]


def test_a_name_leaves_room_for_what_is_derived_from_it() -> None:
    longest, longer = policy() | {"metadata": {"name": "a" * 52}}, policy() | {"metadata": {"name": "a" * 53}}
    assert refusals(longest) == []
    assert cel_holds(RULE_OF_THE_NAME, longest)
    assert refusals(longer) == ["policy.yaml: metadata.name: is longer than 52 characters: shorten it"]
    assert not cel_holds(RULE_OF_THE_NAME, longer)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (
            {"selector": {}},
            "spec.selector: is empty and would match every pod: add matchLabels or matchExpressions",
        ),
        (sources({}), "spec.identity.sources[0].apiKey: must be set when type is APIKey: add apiKey: {}"),
        (groups(("a", "a")), "spec.groups[0].parent: names the group itself: remove it, or name another group"),
        (
            groups(("research", None), ("b", "resarch")),
            "spec.groups[1].parent: names no entry of spec.groups: did you mean research?",
        ),
        (
            {"groups": [{"name": "research"}], "tenants": [{"name": "a", "group": "resarch"}]},
            "spec.tenants[0].group: names no entry of spec.groups: did you mean research?",
        ),
        (
            {"tenants": [{"name": "other"}]},
            "spec.tenants[0].name: other and anonymous are reserved names: choose another name",
        ),
        (
            {"cost": {"quadratic": {}}},
            "spec.cost.quadratic: must not be set when type is Linear: remove it, or use type Quadratic",
        ),
        (
            {"queue": {"timeout": "60"}},
            "spec.queue.timeout: is not a duration: write one such as 500ms, 60s or 1m30s",
        ),
        ({"queue": {"timeout": "1h1s"}}, f"spec.queue.timeout: must be more than 0s and at most 1h: {RANGE_FIX}"),
        ({"queue": {"holdHeaders": "-1s"}}, f"spec.queue.holdHeaders: must be between 0s and 5m: {RANGE_FIX}"),
        (
            {"backpressure": {"scrapeInterval": "61s"}},
            f"spec.backpressure.scrapeInterval: must be between 50ms and 1m: {RANGE_FIX}",
        ),
    ],
)
def test_other_ways_to_break_a_rule_are_refused_with_a_fix_of_their_own(spec: dict[str, Any], line: str) -> None:
    assert refusals(policy(**spec)) == [f"policy.yaml: {line}"]


def test_all_broken_rules_are_told_and_the_first_field_is_the_message() -> None:
    lines = refusals(policy(selector={}, engine={"kind": "OpenAI"}, tenants=[{"name": "other"}]))
    assert [line.split(": ")[1] for line in lines] == ["spec.selector", "spec.engine.port", "spec.tenants[0].name"]


def test_a_selector_is_needed_even_where_it_is_not_used() -> None:
    assert refusals(policy(selector=SELECTOR | {"matchLabels": {}})) != []


def test_a_list_of_keys_that_is_empty_needs_a_source_too_as_in_cel() -> None:
    spec = {"identity": {"sources": [GATEWAY]}, "tenants": [{"name": "a", "apiKeySecretRefs": []}]}
    (line,) = refusals(policy(**spec))
    assert line.startswith("policy.yaml: spec.identity.sources: has no source of type APIKey")
