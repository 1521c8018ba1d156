"""The ValidatingAdmissionPolicy that holds the operator to one annotation of pods, evaluated as the API server does."""

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import yaml
from cel_expr_python import cel
from cel_expr_python.ext.ext_optional import ExtOptional

from injection.golden_files import GOLDEN
from manifests.reading import Json, objects_of, one

BASE = objects_of("base")
POLICY = one("ValidatingAdmissionPolicy", "fairqueue-nudge-only", BASE)["spec"]
BINDING = one("ValidatingAdmissionPolicyBinding", "fairqueue-nudge-only", BASE)["spec"]
NUDGE = "fairqueue.dev/config-nudge"
POD: Json = {
    "metadata": {
        "name": "llm",
        "labels": {"app": "llm"},
        "annotations": {"team": "search", NUDGE: "0123456789ab.1"},
        "finalizers": ["example.org/kept"],
        "ownerReferences": [{"kind": "ReplicaSet", "name": "llm", "uid": "1"}],
    },
    "spec": {"containers": [{"name": "engine", "image": "engine:1"}]},
}


@cache
def compiled(expression: str) -> Any:
    names = ["object", "oldObject", "request", "variables"]
    environment = cel.NewEnv(variables={name: cel.Type.DYN for name in names}, extensions=[ExtOptional()])
    return environment.compile(expression)


def value(expression: str, **data: Any) -> Any:
    return compiled(expression).eval(data=data).plain_value()


def allowed(before: Json, after: Json) -> bool:
    data: Json = {"object": after, "oldObject": before}
    variables = {each["name"]: value(each["expression"], **data) for each in POLICY["variables"]}
    verdicts = [value(each["expression"], **data, variables=variables) for each in POLICY["validations"]]
    assert all(isinstance(verdict, bool) for verdict in verdicts)
    return all(verdicts)


def changed(**parts: Any) -> Json:
    """The pod with parts of its metadata, or its spec, in place of its own; None takes one away."""
    after = deepcopy(POD)
    for name, part in parts.items():
        place = after if name == "spec" else after["metadata"]
        if part is None:
            del place[name]
        else:
            place[name] = part
    return after


ANNOTATIONS = POD["metadata"]["annotations"]


@pytest.mark.parametrize(
    "after",
    [
        changed(annotations={**ANNOTATIONS, NUDGE: "0123456789ab.2"}),
        changed(annotations={"team": "search"}),
        POD,
        # What the API server itself writes, and nobody can send.
        changed(managedFields=[{"manager": "operator"}], resourceVersion="2"),
    ],
    ids=["another nudge", "none any more", "nothing", "book-keeping"],
)
def test_the_nudge_may_change(after: Json) -> None:
    assert allowed(POD, after)


def test_a_pod_without_labels_annotations_and_owners_can_be_nudged() -> None:
    bare = {"metadata": {"name": "llm"}, "spec": POD["spec"]}
    assert allowed(bare, {"metadata": {"name": "llm", "annotations": {NUDGE: "a.1"}}, "spec": POD["spec"]})
    assert not allowed(bare, {"metadata": {"name": "llm", "annotations": {"team": "a"}}, "spec": POD["spec"]})
    assert not allowed(bare, {"metadata": {"name": "llm", "labels": {}}, "spec": POD["spec"]})


@pytest.mark.parametrize(
    "after",
    [
        changed(spec={"containers": [{"name": "engine", "image": "mine:1"}]}),
        changed(spec={**POD["spec"], "activeDeadlineSeconds": 1}),
        changed(labels={"app": "other"}),
        changed(labels={"app": "llm", "more": "1"}),
        changed(labels=None),
        changed(annotations={**ANNOTATIONS, "more": "1"}),
        changed(annotations={**ANNOTATIONS, "team": "chat"}),
        changed(annotations={NUDGE: "0123456789ab.2"}),
        changed(annotations={**ANNOTATIONS, NUDGE: "0123456789ab.2", "fairqueue.dev/bound-policy": "other"}),
        changed(annotations=None),
        changed(finalizers=[]),
        changed(finalizers=None),
        changed(ownerReferences=[]),
        changed(ownerReferences=None),
    ],
)
def test_nothing_else_may(after: Json) -> None:
    assert not allowed(POD, after)


def test_every_injected_pod_of_the_golden_files_can_be_nudged() -> None:
    for file in GOLDEN.glob("*/injected.yaml"):
        pod = yaml.safe_load(file.read_text())
        after = deepcopy(pod)
        after["metadata"]["annotations"][NUDGE] = "0123456789ab.1"
        assert allowed(pod, after), file
        after["metadata"]["annotations"]["fairqueue.dev/status"] = "{}"
        assert not allowed(pod, after), file


@pytest.mark.parametrize(
    ("user", "held"),
    [
        ("system:serviceaccount:fairqueue-system:fairqueue-operator", True),
        ("system:serviceaccount:fairqueue-system:fairqueue-injector", False),
        ("system:serviceaccount:team:fairqueue-operator", True),
        ("system:serviceaccount:team:my-fairqueue-operator", False),
        ("system:serviceaccount:fairqueue-operator:default", False),
        ("oidc:fairqueue-operator", False),
        ("system:node:a", False),
        ("admin", False),
    ],
)
def test_it_is_for_the_operators_account_in_whichever_namespace_and_nobody_else(user: str, held: bool) -> None:
    """A kustomization's `namespace` changes where the account is, and nothing in here."""
    verdicts = [
        value(each["expression"], request={"userInfo": {"username": user}}) for each in POLICY["matchConditions"]
    ]
    assert all(verdicts) is held


def test_the_account_that_the_operator_runs_by_is_one_of_those() -> None:
    """By name, which is all that there is to go by."""
    pod = one("Deployment", "fairqueue-operator", BASE)["spec"]["template"]["spec"]
    account = one("ServiceAccount", pod["serviceAccountName"], BASE)["metadata"]
    user = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    (condition,) = POLICY["matchConditions"]
    assert value(condition["expression"], request={"userInfo": {"username": user}})
    assert account["namespace"] not in condition["expression"]


def test_it_denies_each_change_of_a_pod_and_whatever_it_cannot_judge() -> None:
    (rule,) = POLICY["matchConstraints"]["resourceRules"]
    assert (rule["apiGroups"], rule["resources"], rule["operations"]) == ([""], ["pods"], ["UPDATE"])
    assert set(POLICY["matchConstraints"]) == {"resourceRules"}
    assert POLICY["failurePolicy"] == "Fail"
    assert BINDING == {"policyName": "fairqueue-nudge-only", "validationActions": ["Deny"]}
