"""What `check` makes of what it is told: parts that do not need a server."""

import base64
import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.kubernetes_objects import condition, crd, failed_create
from cli.kubernetes_server import DENIED
from fairqueue_cli.check_crd import judge_crd
from fairqueue_cli.check_installation import judge_deployment
from fairqueue_cli.check_lines import Group, Line, Mark, failed, passed, shown, warning
from fairqueue_cli.check_report import PLAIN_SIGNS, SIGNS, group_text, is_well, signs_for, verdict_text
from fairqueue_cli.check_rights import CLUSTER_RIGHTS, INJECTOR, OPERATOR, Right, grant, judge_grants
from fairqueue_cli.check_webhook import denial, judge_certificate, judge_configuration, probe
from fairqueue_cli.check_workloads import Controller, lacks_pods, refused_by_events
from fairqueue_cli.kubernetes_unknown import Unknown
from fairqueue_operator.injection import InjectionSettings, decide
from injector.leaves import AUTHORITY
from manifests.reading import objects_of, one

Json = dict[str, Any]
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every value of a schema that is not part of a description."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        if key != "description" or isinstance(value, dict):
            yield (*path, key)
            yield from places(value, (*path, key))


STORED = crd()
SCHEMA = STORED["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
PLACES = sorted(places(SCHEMA), key=str)


def judged(change: Any = None) -> list[Line]:
    stored = copy.deepcopy(STORED)
    if change is not None:
        change(stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    return [*judge_crd(stored)]


@given(st.sampled_from(PLACES))
def test_whatever_is_missing_in_the_schema_is_seen(path: tuple[str | int, ...]) -> None:
    def drop(schema: Any) -> None:
        for key in path[:-1]:
            schema = schema[key]
        del schema[path[-1]]

    assert [line.mark for line in judged(drop)] == [Mark.PASSED, Mark.FAILED]


@given(st.sampled_from([path for path in PLACES if path[-1] == "properties"]))
def test_a_field_that_this_version_does_not_know_is_seen(path: tuple[str | int, ...]) -> None:
    def add(schema: Any) -> None:
        for key in path:
            schema = schema[key]
        schema["fromTheFuture"] = {"type": "string"}

    assert "fromTheFuture" in judged(add)[-1].text


def test_descriptions_make_no_difference_but_a_field_of_that_name_does() -> None:
    def describe(schema: Any) -> None:
        schema["description"] = "anything"
        schema["properties"]["spec"]["properties"]["drain"]["description"] = "else"
        del schema["properties"]["spec"]["properties"]["mode"]["description"]

    def add(schema: Any) -> None:
        schema["properties"]["spec"]["properties"]["description"] = {"type": "string"}

    assert [line.mark for line in judged(describe)] == [Mark.PASSED, Mark.PASSED]
    assert "it differs at spec.description;" in judged(add)[-1].text


def held(account: str) -> set[Right]:
    """What the manifests give an account, but for its own certificates."""
    found = objects_of("overlays/default")
    rules = [(one("ClusterRole", account, found), "")]
    if account == OPERATOR:
        rules.append((one("Role", account, found), "fairqueue-system"))
    return {
        Right(account, verb, resource, group, namespace, name)
        for role, namespace in rules
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


@pytest.mark.parametrize("account", [OPERATOR, INJECTOR])
def test_the_rights_that_are_asked_for_are_those_of_the_manifests(account: str) -> None:
    assert set(CLUSTER_RIGHTS[account]) == held(account)


def test_the_grant_that_is_asked_for_is_that_of_the_overlay() -> None:
    role = one("Role", OPERATOR, objects_of("overlays/tenant-namespace"))
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    assert {right.verb for right in grant("team")} == verbs


def test_a_review_is_of_the_account_and_of_one_right() -> None:
    spec = Right(OPERATOR, "patch", "fairnesspolicies/status", "fairqueue.dev").review()["spec"]
    assert spec["user"] == "system:serviceaccount:fairqueue-system:fairqueue-operator"
    assert spec["resourceAttributes"] == {
        "verb": "patch",
        "group": "fairqueue.dev",
        "resource": "fairnesspolicies",
        "subresource": "status",
    }
    (first, *_) = grant("team")
    assert first.review()["spec"]["resourceAttributes"] == {
        "verb": "create",
        "resource": "secrets",
        "namespace": "team",
    }


def test_grants_that_are_there_are_one_line() -> None:
    names = [f"team-{number}" for number in range(5)]
    answers: dict[Right, bool | Unknown] = {right: True for name in names for right in grant(name)}
    assert [line.text for line in judge_grants(names, answers)] == [
        "fairqueue-operator may read and write Secrets in team-0, team-1, team-2 and 2 more"
    ]
    answers[grant("team-3")[0]] = False
    answers[grant("team-4")[1]] = Unknown("no answer")
    lines = [*judge_grants(names, answers)]
    assert [line.mark for line in lines] == [Mark.FAILED, Mark.WARNING, Mark.PASSED]


@pytest.mark.parametrize(
    ("image", "mark", "words"),
    [
        ("fairqueue/operator:1.2.3", Mark.PASSED, "of this command's version, 1.2.3"),
        ("r.example:5000/x/operator:v1.2.3@sha256:0", Mark.PASSED, "of this command's version"),
        ("fairqueue/operator:1.2.4-rc1", Mark.WARNING, "of version 1.2.4-rc1"),
        ("r.example:5000/x/operator", Mark.PASSED, "does not tell"),
        ("fairqueue/operator@sha256:0", Mark.PASSED, "does not tell"),
        ("fairqueue/operator:latest", Mark.PASSED, "does not tell"),
    ],
)
def test_versions_are_compared_where_images_tell_them(image: str, mark: Mark, words: str) -> None:
    deployment = {
        "spec": {
            "template": {
                "spec": {"containers": [{"name": "mesh", "image": "m:9.9.9"}, {"name": "operator", "image": image}]}
            }
        }
    }
    _, line = judge_deployment("fairqueue-operator", deployment, [], "1.2.3")
    assert line.mark is mark
    assert words in line.text


@pytest.mark.parametrize(
    ("pod", "words", "command"),
    [
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            "again and again",
            "logs p --previous",
        ),
        ({"conditions": [condition("PodScheduled", "False", "x", "no node")]}, "p: no node", "describe pod p"),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, "", "logs deployment/d"),
    ],
)
def test_what_pods_say_is_where_to_look(pod: Json, words: str, command: str) -> None:
    (line,) = judge_deployment("d", {"spec": {}}, [{"metadata": {"name": "p"}, "status": pod}], "1")
    assert line.mark is Mark.FAILED
    assert words in line.text
    assert line.mend == (f"kubectl -n fairqueue-system {command}",)


def test_a_deployment_says_itself_why_it_has_no_pods() -> None:
    failure = condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota")
    (line,) = judge_deployment("d", {"spec": {"replicas": 2}, "status": {"conditions": [failure]}}, [], "1")
    assert line.text == "0 of 2 replicas of d are available: exceeded quota"


@pytest.mark.parametrize(
    ("days", "mark"),
    [(-0.001, Mark.FAILED), (0, Mark.FAILED), (0.001, Mark.WARNING), (20, Mark.WARNING), (21, Mark.PASSED)],
)
def test_certificates_are_good_until_they_end(days: float, mark: Mark) -> None:
    assert judge_certificate(NOW + timedelta(days=days), NOW).mark is mark


@pytest.mark.parametrize(
    ("bundle", "words"), [("####", "holds no certificate"), ("", "is empty"), ("AAAA", "holds no")]
)
def test_a_bundle_that_is_none_is_seen(bundle: str, words: str) -> None:
    webhook = {"name": "inject.fairqueue.dev", "failurePolicy": "Fail", "clientConfig": {"caBundle": bundle}}
    assert words in [*judge_configuration({"webhooks": [webhook]}, NOW)][-1].text


def test_a_bundle_that_has_ended_and_a_policy_that_lets_through_are_seen() -> None:
    bundle = base64.b64encode(AUTHORITY.certificate_pem).decode()
    webhook = {"name": "inject.fairqueue.dev", "failurePolicy": "Ignore", "clientConfig": {"caBundle": bundle}}
    lines = [*judge_configuration({"webhooks": [webhook]}, NOW + timedelta(days=9999))]
    assert [line.mark for line in lines] == [Mark.PASSED, Mark.WARNING, Mark.FAILED]
    (line,) = judge_configuration({"webhooks": [{"name": "other"}]}, NOW)
    assert line.text.endswith("has no webhook inject.fairqueue.dev")


def test_the_dry_run_asks_for_the_proxy_and_for_nothing_else() -> None:
    decision = decide(probe(), [], InjectionSettings(image="i", version="1"))
    assert decision.reason == "missing_policy"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (f"Error creating: {DENIED}", "missing_policy: No FairnessPolicy of the namespace selects the pod"),
        ('failed calling webhook "inject.fairqueue.dev": Post: EOF', "Post: EOF"),
        ("ValidatingAdmissionPolicy 'fairqueue-injected' with binding 'fairqueue-injected' denied request: no", "no"),
        ("ValidatingAdmissionPolicy 'fairqueue-injected' denied request: no", "no"),
        ('admission webhook "other.example" denied the request: missing_policy: x', ""),
        ('failed calling webhook "other.example": inject.fairqueue.dev', ""),
        ("ValidatingAdmissionPolicy 'fairqueue-injected-2' denied request: no", ""),
        ("exceeded quota", ""),
        ("", ""),
    ],
)
def test_denials_are_told_from_those_of_others(message: str, said: str) -> None:
    assert denial(message) == said


