"""Policy and keys in, document out: complete, always the same bytes, and with no key in it."""

import hashlib
import json
import logging
import random
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.policies import EXAMPLE, Keys, load, policy
from fairqueue_api import (
    Document,
    LimitSettings,
    PolicyError,
    Problem,
    SecretDirectory,
    SecretError,
    SourceSettings,
    SubjectSettings,
    digest,
    load_policy,
    parse_document,
    render,
)
from fairqueue_api.models import FairnessPolicy

KEY = "sk-0123456789-very-secret"
GATEWAY = {
    "name": "gateway",
    "type": "Header",
    "header": {"name": "X-Tenant", "trustedCIDRs": ["fd00::/8", "10.0.0.0/8"]},
}
ENGINE_WITH_KEY = {"kind": "TGI", "apiKeySecretRef": {"name": "engine", "key": "token"}}
POLICY = FairnessPolicy.model_validate(policy())


def tenants(*refs: list[str]) -> dict[str, Any]:
    entries = [
        {"name": f"t{index}", "apiKeySecretRefs": [{"name": name, "key": "token"} for name in names]}
        for index, names in enumerate(refs)
    ]
    return {"tenants": entries}


def rendered(secrets: Keys | None = None, /, **spec: Any) -> Document:
    return render(load(policy(**spec)), secrets or Keys())


def problems(secrets: Keys | SecretDirectory | None, **spec: Any) -> list[str]:
    with pytest.raises(SecretError) as caught:
        render(load(policy(**spec)), secrets)
    assert str(caught.value) == str(caught.value.problems[0])
    return [str(problem) for problem in caught.value.problems]


def test_the_example_renders_to_this_document() -> None:
    content = json.loads(render(load_policy(EXAMPLE), Keys()).to_json())
    del content["revision"]
    assert content == {
        "schema": 1,
        "policy": "default/two-teams",
        "mode": "Enforce",
        "engine": {"kind": "TGI", "port": None, "api_key": None},
        "identity": {
            "on_unidentified": "Reject",
            "sources": [
                {"name": "api-key", "type": "APIKey", "header": "authorization", "trusted_cidrs": []},
                {"name": "api-key-plain", "type": "APIKey", "header": "x-api-key", "trusted_cidrs": []},
            ],
        },
        "anonymous": None,
        "groups": [
            {"name": "research", "parent": None, "weight": 3},
            {"name": "support", "parent": None, "weight": 2},
        ],
        "tenants": [
            {
                "name": "team-a",
                "group": "research",
                "weight": 2,
                "fair_within": "None",
                "limits": {"max_in_flight": None, "max_queued": None, "tokens_per_minute": None},
                "subjects": [],
                "key_digests": sorted([digest(b"team-a-keys/current"), digest(b"team-a-keys/next")]),
            },
            {
                "name": "team-a-batch",
                "group": "research",
                "weight": 1,
                "fair_within": "None",
                "limits": {"max_in_flight": 8, "max_queued": None, "tokens_per_minute": None},
                "subjects": [],
                "key_digests": [digest(b"team-a-batch-keys/token")],
            },
            {
                "name": "team-b",
                "group": "support",
                "weight": 1,
                "fair_within": "None",
                "limits": {"max_in_flight": None, "max_queued": 100, "tokens_per_minute": None},
                "subjects": [],
                "key_digests": [digest(b"team-b-keys/token")],
            },
        ],
        "cost": {
            "type": "Linear",
            "input_token": 1,
            "output_token": 2,
            "request": 0,
            "cached_input_percent": 100,
            "prediction": "Mean",
            "quadratic": None,
        },
        "queue": {
            "max_requests": 1024,
            "max_requests_per_tenant": 256,
            "max_bytes": 67108864,
            "max_bytes_per_tenant": 33554432,
            "max_body_bytes": 16777216,
            "hold_headers_seconds": 5.0,
            "timeout_seconds": 60.0,
        },
        "backpressure": {
            "scrape_interval_seconds": 0.5,
            "max_requests": 32,
            "max_tokens": None,
            "max_prefill_tokens": None,
        },
        "drain": {"timeout_seconds": 120.0},
    }


