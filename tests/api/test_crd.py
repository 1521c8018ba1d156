"""The CRD: the committed file is what the models say, and it says to the API server what v1alpha1 promises."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairqueue_api import crd, generate
from fairqueue_api.crd_markers import INT32, CrdMarker
from fairqueue_api.generate import CRD_FILE
from fairqueue_api.model import Model
from fairqueue_api.reference import BEGIN, END
from fairqueue_api.rules import RULES

MANIFEST = yaml.safe_load(CRD_FILE.read_text())
(VERSION,) = MANIFEST["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
SPEC = SCHEMA["properties"]["spec"]


def nodes(node: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in it, with its place."""
    yield place, node
    for name, below in node.get("properties", {}).items():
        yield from nodes(below, f"{place}.{name}".removeprefix("."))
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            yield from nodes(node[keyword], f"{place}[]")


def without(node: Any, *names: str) -> Any:
    if isinstance(node, list):
        return [without(item, *names) for item in node]
    if not isinstance(node, dict):
        return node
    return {name: without(below, *names) for name, below in node.items() if name not in names}


def at(place: str) -> Any:
    """The schema at a place, without words for people and rules."""
    return without(crd.schema_at(SCHEMA, place), "description", "x-kubernetes-validations")


def test_the_committed_file_is_what_the_models_say() -> None:
    assert CRD_FILE.read_text() == crd.manifest_yaml(), "run `make crd`"


def test_the_file_and_the_table_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "CRD_FILE", tmp_path / "crd.yaml")
    monkeypatch.setattr(generate, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text(f"before\n{BEGIN}\nstale row\n{END}\nafter\n")
    generate.main()
    assert (tmp_path / "crd.yaml").read_text() == crd.manifest_yaml()
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "stale row" not in page
    assert "| `spec.mode` |" in page


def test_the_file_is_the_same_text_each_time() -> None:
    assert crd.manifest_yaml() == crd.manifest_yaml()
    assert yaml.safe_load(crd.manifest_yaml()) == crd.manifest()


def test_the_resource_is_named_as_users_type_it() -> None:
    assert MANIFEST["metadata"] == {"name": "fairnesspolicies.fairqueue.dev"}
    assert without(MANIFEST["spec"], "versions") == {
        "group": "fairqueue.dev",
        "scope": "Namespaced",
        "names": {
            "kind": "FairnessPolicy",
            "listKind": "FairnessPolicyList",
            "plural": "fairnesspolicies",
            "singular": "fairnesspolicy",
            "shortNames": ["fpol"],
            "categories": ["all-fairqueue"],
        },
    }


def test_the_version_is_served_with_a_status_and_its_columns() -> None:
    assert without(VERSION, "schema", "additionalPrinterColumns") == {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".spec.engine.kind"}],
    }
    assert [(each["name"], each["type"], each["jsonPath"]) for each in VERSION["additionalPrinterColumns"]] == [
        ("Engine", "string", ".spec.engine.kind"),
        ("Tenants", "integer", ".status.tenants"),
        ("Pods", "integer", ".status.pods.matched"),
        ("Current", "integer", ".status.pods.current"),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    ]
    assert [each["name"] for each in VERSION["additionalPrinterColumns"] if each.get("priority")] == ["Reason"]


def test_only_the_spec_is_required_and_metadata_is_left_to_the_api_server() -> None:
    assert SCHEMA["required"] == ["spec"]
    assert set(SCHEMA["properties"]) == {"apiVersion", "kind", "metadata", "spec", "status"}
    assert SCHEMA["properties"]["metadata"] == {"type": "object"}