def test_what_a_controller_was_told_last_counts() -> None:
    ours, first, second = 'failed calling webhook "inject.fairqueue.dev": ', "12:00:01Z", "12:00:02Z"
    events = [
        failed_create("Job", "a", f"{ours}its second", at=f"2026-11-01T{second}"),
        failed_create("Job", "a", f"{ours}the first", at=f"2026-11-01T{first}"),
        failed_create("Job", "b", "exceeded quota"),
        failed_create("Job", "c", "exceeded quota", at=f"2026-11-01T{second}"),
        failed_create("Job", "c", f"{ours}the first", at=f"2026-11-01T{first}"),
    ]
    assert refused_by_events(events) == {Controller("Job", "team", "a"): "its second"}


@pytest.mark.parametrize(
    ("kind", "item", "lacks"),
    [
        ("ReplicaSet", {"spec": {"replicas": 2}, "status": {"replicas": 1}}, True),
        ("ReplicaSet", {"spec": {"replicas": 2}, "status": {"replicas": 2}}, False),
        ("ReplicaSet", {"spec": {"replicas": 0}, "status": {}}, False),
        ("StatefulSet", {"spec": {}, "status": {}}, True),
        ("StatefulSet", {"metadata": {"deletionTimestamp": "x"}, "spec": {}, "status": {}}, False),
        ("DaemonSet", {"status": {"desiredNumberScheduled": 1}}, True),
        ("DaemonSet", {"status": {"desiredNumberScheduled": 1, "currentNumberScheduled": 1}}, False),
        ("Job", {"spec": {}, "status": {}}, True),
        ("Job", {"spec": {"parallelism": 3, "completions": 5}, "status": {"succeeded": 4, "active": 1}}, False),
        ("Job", {"spec": {"parallelism": 3, "completions": 5}, "status": {"succeeded": 1, "active": 1}}, True),
        ("Job", {"spec": {"suspend": True}, "status": {}}, False),
        ("Job", {"spec": {}, "status": {"conditions": [condition("Complete")]}}, False),
        ("Job", {"spec": {}, "status": {"conditions": [condition("Failed")]}}, False),
    ],
)
def test_who_lacks_pods(kind: str, item: Json, lacks: bool) -> None:
    assert lacks_pods(kind, item) == lacks


