"""Rules that are in no CRD: labels, headers, entries that are there twice, keys and identities of one tenant."""

from typing import Any

import pytest

from api.policies import policy, refusals

FIRST_KEY = "spec.tenants[0].apiKeySecretRefs[0]"
FIRST_SUBJECT = "spec.tenants[0].subjects[0]"
GATEWAY = {"name": "gateway", "type": "Header", "header": {"trustedCIDRs": ["10.0.0.0/8"]}}
JWT = {"issuer": "https://a", "audiences": ["a"], "tenantClaim": "t"}


def owners(*refs: list[str]) -> dict[str, Any]:
    """One tenant for each list of Secret names."""
    keys = [[{"name": name, "key": "token"} for name in names] for names in refs]
    return {"tenants": [{"name": f"t{index}", "apiKeySecretRefs": each} for index, each in enumerate(keys)]}


def identities(*values: list[str], source: str = "gateway") -> dict[str, Any]:
    """One tenant for each list of identities, beside a source of each type that there is."""
    subjects = [[{"source": source, "value": value} for value in each] for each in values]
    return {
        "identity": {"sources": [{"name": "keys", "type": "APIKey", "apiKey": {}}, GATEWAY, GATEWAY | {"name": "g2"}]},
        "tenants": [{"name": f"t{index}", "subjects": each} for index, each in enumerate(subjects)],
    }


def sources(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"identity": {"sources": [{"name": f"s{n}", "type": "APIKey"} | entry for n, entry in enumerate(entries)]}}


def key_header(name: str) -> dict[str, Any]:
    return sources({"apiKey": {"header": name}})


def gateway_header(name: str) -> dict[str, Any]:
    return sources({"type": "Header", "header": {"name": name, "trustedCIDRs": ["10.0.0.0/8"]}})


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(key_header("X-Api_Key!"), id="odd-header"),
        pytest.param(sources({"apiKey": {}}, {"apiKey": {}}), id="two-sources-of-one-header"),
        pytest.param(owners(["a", "b"], ["c"]), id="keys-of-their-own"),
        pytest.param(
            {"tenants": [{"name": n, "apiKeySecretRefs": [{"name": "a", "key": n}]} for n in "xy"]},
            id="entries-of-one-secret",
        ),
        pytest.param(identities(["a", "b"], ["c d"]), id="identities-of-their-own"),
        pytest.param({"groups": [{"name": "a"}], "tenants": [{"name": "a"}]}, id="tenant-named-as-a-group"),
    ],
)
def test_a_policy_that_keeps_the_rules_is_accepted(spec: dict[str, Any]) -> None:
    assert refusals(policy(**spec)) == []


def test_one_value_of_two_sources_is_two_identities() -> None:
    spec = identities(["a"], ["b"])
    spec["tenants"][1]["subjects"] = [{"source": "g2", "value": "a"}]
    assert refusals(policy(**spec)) == []


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (
            sources({"apiKey": {}}, {"name": "s0", "apiKey": {}}),
            "spec.identity.sources[1].name: is the name of spec.identity.sources[0] too: choose another name",
        ),
        (
            {"groups": [{"name": "a"}, {"name": "a"}]},
            "spec.groups[1].name: is the name of spec.groups[0] too: choose another name",
        ),
        (
            {"tenants": [{"name": "a"}, {"name": "b"}, {"name": "a"}]},
            "spec.tenants[2].name: is the name of spec.tenants[0] too: choose another name",
        ),
        (
            sources({"type": "Header", "header": {"trustedCIDRs": ["10.0.0.0/8", "10.0.0.0/8"]}}),
            "spec.identity.sources[0].header.trustedCIDRs[1]: repeats "
            "spec.identity.sources[0].header.trustedCIDRs[0]: remove it",
        ),
        (owners(["a", "a"]), f"spec.tenants[0].apiKeySecretRefs[1]: repeats {FIRST_KEY}: remove it"),
        (
            owners(["a"], ["b", "a"]),
            f"spec.tenants[1].apiKeySecretRefs[1]: names the same key as {FIRST_KEY}: give each tenant keys of its own",
        ),
        (identities(["a", "a"]), f"spec.tenants[0].subjects[1]: repeats {FIRST_SUBJECT}: remove it"),
        (
            identities(["a"], ["b", "a"]),
            f"spec.tenants[1].subjects[1]: is the same identity as {FIRST_SUBJECT}: leave it with one tenant",
        ),
        (
            identities(["a"], source="keys"),
            "spec.tenants[0].subjects[0].source: names a source of type APIKey, whose keys say themselves whose they "
            "are: use apiKeySecretRefs, or name another source",
        ),
        (
            key_header("x api"),
            "spec.identity.sources[0].apiKey.header: is not an HTTP header name: write one such as Authorization",
        ),
        (
            gateway_header(""),
            "spec.identity.sources[0].header.name: is not an HTTP header name: write one such as Authorization",
        ),
        (
            key_header("Content-Length"),
            "spec.identity.sources[0].apiKey.header: is a header that HTTP itself needs: "
            "use one of your own, such as x-tenant",
        ),
        (
            gateway_header("host"),
            "spec.identity.sources[0].header.name: is a header that HTTP itself needs: "
            "use one of your own, such as x-tenant",
        ),
    ],
)
def test_a_broken_rule_is_refused_with_its_path_and_the_fix(spec: dict[str, Any], line: str) -> None:
    assert refusals(policy(**spec)) == [f"policy.yaml: {line}"]


