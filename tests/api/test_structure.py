"""The shape of a policy: which fields there are, with which values, and what is said about others."""

from typing import Any

import pytest

from api.policies import SELECTOR, load, policy, refusals
from fairqueue_api.status import Status

NAME_LINE = "is not a valid name: use a-z, 0-9 and '-', with a letter or digit at both ends"
NUMBER_LINE = "must be a whole number: write it without quotes and without a fraction"
MAPPING_LINE = "must be a mapping: write its fields as name: value"
INT64_MAX = 2**63 - 1


def tenant(**fields: Any) -> dict[str, Any]:
    return {"tenants": [{"name": "team-a"} | fields]}


def source(**fields: Any) -> dict[str, Any]:
    return {"identity": {"sources": [{"name": "k", "type": "APIKey", "apiKey": {}} | fields]}}


GATEWAY = source(type="Header", apiKey=None, header={"trustedCIDRs": ["10.0.0.0/8"]})


def test_the_smallest_policy_has_the_defaults_of_v1alpha1() -> None:
    loaded = load(policy())
    assert loaded.model_dump(by_alias=True, exclude={"status"}) == {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": "two-teams", "namespace": "default"},
        "spec": {
            "selector": SELECTOR | {"matchExpressions": []},
            "engine": {"kind": "TGI", "container": None, "port": None, "apiKeySecretRef": None, "listen": None},
            "mode": "Enforce",
            "injection": {"mode": "PortTakeover"},
            "identity": {
                "onUnidentified": "Reject",
                "sources": [
                    {
                        "name": "api-key",
                        "type": "APIKey",
                        "apiKey": {"header": "Authorization"},
                        "jwt": None,
                        "serviceAccount": None,
                        "header": None,
                    }
                ],
            },
            "groups": [],
            "tenants": [],
            "anonymous": None,
            "cost": {
                "type": "Linear",
                "inputToken": 1,
                "outputToken": 2,
                "request": 0,
                "cachedInputPercent": 100,
                "prediction": "Mean",
                "quadratic": None,
            },
            "queue": {
                "maxRequests": 1024,
                "maxRequestsPerTenant": 256,
                "maxBytes": 67108864,
                "maxBytesPerTenant": 33554432,
                "maxBodyBytes": 16777216,
                "holdHeaders": "5s",
                "timeout": "60s",
            },
            "backpressure": {
                "maxRequests": None,
                "maxTokens": None,
                "maxPrefillTokens": None,
                "scrapeInterval": "500ms",
            },
            "drain": {"timeout": "120s"},
        },
    }


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"engine": {"kind": kind, "port": 8080, "container": "engine"}}, id=f"engine-{kind}")
        for kind in ("TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI")
    ]
    + [
        pytest.param({"engine": {"kind": "TGI", "port": 65535}}, id="highest-port"),
        pytest.param({"mode": "Enforce"}, id="enforce"),
        pytest.param({"engine": {"kind": "TGI", "apiKeySecretRef": {"name": "e", "key": "k"}}}, id="engine-key"),
        pytest.param({"engine": {"kind": "TGI", "listen": {"hostEnv": "HOST", "portArg": "--port"}}}, id="listen"),
        pytest.param({"engine": {"kind": "TGI", "listen": {"hostArg": "-h", "portEnv": "PORT"}}}, id="listen-again"),
        pytest.param({"anonymous": {}}, id="anonymous"),
        pytest.param({"anonymous": {"weight": 3, "perIdentity": False, "limits": {}}}, id="anonymous-in-full"),
        pytest.param(GATEWAY, id="header-source"),
        pytest.param(GATEWAY | tenant(subjects=[{"source": "k", "value": "team a"}]), id="subjects"),
        pytest.param(tenant(fairWithin="User"), id="fair-within-user"),
        pytest.param({"queue": {"holdHeaders": "0s"}, "backpressure": {"scrapeInterval": "1m"}}, id="intervals"),
        pytest.param({"injection": {"mode": "SidecarOnly"}}, id="injection"),
        pytest.param(source(apiKey={"header": "x-api-key"}), id="header"),
        pytest.param(tenant(fairWithin="None", weight=10000), id="fair-within-none"),
        pytest.param(tenant(limits={"maxInFlight": 1, "maxQueued": 0, "tokensPerMinute": 1}), id="limits"),
        pytest.param({"cost": {"type": "Quadratic", "quadratic": {"inputOutputPerMillion": 5}}}, id="quadratic"),
        pytest.param({"cost": {"inputToken": 0, "prediction": "None", "cachedInputPercent": 0}}, id="cost-minima"),
        pytest.param({"queue": {"maxBytes": 1048576, "maxBodyBytes": 1024, "timeout": "1h"}}, id="queue-bounds"),
        pytest.param({"backpressure": {"maxTokens": INT64_MAX, "maxPrefillTokens": 1}}, id="backpressure"),
        pytest.param({"drain": {"timeout": "0s"}}, id="drain-at-once"),
        pytest.param({"groups": None, "tenants": None, "cost": None}, id="fields-without-a-value"),
        pytest.param(tenant(group=None, limits=None, apiKeySecretRefs=None), id="tenant-fields-without-a-value"),
        pytest.param(
            {"selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}, id="expressions"
        ),
    ],
)
def test_a_well_formed_field_is_accepted(spec: dict[str, Any]) -> None:
    assert refusals(policy(**spec)) == []


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"selector": None}, "spec.selector: is missing: add it"),
        (
            {"selector": {"matchLabels": {"app": 1}}},
            "spec.selector.matchLabels.app: must be a string: put it in quotes",
        ),
        ({"selector": {"matchLabels": ["app"]}}, f"spec.selector.matchLabels: {MAPPING_LINE}"),
        (
            {"selector": {"matchLabels": {str(n): "x" for n in range(17)}}},
            "spec.selector.matchLabels: has more than 16 entries: remove some",
        ),
        ({"engine": "TGI"}, f"spec.engine: {MAPPING_LINE}"),
        ({"engine": {}}, "spec.engine.kind: is missing: add it"),
        (
            {"engine": {"kind": "tgi"}},
            "spec.engine.kind: is not one of the values it can have: use TGI, VLLM, SGLang, LlamaCpp or OpenAI",
        ),
        (
            {"engine": {"kind": "TGI", "apiKeySecretRef": {"name": "e"}}},
            "spec.engine.apiKeySecretRef.key: is missing: add it",
        ),
        (
            {"engine": {"kind": "TGI", "listen": {"hostEnv": "H" * 129}}},
            "spec.engine.listen.hostEnv: is longer than 128 characters: shorten it",
        ),
        (
            {"mode": "Watch"},
            "spec.mode: is not one of the values it can have: use Enforce or Observe",
        ),
        (
            {"anonymous": {"perIdentity": "yes"}},
            "spec.anonymous.perIdentity: must be true or false: write it without quotes",
        ),
        ({"anonymous": {"weight": 0}}, "spec.anonymous.weight: must be at least 1: raise it"),
        (
            source(type="Header", header={"trustedCIDRs": []}),
            "spec.identity.sources[0].header.trustedCIDRs: must have at least 1 entry: add one",
        ),
        (source(type="Header", header={}), "spec.identity.sources[0].header.trustedCIDRs: is missing: add it"),
        (
            source(type="JWT", jwt={"issuer": "http://a", "audiences": ["a"], "tenantClaim": "t"}),
            "spec.identity.sources[0].jwt.issuer: must begin with https://: write the whole address",
        ),
        (
            source(type="oidc"),
            "spec.identity.sources[0].type: is not one of the values it can have: "
            "use APIKey, JWT, ServiceAccount or Header",
        ),
        (
            tenant(subjects=[{"source": "k", "value": ""}]),
            "spec.tenants[0].subjects[0].value: must not be empty: write a value",
        ),
        (
            tenant(limits={"tokensPerMinute": 0}),
            "spec.tenants[0].limits.tokensPerMinute: must be at least 1: raise it",
        ),
        ({"engine": {"kind": "TGI", "port": 0}}, "spec.engine.port: must be at least 1: raise it"),
        ({"engine": {"kind": "TGI", "port": 65536}}, "spec.engine.port: must be at most 65535: lower it"),
        ({"engine": {"kind": "TGI", "port": "80"}}, f"spec.engine.port: {NUMBER_LINE}"),
        ({"engine": {"kind": "TGI", "port": True}}, f"spec.engine.port: {NUMBER_LINE}"),
        ({"engine": {"kind": "TGI", "port": 80.0}}, f"spec.engine.port: {NUMBER_LINE}"),
        ({"engine": {"kind": "TGI", "container": "a_b"}}, f"spec.engine.container: {NAME_LINE}"),
        ({"identity": {"sources": []}}, "spec.identity.sources: must have at least 1 entry: add one"),
        ({"identity": {"sources": {}}}, "spec.identity.sources: must be a list: start each entry with '- '"),
        (tenant(name=""), "spec.tenants[0].name: must not be empty: write a value"),
        (tenant(name="a" * 64), "spec.tenants[0].name: is longer than 63 characters: shorten it"),
        (tenant(name="Team"), f"spec.tenants[0].name: {NAME_LINE}"),
        (tenant(name="team\n"), f"spec.tenants[0].name: {NAME_LINE}"),
        (tenant(name=["a"]), "spec.tenants[0].name: must be a string: write a single value"),
        (tenant(weight=0), "spec.tenants[0].weight: must be at least 1: raise it"),
        (tenant(weight=10001), "spec.tenants[0].weight: must be at most 10000: lower it"),
        (tenant(apiKeySecretRefs=[{"name": "k"}]), "spec.tenants[0].apiKeySecretRefs[0].key: is missing: add it"),
        (
            tenant(apiKeySecretRefs=[{"name": "k", "key": str(n)} for n in range(17)]),
            "spec.tenants[0].apiKeySecretRefs: has more than 16 entries: remove some",
        ),
        (tenant(limits={"maxInFlight": 0}), "spec.tenants[0].limits.maxInFlight: must be at least 1: raise it"),
        (tenant(limits={"maxQueued": -1}), "spec.tenants[0].limits.maxQueued: must be at least 0: raise it"),
        (
            {"tenants": [{"name": f"t{n}"} for n in range(257)]},
            "spec.tenants: has more than 256 entries: remove some",
        ),
        ({"groups": [{"name": f"g{n}"} for n in range(65)]}, "spec.groups: has more than 64 entries: remove some"),
        ({"cost": {"outputToken": 0}}, "spec.cost.outputToken: must be at least 1: raise it"),
        ({"cost": {"inputToken": 1001}}, "spec.cost.inputToken: must be at most 1000: lower it"),
        ({"cost": {"request": 1000001}}, "spec.cost.request: must be at most 1000000: lower it"),
        ({"cost": {"cachedInputPercent": 101}}, "spec.cost.cachedInputPercent: must be at most 100: lower it"),
        (
            {"cost": {"prediction": "Max"}},
            "spec.cost.prediction: is not one of the values it can have: use Mean, MaxTokens or None",
        ),
        ({"queue": {"maxRequests": 100001}}, "spec.queue.maxRequests: must be at most 100000: lower it"),
        ({"queue": {"maxBytes": 1048575}}, "spec.queue.maxBytes: must be at least 1048576: raise it"),
        ({"queue": {"maxBodyBytes": 1023}}, "spec.queue.maxBodyBytes: must be at least 1024: raise it"),
        (
            {"queue": {"timeout": "0s"}},
            "spec.queue.timeout: must be more than 0s and at most 1h: write a duration in that range",
        ),
        (
            {"queue": {"timeout": "60"}},
            "spec.queue.timeout: is not a duration: write one such as 500ms, 60s or 1m30s",
        ),
        ({"queue": {"timeout": 60}}, "spec.queue.timeout: must be a string: put it in quotes"),
        ({"queue": {"timeout": "0" * 16 + "1s"}}, "spec.queue.timeout: is longer than 16 characters: shorten it"),
        (
            {"drain": {"timeout": "1h1s"}},
            "spec.drain.timeout: must be between 0s and 1h: write a duration in that range",
        ),
        ({"backpressure": {"maxTokens": 0}}, "spec.backpressure.maxTokens: must be at least 1: raise it"),
        (
            {"backpressure": {"maxTokens": INT64_MAX + 1}},
            f"spec.backpressure.maxTokens: must be at most {INT64_MAX}: lower it",
        ),
    ],
)
def test_an_ill_formed_field_is_refused_with_its_path_and_the_fix(spec: dict[str, Any], line: str) -> None:
    assert refusals(policy(**spec)) == [f"policy.yaml: {line}"]


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"tenats": []}, "spec.tenats: unknown field: did you mean tenants?"),
        (tenant(wieght=1), "spec.tenants[0].wieght: unknown field: did you mean weight?"),
        (tenant(wieght=None), "spec.tenants[0].wieght: unknown field: did you mean weight?"),
        (
            tenant(limits={"maxinflight": 1}),
            "spec.tenants[0].limits.maxinflight: unknown field: did you mean maxInFlight?",
        ),
        ({"cost": {"quadratic": {"xyz": 1}}}, "spec.cost.quadratic.xyz: unknown field: remove it"),
        ({"x" * 100: 1}, f"spec.{'x' * 64}…: unknown field: remove it"),
        ({"a\nb": 1}, "spec.a\\nb: unknown field: remove it"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(spec: dict[str, Any], line: str) -> None:
    assert refusals(policy(**spec)) == [f"policy.yaml: {line}"]


def test_a_misspelt_field_comes_before_the_field_that_is_missing_for_it() -> None:
    assert refusals(policy(engine={"knd": "TGI"})) == [
        "policy.yaml: spec.engine.knd: unknown field: did you mean kind?",
        "policy.yaml: spec.engine.kind: is missing: add it",
    ]


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {"apiVersion": "fairqueue.dev/v1"},
            ["apiVersion: must be fairqueue.dev/v1alpha1: write apiVersion: fairqueue.dev/v1alpha1"],
        ),
        ({"kind": "Deployment", "data": 1}, ["kind: must be FairnessPolicy: write kind: FairnessPolicy"]),
        ({"metadata": {}}, ["metadata.name: is missing: add it"]),
        ({"metadata": {"name": "a" * 254}}, ["metadata.name: is longer than 253 characters: shorten it"]),
        (
            {"metadata": {"name": "A"}},
            ["metadata.name: is not a valid name: use a-z, 0-9, '.' and '-', with a letter or digit at both ends"],
        ),
        ({"metadata": {"name": "a", "namespace": "a.b"}}, [f"metadata.namespace: {NAME_LINE}"]),
        ({"spec": None}, ["spec: is missing: add it"]),
        ({"spek": {}}, ["spek: unknown field: did you mean spec?"]),
    ],
)
def test_what_surrounds_the_spec_is_checked(changes: dict[str, Any], lines: list[str]) -> None:
    assert refusals(policy() | changes) == [f"policy.yaml: {line}" for line in lines]


def test_other_metadata_and_the_status_are_passed_over() -> None:
    metadata = {"name": "a.b", "namespace": "llm", "uid": "1", "labels": {}, "managedFields": []}
    condition = {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "Programmed",
        "message": "all pods are current",
    }
    status = {
        "observedGeneration": 1,
        "configRevision": "0" * 64,
        "tenants": 2,
        "pods": {"matched": 3, "unlabelled": 1, "injected": 2, "started": 2, "current": 2},
        "conditions": [condition],
    }
    assert Status.model_validate(status).conditions[0].reason == "Programmed"
    for written in (status, status | {"later": {}}):
        loaded = load(policy() | {"metadata": metadata, "status": written})
        assert (loaded.metadata.name, loaded.metadata.namespace) == ("a.b", "llm")


def test_a_resource_without_kind_and_version_says_so_for_both() -> None:
    assert refusals({"spec": {}}) == [
        "policy.yaml: apiVersion: is missing: write apiVersion: fairqueue.dev/v1alpha1",
        "policy.yaml: kind: is missing: write kind: FairnessPolicy",
    ]