def test_signs_are_those_that_the_output_can_show() -> None:
    assert signs_for("utf-8", is_terminal=True) is SIGNS
    for encoding, is_terminal in (("utf-8", False), ("ascii", True), ("latin-1", True), (None, True), ("none", True)):
        assert signs_for(encoding, is_terminal=is_terminal) is PLAIN_SIGNS


def test_a_group_is_lines_with_the_commands_below_them() -> None:
    group = Group("things", (passed("one"), warning("two"), failed("three\nlines", "mend a", "mend b")))
    assert group_text(group, SIGNS) == (
        "things\n  ✓ one\n  ‼ two\n  × three\N{REPLACEMENT CHARACTER}lines\n      mend a\n      mend b\n"  # noqa: RUF001
    )


@pytest.mark.parametrize(
    ("lines", "well", "text"),
    [
        ((passed("a"), passed("b")), True, "✓ all 2 checks passed"),
        ((passed("a"), warning("b")), True, "‼ no check failed, 1 of 2 warned"),
        ((failed("a"), warning("b")), False, "× 1 of 2 checks failed"),  # noqa: RUF001
    ],
)
def test_warnings_are_no_failures(lines: tuple[Line, ...], well: bool, text: str) -> None:
    assert is_well([Group("g", lines)]) == well
    assert verdict_text([Group("g", lines)], SIGNS) == text


def test_of_many_names_some_are_shown() -> None:
    assert (shown(["a"]), shown(["a", "b", "c"]), shown(["a", "b", "c", "d"])) == ("a", "a, b, c", "a, b, c and 1 more")