def test_every_other_field_reaches_the_document_too() -> None:
    document = rendered(
        engine={"kind": "OpenAI", "port": 8000, "apiKeySecretRef": {"name": "engine", "key": "token"}},
        mode="Enforce",
        identity={"onUnidentified": "Anonymous", "sources": [GATEWAY]},
        anonymous={"weight": 2, "perIdentity": False, "limits": {"maxInFlight": 3, "maxQueued": 4}},
        groups=[{"name": "org"}, {"name": "team", "parent": "org", "weight": 7}],
        cost={
            "type": "Quadratic",
            "inputToken": 3,
            "outputToken": 4,
            "request": 5,
            "cachedInputPercent": 6,
            "prediction": "MaxTokens",
            "quadratic": {"inputInputPerMillion": 7, "inputOutputPerMillion": 8, "outputOutputPerMillion": 9},
        },
        queue={
            "maxRequests": 11,
            "maxRequestsPerTenant": 12,
            "maxBytes": 1048577,
            "maxBytesPerTenant": 1048578,
            "maxBodyBytes": 1025,
            "holdHeaders": "2500ms",
            "timeout": "1m30s",
        },
        backpressure={"maxRequests": 13, "maxTokens": 14, "maxPrefillTokens": 15, "scrapeInterval": "2s"},
        drain={"timeout": "500ms"},
    )
    content = json.loads(document.to_json())
    assert content["engine"] == {"kind": "OpenAI", "port": 8000, "api_key": "engine/token"}
    assert content["mode"] == "Enforce"
    assert content["identity"]["on_unidentified"] == "Anonymous"
    assert content["anonymous"] == {
        "weight": 2,
        "per_identity": False,
        "limits": {"max_in_flight": 3, "max_queued": 4, "tokens_per_minute": None},
    }
    assert content["groups"][1] == {"name": "team", "parent": "org", "weight": 7}
    assert content["cost"] == {
        "type": "Quadratic",
        "input_token": 3,
        "output_token": 4,
        "request": 5,
        "cached_input_percent": 6,
        "prediction": "MaxTokens",
        "quadratic": {"input_input_per_million": 7, "input_output_per_million": 8, "output_output_per_million": 9},
    }
    assert content["queue"] == {
        "max_requests": 11,
        "max_requests_per_tenant": 12,
        "max_bytes": 1048577,
        "max_bytes_per_tenant": 1048578,
        "max_body_bytes": 1025,
        "hold_headers_seconds": 2.5,
        "timeout_seconds": 90.0,
    }
    assert content["backpressure"] == {
        "scrape_interval_seconds": 2.0,
        "max_requests": 13,
        "max_tokens": 14,
        "max_prefill_tokens": 15,
    }
    assert content["drain"] == {"timeout_seconds": 0.5}


def test_a_tenants_identities_and_limits_reach_the_document() -> None:
    subjects = [{"source": "gateway", "value": value} for value in ("b", "a")]
    limits = {"maxInFlight": 1, "maxQueued": 2, "tokensPerMinute": 3}
    entry = {"name": "t", "fairWithin": "User", "subjects": subjects, "limits": limits}
    (tenant,) = rendered(identity={"sources": [GATEWAY]}, tenants=[entry]).tenants
    assert tenant.fair_within == "User"
    assert tenant.limits == LimitSettings(1, 2, 3)
    assert tenant.subjects == (SubjectSettings("gateway", "a"), SubjectSettings("gateway", "b"))


def test_sources_keep_the_order_in_which_they_are_tried() -> None:
    keys = {"name": "a-key", "type": "APIKey", "apiKey": {"header": "X-API-Key"}}
    assert rendered(identity={"sources": [GATEWAY, keys]}).identity.sources == (
        SourceSettings("gateway", "Header", "x-tenant", ("10.0.0.0/8", "fd00::/8")),
        SourceSettings("a-key", "APIKey", "x-api-key", ()),
    )


def test_ranges_are_rendered_as_networks_each_once() -> None:
    ranges = ["192.168.1.7/16", "FD00:0::1/8", "192.168.0.0/16"]
    source = GATEWAY | {"header": {"trustedCIDRs": ranges}}
    assert rendered(identity={"sources": [source]}).identity.sources[0].trusted_cidrs == ("192.168.0.0/16", "fd00::/8")


