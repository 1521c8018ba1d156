"""Around the injection: who is asked, what is said, what is done twice, and what goes wrong by name."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairqueue_operator.injection import InjectionSettings, Outcome, Reason, decide
from injection.golden_files import GOLDEN, SETTINGS, Case, cases, patched
from injection.making import decided, injected, made_pod, made_policy

ENGINE = {"args": ["--model", "a/b"]}


@pytest.mark.parametrize("value", ["false", "True", "yes", ""])
def test_only_true_asks(value: str) -> None:
    pod = made_pod(ENGINE)
    pod["metadata"]["labels"]["fairqueue.dev/inject"] = value
    assert decide(pod, [made_policy()], SETTINGS).reason is Reason.NOT_ASKED


@pytest.mark.parametrize("pod", [{}, {"metadata": None}, {"metadata": {"labels": ["app"]}}, {"metadata": []}])
def test_what_has_no_labels_does_not_ask(pod: dict[str, object]) -> None:
    assert decide(pod, [made_policy()], SETTINGS).reason is Reason.NOT_ASKED


@pytest.mark.parametrize(
    ("spec", "detail"),
    [
        (None, "spec is missing"),
        ([], "spec must be an object"),
        ({}, "spec.containers is missing"),
        ({"containers": []}, "spec.containers is empty"),
        ({"containers": [{}]}, "spec.containers[0].name is missing"),
        ({"containers": [{"name": "a", "args": ["x", 1]}]}, "spec.containers[0].args[1] must be a string"),
        ({"containers": [{"name": "a"}], "hostNetwork": 1}, "spec.hostNetwork must be true or false"),
        (
            {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": True},
            "spec.terminationGracePeriodSeconds must be a whole number",
        ),
        (
            {"containers": [{"name": "a", "readinessProbe": {"tcpSocket": {"port": 1.5}}}]},
            "spec.containers[0].readinessProbe.tcpSocket.port must be a whole number or a string",
        ),
    ],
)
def test_a_pod_of_the_wrong_shape_is_denied_with_the_place(spec: object, detail: str) -> None:
    pod = {**made_pod(ENGINE), "spec": spec}
    decision = decide(pod, [made_policy()], SETTINGS)
    assert (decision.reason, decision.detail) == (Reason.BAD_POD, detail)


def test_a_duration_that_the_crd_would_refuse_is_denied_by_name() -> None:
    decision = decided(ENGINE, made_policy(drain={"timeout": "soon"}))
    assert decision.reason is Reason.BAD_POLICY
    assert decision.detail.startswith("spec.drain.timeout is not a duration")


@pytest.mark.parametrize("port", [9820, 9821])
def test_an_engine_on_one_of_the_proxys_own_ports_is_denied(port: int) -> None:
    decision = decided({"args": ["--port", str(port)]}, made_policy())
    assert decision.reason is Reason.PORT_TAKEN
    assert str(port) in decision.message


def test_a_pod_without_a_port_left_is_denied() -> None:
    busy = {"ports": [{"containerPort": port} for port in (*range(61_000, 65_536), 18_000)]}
    policy = made_policy(engine={"container": "c0"})
    assert decide(made_pod(ENGINE, busy), [policy], SETTINGS).reason is Reason.PORT_TAKEN


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.folder.name)
def test_a_denial_and_nothing_else_is_not_allowed(case: Case) -> None:
    decision = case.decision()
    assert decision.allowed == (decision.reason.outcome is not Outcome.DENIED)
    assert decision.message.startswith(f"{decision.reason.value}: ")


def test_a_pod_is_not_changed_in_place() -> None:
    for case in cases():
        pod = case.pod
        decide(pod, case.policies, case.settings)
        assert pod == case.pod


def test_disabled_says_so_once() -> None:
    policy = made_policy(injection={"mode": "Disabled"})
    decision = decide(made_pod(ENGINE), [policy], SETTINGS)
    after = patched(made_pod(ENGINE), decision)
    assert json.loads(after["metadata"]["annotations"]["fairqueue.dev/status"])["mode"] == "Disabled"
    assert decide(after, [policy], SETTINGS).patch == ()


def test_a_container_of_our_name_is_ours_only_with_our_annotation_and_among_the_sidecars() -> None:
    after = injected(made_pod(ENGINE), made_policy())
    for annotation in ("{}", "[]", "not JSON", '{"mode": "Disabled"}'):
        after["metadata"]["annotations"]["fairqueue.dev/status"] = annotation
        assert decide(after, [made_policy()], SETTINGS).reason is Reason.NAME_TAKEN
    pod = made_pod(ENGINE, {"name": "fairqueue-proxy"}, annotations={"fairqueue.dev/status": '{"hash": "1"}'})
    assert decide(pod, [made_policy()], SETTINGS).reason is Reason.NAME_TAKEN


def test_a_copied_status_without_the_container_is_written_anew() -> None:
    after = injected(made_pod(ENGINE, annotations={"fairqueue.dev/status": '{"hash": "1"}'}), made_policy())
    assert json.loads(after["metadata"]["annotations"]["fairqueue.dev/status"])["policy"] == "shared"


def test_the_hash_changes_with_what_is_injected_and_with_nothing_else() -> None:
    def spec_hash(settings: InjectionSettings = SETTINGS, **pod: Any) -> str:
        before = made_pod(ENGINE, **pod)
        status = patched(before, decide(before, [made_policy()], settings))["metadata"]["annotations"]
        found = json.loads(status["fairqueue.dev/status"])["hash"]
        assert isinstance(found, str)
        return found

    assert spec_hash() == spec_hash(nodeName="a") == spec_hash(replace(SETTINGS, version="0.2.0"))
    assert spec_hash() != spec_hash(replace(SETTINGS, image="fairqueue/proxy:0.2.0"))
    assert spec_hash() != spec_hash(terminationGracePeriodSeconds=600)


def test_policies_of_other_namespaces_are_passed_over_where_the_pod_says_its_own() -> None:
    pod = made_pod(ENGINE)
    assert decide(pod, [made_policy()], SETTINGS).reason is Reason.INJECTED
    pod["metadata"]["namespace"] = "models"
    assert decide(pod, [made_policy()], SETTINGS).reason is Reason.MISSING_POLICY


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_says_what_to_do_in_a_sentence_and_has_the_name_of_an_event(reason: Reason) -> None:
    assert reason.sentence[0].isupper()
    assert reason.sentence.endswith(".")
    assert reason.event_reason.isalpha()
    assert reason.event_reason[0].isupper()
    # Denials say what to do behind a colon.
    assert (": " in reason.sentence.replace("fairqueue.dev/inject: ", "")) or reason.outcome is not Outcome.DENIED


def test_the_patch_does_not_depend_on_the_process() -> None:
    code = (
        "import sys, json; sys.path.insert(0, 'tests')\n"
        "from injection.golden_files import Case, GOLDEN\n"
        "print(json.dumps(Case(GOLDEN / 'named-target-ports').decision().patch))"
    )
    root = GOLDEN.parents[2]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {json.dumps(Case(GOLDEN / "named-target-ports").decision().patch).encode() + b"\n"}


def test_a_disabled_policys_pod_says_so_as_the_second_lock_looks_for_it() -> None:
    pod = made_pod({"image": "engine"})
    decision = decide(pod, [made_policy(injection={"mode": "Disabled"})], SETTINGS)
    assert decision.allowed
    after = patched(pod, decision)
    assert isinstance(after, dict)
    lock = (Path(__file__).parents[2] / "manifests" / "base" / "injector" / "second-lock.yaml").read_text()
    words = re.findall(r"contains\('(.*?)'\)", lock)
    assert words == ['"mode":"Disabled"']
    assert words[0] in after["metadata"]["annotations"]["fairqueue.dev/status"]
