"""AdmissionReviews as bytes: what is understood of them, what is refused, and what the answers say. Pure."""

import base64
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator.admission import MalformedReview, answer, read_review
from fairqueue_operator.injection import Decision, InjectionSettings, Reason, Warned, decide
from fairqueue_operator.policy_cache import read_policies
from fairqueue_operator.verdict import DECISIONS, OwnReason, Verdict, Warning, denied, judge_by, verdict_of
from injector.conftest import pod, policy, review


def body(object: Any = None, **request: Any) -> bytes:
    return json.dumps(review(object, **request)).encode()


READ = read_review(body())
SETTINGS = InjectionSettings("example.org/proxy:1", "1")


def test_the_namespace_is_the_requests_and_the_name_what_there_is_of_one() -> None:
    assert (READ.namespace, READ.name, READ.dry_run) == ("team", "llm-7f-", False)
    assert READ.pod == pod()
    named = pod(name="llm-0", namespace="elsewhere")
    read = read_review(body(named, name="llm-0"))
    assert (read.namespace, read.name) == ("team", "llm-0")
    assert read_review(body(pod(generateName=None))).name == ""


def test_the_owner_is_the_controller_else_the_first() -> None:
    first, controller = {"kind": "Job", "name": "a"}, {"kind": "ReplicaSet", "name": "b", "controller": True}
    assert read_review(body(pod(ownerReferences=[first, 7, controller]))).owner == controller
    assert read_review(body(pod(ownerReferences=[first]))).owner == first
    for nobody in ([], None, "x", [3]):
        assert read_review(body(pod(ownerReferences=nobody))).owner is None


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "UPDATE"},
        {"operation": "DELETE", "object": None},
        {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}},
        {"kind": {"group": "policy", "version": "v1", "kind": "Eviction"}, "subResource": "eviction"},
        {"subResource": "ephemeralcontainers"},
        {"kind": None},
        {"kind": {"group": "", "version": "v1", "kind": "Namespace"}, "namespace": ""},
    ],
)
def test_what_is_no_creation_of_a_pod_is_not_looked_into(request_: dict[str, Any]) -> None:
    read = read_review(body(**request_))
    assert (read.pod, read.owner) == (None, None)
    assert answer(read, Verdict(OwnReason.NOT_A_NEW_POD))["response"] == {"uid": read.uid, "allowed": True}


@pytest.mark.parametrize("value", [True, False, None, "true", 1])
def test_only_true_is_a_dry_run(value: Any) -> None:
    assert read_review(body(dryRun=value)).dry_run is (value is True)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="cut"),
        pytest.param(b"\xff\xfe", "not JSON", id="no-text"),
        pytest.param(b"[" * 1_000_000, "not JSON", id="deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not JSON", id="deep-objects"),
        pytest.param(b'{"kind": "\\ud800"}', "not ", id="half-a-character"),
        pytest.param(b"[]", "the body is not an object", id="list"),
        pytest.param(b"{}", "not an AdmissionReview of", id="nothing"),
        pytest.param(
            json.dumps(review() | {"apiVersion": "admission.k8s.io/v1beta1"}).encode(),
            "of admission.k8s.io/v1",
            id="beta",
        ),
        pytest.param(json.dumps(review() | {"kind": "Pod"}).encode(), "not an AdmissionReview", id="kind"),
        pytest.param(json.dumps(review() | {"request": None}).encode(), "request is not an object", id="no-request"),
        pytest.param(body(uid=""), "request.uid", id="no-uid"),
        pytest.param(body(uid=7), "request.uid", id="number-as-uid"),
        pytest.param(body(namespace=7), "request.namespace is not a text", id="number-as-namespace"),
        pytest.param(body(namespace=""), "request.namespace is missing", id="no-namespace"),
        pytest.param(body("pod"), "request.object is not an object", id="no-pod"),
        pytest.param(body({"metadata": []}), "request.object.metadata is not an object", id="no-metadata"),
    ],
)
def test_what_is_no_review_is_refused_with_a_line(content: bytes, what: str) -> None:
    with pytest.raises(MalformedReview, match=what) as caught:
        read_review(content)
    assert "\n" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["uid", "kind", "namespace", "operation", "object", "dryRun", "name", "subResource"])