def test_the_revision_is_the_digest_of_the_rest_of_the_document() -> None:
    content = json.loads(rendered(**tenants(["a"])).to_json())
    revision = content.pop("revision")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    assert revision == hashlib.sha256(canonical).hexdigest()


def test_a_rotated_key_and_a_changed_weight_change_the_revision() -> None:
    spec = tenants(["a"])
    before = rendered(Keys(a="old"), **spec).revision
    assert rendered(Keys(a="new"), **spec).revision != before
    spec["tenants"][0]["weight"] = 2
    assert rendered(Keys(a="old"), **spec).revision != before


@given(seed=st.integers(0, 2**32), count=st.integers(1, 12))
def test_the_order_in_the_file_does_not_change_a_byte(seed: int, count: int) -> None:
    shuffle = random.Random(seed).shuffle
    content = policy(
        groups=[{"name": f"g{n}", "weight": n + 1} for n in range(count)],
        tenants=[
            {"name": f"t{n}", "group": f"g{n // 2}", "apiKeySecretRefs": [{"name": f"s{n}", "key": k} for k in "abc"]}
            for n in range(count)
        ],
    )
    before = render(FairnessPolicy.model_validate(content), Keys()).to_json()
    shuffle(content["spec"]["groups"])
    shuffle(content["spec"]["tenants"])
    for tenant in content["spec"]["tenants"]:
        shuffle(tenant["apiKeySecretRefs"])
    assert render(FairnessPolicy.model_validate(content), Keys()).to_json() == before


def test_one_key_under_two_names_of_a_tenant_is_one_digest() -> None:
    assert rendered(Keys(a=KEY, b=KEY), **tenants(["a", "b"])).tenants[0].key_digests == (digest(KEY.encode()),)


def test_one_key_for_two_tenants_is_refused() -> None:
    assert problems(Keys(a=KEY, b=KEY), **tenants(["a"], ["c", "b"])) == [
        "policy default/two-teams: spec.tenants[1].apiKeySecretRefs[1]: holds the same key as "
        "spec.tenants[0].apiKeySecretRefs[0]: give each tenant keys of its own"
    ]


def test_each_key_that_is_missing_is_named_with_the_field_that_asks_for_it() -> None:
    Path("secrets/a").mkdir(parents=True)
    Path("secrets/a/token").write_text(KEY)
    assert problems(SecretDirectory(Path("secrets")), **tenants(["a"], ["b"], ["c"])) == [
        "secrets/b/token: file not found: create it, or mend spec.tenants[1].apiKeySecretRefs[0]",
        "secrets/c/token: file not found: create it, or mend spec.tenants[2].apiKeySecretRefs[0]",
    ]


def test_a_policy_that_names_keys_needs_a_source_of_secrets() -> None:
    assert problems(None, **tenants(["a"])) == [
        "policy default/two-teams: spec.tenants[0].apiKeySecretRefs[0]: names a key, and no directory of secrets is "
        "given: pass --secrets DIR"
    ]


def test_the_engines_key_is_rendered_in_clear_and_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        document = rendered(Keys(engine=KEY), engine=ENGINE_WITH_KEY)
        parsed = parse_document(document.to_json()).document
    assert document.engine.api_key == parsed.engine.api_key == KEY
    assert KEY not in f"{document!r} {document} {document.engine!r} {parsed!r} {caplog.text}"


def test_a_rotated_engine_key_changes_the_revision() -> None:
    before = rendered(Keys(engine=KEY), engine=ENGINE_WITH_KEY).revision
    assert rendered(Keys(engine=KEY + "2"), engine=ENGINE_WITH_KEY).revision != before


def test_an_engine_key_that_cannot_be_had_is_named_with_its_field() -> None:
    assert problems(None, engine=ENGINE_WITH_KEY) == [
        "policy default/two-teams: spec.engine.apiKeySecretRef: names a key, and no directory of secrets is given: "
        "pass --secrets DIR"
    ]
    assert problems(SecretDirectory(Path("secrets")), engine=ENGINE_WITH_KEY) == [
        "secrets: directory not found: create it, or mend spec.engine.apiKeySecretRef"
    ]