@pytest.mark.parametrize("value", [" a", "a\t", "a\nb", "a\x00", "\x7f"])
def test_an_identity_that_no_header_can_bring_is_refused(value: str) -> None:
    assert refusals(policy(**identities([value]))) == [
        "policy.yaml: spec.tenants[0].subjects[0].value: has white space around it or control characters in it, and "
        "can never arrive: write it as the gateway sends it"
    ]


SELECTED = ["app", "A_b.c", "example.org/app", f"{'a' * 63}.{'b' * 63}/x", "1/2", "x" * 63]
VALUES = ["", "llm", "v1.2_rc-3", "X", "x" * 63]


@pytest.mark.parametrize("key", SELECTED)
@pytest.mark.parametrize("value", VALUES)
def test_a_selector_of_labels_is_accepted(key: str, value: str) -> None:
    expression = {"key": key, "operator": "In", "values": [value]}
    assert refusals(policy(selector={"matchLabels": {key: value}, "matchExpressions": [expression]})) == []


@pytest.mark.parametrize(
    "key",
    ["", "a b", "-app", "app-", "app/", "/app", "Example.org/app", "a/b/c", "x" * 64, f"{'a.' * 127}a/x", "app\n"],
)
def test_a_key_that_no_label_can_have_is_refused(key: str) -> None:
    shown = ascii(key) if len(key) <= 80 else ascii(f"{key[:80]}...")
    end = f"{shown} cannot be the name of a label: write one such as app or example.org/app"
    selector = {"matchLabels": {key: "x"}, "matchExpressions": [{"key": key, "operator": "Exists"}]}
    assert refusals(policy(selector=selector)) == [
        f"policy.yaml: spec.selector.matchLabels: {end}",
        f"policy.yaml: spec.selector.matchExpressions[0].key: {end}",
    ]


@pytest.mark.parametrize("value", ["a b", " ", "-a", "a.", "a/b", "a,b", "a)", "\u00e9", "a\n"])
def test_a_value_that_no_label_can_have_is_refused(value: str) -> None:
    end = (
        f"{value!a} cannot be the value of a label: "
        "use letters, digits, and - _ . within, as the label of the pod has it"
    )
    expressions = [{"key": "app", "operator": operator, "values": ["x", value]} for operator in ("In", "NotIn")]
    assert refusals(policy(selector={"matchLabels": {"app": value}, "matchExpressions": expressions})) == [
        f"policy.yaml: spec.selector.matchLabels.app: {end}",
        f"policy.yaml: spec.selector.matchExpressions[0].values[1]: {end}",
        f"policy.yaml: spec.selector.matchExpressions[1].values[1]: {end}",
    ]


@pytest.mark.parametrize("operator", ["In", "NotIn"])
def test_a_choice_among_no_values_is_refused(operator: str) -> None:
    assert refusals(policy(selector={"matchExpressions": [{"key": "app", "operator": operator}]})) == [
        f"policy.yaml: spec.selector.matchExpressions[0].values: is empty, and {operator} needs a value: "
        "add one, or use Exists or DoesNotExist"
    ]


@pytest.mark.parametrize(
    ("kind", "fields"), [("JWT", {"jwt": JWT}), ("ServiceAccount", {"serviceAccount": {"audiences": ["a"]}})]
)
def test_a_source_that_this_version_would_not_act_on_is_refused_by_name(kind: str, fields: dict[str, Any]) -> None:
    assert refusals(policy(**sources({"type": kind} | fields))) == [
        f"policy.yaml: spec.identity.sources[0].type: {kind} is not supported yet: use APIKey or Header"
    ]
