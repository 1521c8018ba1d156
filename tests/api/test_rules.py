"""The rules between fields: each is broken once on purpose, and kept once as closely as possible."""

from typing import Any

import pytest

from api.policies import SELECTOR, policy, refusals

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


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}, id="expressions-alone"),
        pytest.param({"engine": {"kind": "OpenAI", "port": 1}}, id="port-for-openai"),
        pytest.param(sources({"apiKey": {}}, {"apiKey": {"header": "X-Api_Key!"}}), id="headers"),
        pytest.param(groups(("team", "org"), ("org", None)), id="parent-listed-later"),
        pytest.param({"groups": [{"name": "g"}], "tenants": [{"name": "g", "group": "g"}]}, id="tenant-named-as-group"),
        pytest.param(owners(["a", "b"], ["c"]), id="keys-of-their-own"),
        pytest.param({"cost": {"type": "Quadratic", "quadratic": {}}}, id="empty-quadratic"),
        pytest.param({"tenants": [{"name": "others"}, {"name": "anonymous-1"}]}, id="names-near-the-reserved"),
    ],
)
def test_a_policy_that_keeps_the_rules_is_accepted(spec: dict[str, Any]) -> None:
    assert refusals(policy(**spec)) == []


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (
            {"selector": {}},
            "spec.selector: is empty and would match every pod: add matchLabels or matchExpressions",
        ),
        (
            {"engine": {"kind": "OpenAI"}},
            "spec.engine.port: is required for kind OpenAI: add the port that the engine listens on",
        ),
        (sources({}), "spec.identity.sources[0].apiKey: must be set when type is APIKey: add apiKey: {}"),
        (
            sources({"apiKey": {"header": "x api"}}),
            "spec.identity.sources[0].apiKey.header: is not an HTTP header name: write one such as Authorization",
        ),
        (
            sources({"apiKey": {}}, {"name": "s0", "apiKey": {}}),
            "spec.identity.sources[1].name: is the name of spec.identity.sources[0] too: choose another name",
        ),
        (
            groups(("a", None), ("a", None)),
            "spec.groups[1].name: is the name of spec.groups[0] too: choose another name",
        ),
        (
            {"tenants": [{"name": "a"}, {"name": "b"}, {"name": "a"}]},
            "spec.tenants[2].name: is the name of spec.tenants[0] too: choose another name",
        ),
        (groups(("a", "a")), "spec.groups[0].parent: names the group itself: remove it, or name another group"),
        (
            groups(("research", None), ("b", "resarch")),
            "spec.groups[1].parent: names no entry of spec.groups: did you mean research?",
        ),
        (
            groups(("a", None), ("b", "a"), ("c", "b")),
            "spec.groups[2].parent: names a group that has a parent: name a top-level group: there are two levels",
        ),
        (
            {"tenants": [{"name": "a", "group": "x"}]},
            "spec.tenants[0].group: names no entry of spec.groups: add the group, or name one that is there",
        ),
        (
            {"tenants": [{"name": "other"}]},
            "spec.tenants[0].name: other and anonymous are reserved names: choose another name",
        ),
        (
            {"tenants": [{"name": "anonymous"}]},
            "spec.tenants[0].name: other and anonymous are reserved names: choose another name",
        ),
        (owners(["a", "a"]), f"spec.tenants[0].apiKeySecretRefs[1]: repeats {FIRST_KEY}: remove it"),
        (
            owners(["a"], ["b", "a"]),
            f"spec.tenants[1].apiKeySecretRefs[1]: names the same key as {FIRST_KEY}: give each tenant keys of its own",
        ),
        (
            {"cost": {"type": "Quadratic"}},
            "spec.cost.quadratic: must be set when type is Quadratic: add it, or use type Linear",
        ),
        (
            {"cost": {"quadratic": {}}},
            "spec.cost.quadratic: must not be set when type is Linear: remove it, or use type Quadratic",
        ),
    ],
)
def test_a_broken_rule_is_refused_with_its_path_and_the_fix(spec: dict[str, Any], line: str) -> None:
    assert refusals(policy(**spec)) == [f"policy.yaml: {line}"]


def test_all_broken_rules_are_told_and_the_first_field_is_the_message() -> None:
    lines = refusals(policy(selector={}, engine={"kind": "OpenAI"}, tenants=[{"name": "other"}]))
    assert [line.split(": ")[1] for line in lines] == ["spec.selector", "spec.engine.port", "spec.tenants[0].name"]


def test_a_selector_is_needed_even_where_it_is_not_used() -> None:
    assert refusals(policy(selector=SELECTOR | {"matchLabels": {}})) != []