def test_every_key_that_is_missing_is_told_at_once() -> None:
    told = problems(None, engine=ENGINE_WITH_KEY, **tenants(["a", "b"], ["c"]))
    assert [line.split(": ")[1] for line in told] == [
        "spec.engine.apiKeySecretRef",
        "spec.tenants[0].apiKeySecretRefs[0]",
        "spec.tenants[0].apiKeySecretRefs[1]",
        "spec.tenants[1].apiKeySecretRefs[0]",
    ]


def test_a_policy_without_keys_needs_no_source_of_secrets() -> None:
    assert render(POLICY, None).tenants == ()


def test_a_document_shows_neither_key_nor_digest_when_printed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        document = rendered(Keys(a=KEY), **tenants(["a"]))
    shown = f"{document!r} {document} {caplog.text}"
    assert "t0" in shown
    assert KEY not in shown
    assert digest(KEY.encode()) not in shown
    assert KEY.encode() not in document.to_json()
    assert digest(KEY.encode()).encode() in document.to_json()


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"tenants": [{"name": KEY.upper()}]}, id="as-a-name"),
        pytest.param({"tenants": [{"name": "a", "apiKeySecretRefs": [KEY]}]}, id="as-a-reference"),
        pytest.param({"tenants": [{"name": "a", "apiKeySecretRefs": KEY}]}, id="as-the-references"),
        pytest.param({"tenants": [{"name": "a", "apiKey": KEY}]}, id="in-an-unknown-field"),
        pytest.param({"tenants": [{"name": "a", "fairWithin": KEY}]}, id="as-a-choice"),
        pytest.param({"tenants": [{"name": "a", "group": KEY}]}, id="as-a-group"),
        pytest.param({"queue": {"timeout": KEY[:16]}}, id="as-a-duration"),
        pytest.param({"engine": {"kind": "TGI", "apiKeySecretRef": KEY}}, id="as-the-engines-key"),
        pytest.param({"tenants": [{"name": "a", "subjects": [{"source": KEY, "value": KEY}]}]}, id="as-a-subject"),
        pytest.param({"identity": {"sources": [GATEWAY | {"type": KEY}]}}, id="as-a-type"),
        pytest.param(
            {"identity": {"sources": [GATEWAY | {"header": {"name": f"{KEY}:", "trustedCIDRs": [KEY]}}]}},
            id="as-a-header-and-a-range",
        ),
    ],
)
def test_a_key_pasted_into_the_policy_is_not_repeated_by_the_error(spec: dict[str, Any]) -> None:
    with pytest.raises(PolicyError) as caught:
        load(policy(**spec))
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "spec." in told
    assert KEY[:16].lower() not in told.lower()


@given(key=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80))
def test_only_the_digest_of_a_key_leaves_the_renderer(key: str) -> None:
    key = f"sk-{key}"  # Hypothesis tries the names of our own classes as keys
    document = render(FairnessPolicy.model_validate(policy(**tenants(["a"]))), Keys(a=key))
    assert document.tenants[0].key_digests == (hashlib.sha256(key.encode()).hexdigest(),)
    assert key.encode() not in document.to_json()
    assert key not in repr(document)


def test_the_engines_key_is_read_where_it_is_kept() -> None:
    tenant_refs = tenants(["keys"])
    document = render(
        load(policy(engine=ENGINE_WITH_KEY, **tenant_refs)),
        Keys(keys="client", engine="-"),
        Keys(engine="own", keys="-"),
    )
    assert document.engine.api_key == "own"
    assert document.tenants[0].key_digests == (hashlib.sha256(b"client").hexdigest(),)


class _NoKeys:
    def read(self, name: str, key: str) -> bytes:
        raise SecretError([Problem(f"{name}/{key}", "", "is not here", "look elsewhere")])


def test_the_engines_key_is_looked_for_nowhere_else() -> None:
    with pytest.raises(SecretError) as caught:
        render(load(policy(engine=ENGINE_WITH_KEY)), Keys(), _NoKeys())
    assert str(caught.value) == "engine/token: is not here: look elsewhere, or mend spec.engine.apiKeySecretRef"