def test_required_fields_are_these() -> None:
    required = {place: node["required"] for place, node in nodes(SPEC, "spec") if "required" in node}
    assert required == {
        "spec": ["selector", "engine"],
        "spec.selector.matchExpressions[]": ["key", "operator"],
        "spec.engine": ["kind"],
        "spec.engine.apiKeySecretRef": ["name", "key"],
        "spec.identity.sources[]": ["name", "type"],
        "spec.identity.sources[].jwt": ["issuer", "audiences", "tenantClaim"],
        "spec.identity.sources[].serviceAccount": ["audiences"],
        "spec.identity.sources[].header": ["trustedCIDRs"],
        "spec.groups[]": ["name"],
        "spec.tenants[]": ["name"],
        "spec.tenants[].apiKeySecretRefs[]": ["name", "key"],
        "spec.tenants[].subjects[]": ["source", "value"],
    }


def test_defaults_are_these() -> None:
    assert {place: node["default"] for place, node in nodes(SCHEMA) if "default" in node} == {
        "spec.mode": "Enforce",
        "spec.injection": {},
        "spec.injection.mode": "PortTakeover",
        "spec.identity": {},
        "spec.identity.onUnidentified": "Reject",
        "spec.identity.sources": [{"name": "api-key", "type": "APIKey", "apiKey": {}}],
        "spec.identity.sources[].apiKey.header": "Authorization",
        "spec.identity.sources[].jwt.userClaim": "sub",
        "spec.identity.sources[].header.name": "x-gateway-inference-fairness-id",
        "spec.groups[].weight": 1,
        "spec.tenants[].weight": 1,
        "spec.tenants[].fairWithin": "None",
        "spec.anonymous.weight": 1,
        "spec.anonymous.perIdentity": True,
        # Not {}: an object's default is checked by its rules before defaults within it apply.
        "spec.cost": {"type": "Linear"},
        "spec.cost.type": "Linear",
        "spec.cost.inputToken": 1,
        "spec.cost.outputToken": 2,
        "spec.cost.request": 0,
        "spec.cost.cachedInputPercent": 100,
        "spec.cost.prediction": "Mean",
        "spec.cost.quadratic.inputInputPerMillion": 0,
        "spec.cost.quadratic.inputOutputPerMillion": 0,
        "spec.cost.quadratic.outputOutputPerMillion": 0,
        "spec.queue": {},
        "spec.queue.maxRequests": 1024,
        "spec.queue.maxRequestsPerTenant": 256,
        "spec.queue.maxBytes": 67108864,
        "spec.queue.maxBytesPerTenant": 33554432,
        "spec.queue.maxBodyBytes": 16777216,
        "spec.queue.holdHeaders": "5s",
        "spec.queue.timeout": "60s",
        "spec.backpressure": {},
        "spec.backpressure.scrapeInterval": "500ms",
        "spec.drain": {},
        "spec.drain.timeout": "120s",
    }


def test_lists_are_of_these_kinds() -> None:
    kinds = {}
    for place, node in nodes(SCHEMA):
        if node["type"] == "array":
            kinds[place] = node.get("x-kubernetes-list-map-keys", node["x-kubernetes-list-type"])
    assert kinds == {
        "spec.selector.matchExpressions": "atomic",
        "spec.selector.matchExpressions[].values": "atomic",
        "spec.identity.sources": ["name"],
        "spec.identity.sources[].jwt.audiences": "set",
        "spec.identity.sources[].serviceAccount.audiences": "set",
        "spec.identity.sources[].header.trustedCIDRs": "set",
        "spec.groups": ["name"],
        "spec.tenants": ["name"],
        "spec.tenants[].apiKeySecretRefs": ["name", "key"],
        "spec.tenants[].subjects": "atomic",
        "status.conditions": ["type"],
    }
    assert SPEC["properties"]["selector"]["x-kubernetes-map-type"] == "atomic"


def test_choices_are_these() -> None:
    assert {place: node["enum"] for place, node in nodes(SCHEMA) if "enum" in node} == {
        "spec.selector.matchExpressions[].operator": ["In", "NotIn", "Exists", "DoesNotExist"],
        "spec.engine.kind": ["TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI"],
        "spec.mode": ["Enforce", "Observe"],
        "spec.injection.mode": ["PortTakeover", "SidecarOnly", "Disabled"],
        "spec.identity.onUnidentified": ["Reject", "Anonymous"],
        "spec.identity.sources[].type": ["APIKey", "JWT", "ServiceAccount", "Header"],
        "spec.tenants[].fairWithin": ["None", "User"],
        "spec.cost.type": ["Linear", "Quadratic"],
        "spec.cost.prediction": ["Mean", "MaxTokens", "None"],
        "status.conditions[].status": ["True", "False", "Unknown"],
    }


LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
INT64 = {"type": "integer", "format": "int64"}


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("spec.tenants[].name", {"type": "string", "minLength": 1, "maxLength": 63, "pattern": LABEL}),
        ("spec.engine.container", {"type": "string", "maxLength": 63, "pattern": LABEL}),
        ("spec.engine.port", {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}),
        ("spec.groups[].weight", {"type": "integer", "format": "int32", "minimum": 1, "maximum": 10000, "default": 1}),
        # Bounds that the format has already are not repeated.
        ("spec.anonymous.limits.maxInFlight", {"type": "integer", "format": "int32", "minimum": 1}),
        ("spec.tenants[].limits.tokensPerMinute", INT64 | {"minimum": 1}),
        ("spec.queue.maxBytes", INT64 | {"minimum": 1048576, "default": 67108864}),
        ("spec.queue.holdHeaders", {"type": "string", "maxLength": 16, "default": "5s"}),
        ("spec.identity.sources[].header.trustedCIDRs[]", {"type": "string", "maxLength": 43}),
        ("spec.identity.sources[].jwt.jwksURI", {"type": "string", "maxLength": 512, "pattern": "^https://"}),
        (
            "spec.selector.matchLabels",
            {"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 63}},
        ),
        ("status.conditions[].lastTransitionTime", {"type": "string", "format": "date-time"}),
        ("status.conditions[].observedGeneration", INT64 | {"minimum": 0}),
        ("status.pods.unlabelled", {"type": "integer", "format": "int32"}),
    ],
)
def test_a_field_has_its_type_and_bounds(place: str, expected: dict[str, Any]) -> None:
    assert at(place) == expected


def test_each_rule_is_at_its_place_in_order_with_its_message() -> None:
    written = [
        (place, rule["rule"], rule["message"], rule.get("fieldPath", ""), rule.get("reason", ""))
        for place, node in nodes(SCHEMA)
        for rule in node.get("x-kubernetes-validations", ())
    ]
    assert sorted(written) == sorted(
        (rule.place, rule.cel, rule.message, rule.field_path, rule.reason) for rule in RULES
    )
    messages = [rule["message"] for rule in SPEC["x-kubernetes-validations"]]
    assert messages == [rule.message for rule in RULES if rule.place == "spec"]


def test_what_a_rule_can_reach_has_a_bound_so_that_its_cost_has_one() -> None:
    for place, node in nodes(SPEC, "spec"):
        if node["type"] == "string" and "enum" not in node:
            assert "maxLength" in node, place
        if node["type"] == "array":
            assert "maxItems" in node, place
        if "additionalProperties" in node:
            assert "maxProperties" in node, place


def test_every_field_is_explained_to_kubectl_explain() -> None:
    explained = {"", "apiVersion", "kind", "metadata", "spec", "status"}
    missing = [
        place for place, node in nodes(SCHEMA)
        if place not in explained and not place.endswith("[]") and not node.get("description")
    ]  # fmt: skip
    assert missing == []


def test_there_is_nothing_in_it_that_a_structural_schema_cannot_say() -> None:
    for place, node in nodes(SCHEMA):
        assert not {"$ref", "anyOf", "oneOf", "allOf", "title", "const", "$defs"} & node.keys(), place


def test_a_model_that_says_more_than_a_structural_schema_can_is_refused() -> None:
    class Odd(Model):
        multiple: int = 0

    Odd.model_fields["multiple"].metadata.append(CrdMarker(multipleOf=2))
    Odd.model_rebuild(force=True)
    with pytest.raises(crd.UnknownKeyword, match="multipleOf"):
        crd._structural(Odd)
    assert INT32.keywords == {"format": "int32"}
