"""Each golden case: decided as its files say, valid for Kubernetes, and all that holds for every injected pod."""

import kubernetes_validate
import pytest

from fairqueue_api import PolicyError, check_policy
from fairqueue_operator.injection import Outcome, Reason
from injection.golden_files import GOLDEN, Case, cases, patched, read_yaml
from injection.invariants import check_engine, check_injected

CASES = list(cases())
INJECTED = [case for case in CASES if (case.folder / "injected.yaml").exists()]
HOW_TO_WRITE = "python tests/injection/golden_files.py writes it anew"


def named(case: Case) -> str:
    return case.folder.name


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_pod_is_decided_on_as_its_golden_files_say(case: Case) -> None:
    for name, text in case.files().items():
        assert (case.folder / name).read_text() == text, HOW_TO_WRITE


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_golden_folder_has_the_files_of_its_decision_and_no_others(case: Case) -> None:
    written_by_hand = {"pod.yaml", "policies.yaml"}
    found = {file.name for file in case.folder.iterdir()} - {"settings.yaml"}
    assert found == written_by_hand | set(case.files()), HOW_TO_WRITE


@pytest.mark.parametrize("case", INJECTED, ids=named)
def test_the_patch_gives_the_golden_pod_which_kubernetes_takes(case: Case) -> None:
    (golden,) = read_yaml(case.folder / "injected.yaml")
    assert patched(case.pod, case.decision()) == golden
    kubernetes_validate.validate(golden, "1.36", strict=True)


@pytest.mark.parametrize("case", INJECTED, ids=named)
def test_what_holds_for_every_injected_pod_holds_for_the_golden_one(case: Case) -> None:
    decision = case.decision()
    if decision.reason is not Reason.INJECTED:
        return
    (policy,) = (policy for policy in case.policies if policy.metadata.name == decision.policy)
    check_injected(case.pod, decision, policy, case.settings)
    kind, mode = policy.spec.engine.kind, policy.spec.injection.mode
    shell = any("shell" in part for part in named(case).split("-"))
    if mode == "PortTakeover" and kind != "OpenAI" and not shell:
        check_engine(patched(case.pod, decision), kind)


def test_every_reason_has_a_golden_case() -> None:
    decisions = [case.decision() for case in CASES]
    seen = {decision.reason for decision in decisions}
    seen |= {warned.reason for decision in decisions for warned in decision.warnings}
    assert seen == set(Reason)


def test_the_policies_of_golden_cases_are_sound_but_for_the_one_that_must_not_be() -> None:
    for case in CASES:
        for resource in case.policy_resources:
            if named(case) == "bad-policy":
                with pytest.raises(PolicyError):
                    check_policy(resource, named(case))
            else:
                check_policy(resource, named(case))


def test_golden_cases_are_enough_to_be_called_so() -> None:
    assert len(CASES) >= 35
    assert all(folder.is_dir() for folder in GOLDEN.iterdir())
    assert {case.decision().reason.outcome for case in CASES} == set(Outcome) - {Outcome.WARNING}