@given(st.dictionaries(fields, json_values))
def test_a_review_with_anything_in_its_fields_is_read_or_refused(changed: dict[str, Any]) -> None:
    given_ = review()
    given_["request"] |= changed
    try:
        read = read_review(json.dumps(given_).encode())
    except MalformedReview:
        return
    decision = verdict_of(decide(read.pod or {}, [], SETTINGS))
    json.dumps(answer(read, decision))


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(content: bytes) -> None:
    with pytest.raises(MalformedReview):
        read_review(content)


def test_a_denial_is_forbidden_and_says_why_in_one_line() -> None:
    verdict = denied(Reason.BAD_POD, "a\x1b[31m\nline")
    assert answer(READ, verdict)["response"] == {
        "uid": READ.uid,
        "allowed": False,
        "status": {"code": 403, "reason": "Forbidden", "message": "bad_pod: a\\x1b[31m\\nline"},
    }


@pytest.mark.parametrize(
    ("verdict", "code", "reason"),
    [
        (denied(OwnReason.INTERNAL_ERROR, "x", 500), 500, "InternalError"),
        (denied(OwnReason.POLICIES_UNREADABLE, "x", 503), 503, "ServiceUnavailable"),
    ],
)
def test_denials_that_no_pod_is_to_blame_for_are_errors_of_the_server(verdict: Verdict, code: int, reason: str) -> None:
    status = answer(READ, verdict)["response"]["status"]
    assert (status["code"], status["reason"]) == (code, reason)


def test_a_patch_is_base64_and_makes_of_the_pod_what_was_decided() -> None:
    policies = read_policies([policy()]).usable
    verdict = judge_by(SETTINGS)(pod(), policies)
    response = answer(READ, verdict)
    assert (response["apiVersion"], response["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert (response["response"]["allowed"], response["response"]["patchType"]) == (True, "JSONPatch")
    patched = jsonpatch.apply_patch(pod(), json.loads(base64.b64decode(response["response"]["patch"])))
    assert patched["spec"]["initContainers"][0]["name"] == "fairqueue-proxy"


def test_without_a_patch_no_type_of_one_is_named() -> None:
    assert answer(READ, Verdict(Reason.NOT_ASKED))["response"] == {"uid": READ.uid, "allowed": True}


def test_warnings_are_lines_that_the_api_server_does_not_cut() -> None:
    warnings = (Warning("A", "short\n"), Warning("B", "x" * 300))
    found = answer(READ, Verdict(Reason.INJECTED, warnings=warnings))["response"]["warnings"]
    assert found == ["short\\n", "x" * 255 + "…"]


def test_warnings_of_the_injection_are_named() -> None:
    verdict = verdict_of(Decision(Reason.INJECTED, warnings=(Warned(Reason.OWN_PRE_STOP, "container vllm"),)))
    (warning,) = verdict.warnings
    assert warning.event_reason == "OwnPreStop"
    assert warning.text.startswith("own_pre_stop: The engine has a preStop hook")
    assert warning.text.endswith("(container vllm)")


def test_a_pod_that_is_let_in_without_a_policy_is_reported() -> None:
    verdict = judge_by(SETTINGS)(pod(annotations={"fairqueue.dev/on-missing-policy": "Allow"}), [])
    assert not verdict.is_denied
    assert [warning.event_reason for warning in verdict.warnings] == ["MissingPolicyAllowed"]


def test_every_decision_has_a_place_in_the_metric() -> None:
    assert {"injected", "not_asked", "missing_policy", "internal_error", "not_a_new_pod"} <= set(DECISIONS)
    assert len(DECISIONS) == len(set(DECISIONS))
    assert "own_pre_stop" not in DECISIONS
