"""Checks of the policies: accepted, and in force in their pods. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from fairqueue_api import FairnessPolicy
from fairqueue_cli.check_lines import SYSTEM, Line, failed, passed, warning
from fairqueue_cli.check_rights import granting
from fairqueue_cli.status_policies import ConditionView, Policy
from fairqueue_operator.injection.names import INJECT_LABEL
from fairqueue_operator.selector_query import query_of

_OPERATOR_LOGS: Final = f"kubectl -n {SYSTEM} logs deployment/fairqueue-operator"


def judge_policies(policies: Sequence[Policy]) -> Iterator[Line]:
    """A line for each that is not as it should be, and one for all others."""
    if not policies:
        yield passed("there are no policies")
        return
    good = 0
    for policy in policies:
        lines = list(_judge(policy))
        good += not lines
        yield from lines
        yield from _hints(policy)
    if good:
        yield passed(
            "one policy is accepted and in force" if good == 1 else f"{good} policies are accepted and in force"
        )


def _judge(policy: Policy) -> Iterator[Line]:
    accepted, programmed = policy.condition("Accepted"), policy.condition("Programmed")
    if not policy.is_observed:
        text = f"{policy.key}: the operator has not looked at it as it is now; is it running?"
        yield failed(text, f"kubectl -n {SYSTEM} rollout status deployment/fairqueue-operator --timeout=60s")
    elif accepted.status == "Unknown":
        yield warning(f"{policy.key} is not judged yet: {_said(accepted)}", _OPERATOR_LOGS)
    elif accepted.status == "False":
        yield failed(f"{policy.key} is not accepted: {_said(accepted)}", _mend_of_policy(policy, accepted.reason))
    elif programmed.status != "True":
        text = f"{policy.key} is not in force in all its pods: {_said(programmed)}"
        if programmed.reason == "NoMatchingPods":
            yield warning(text, f"kubectl -n {policy.namespace} get pods{_selected(policy)} --show-labels")
        elif programmed.reason == "DocumentNotWritten":
            yield failed(text, f"kubectl -n {policy.namespace} describe resourcequotas")
        else:
            yield failed(text, f"fairqueue status -n {policy.namespace}")


def _hints(policy: Policy) -> Iterator[Line]:
    if count := policy.counts.get("unlabelled"):
        pods = "one pod that matches does" if count == 1 else f"{count} pods that match do"
        text = f'{policy.key}: {pods} not ask for the proxy: the label {INJECT_LABEL}: "true" on their template does'
        yield warning(text, f"kubectl -n {policy.namespace} get pods{_selected(policy, f'{INJECT_LABEL}!=true')}")


def _mend_of_policy(policy: Policy, reason: str) -> str:
    if reason == "SecretAccessDenied":
        return granting(policy.namespace)
    if reason == "UnresolvedSecret":
        return f"kubectl -n {policy.namespace} get secrets -l 'fairqueue.dev/api-keys' --show-labels"
    return f"kubectl -n {policy.namespace} edit fairnesspolicy {policy.name}"


def _selected(policy: Policy, *more: str) -> str:
    own = query_of(policy.parsed.spec.selector) if isinstance(policy.parsed, FairnessPolicy) else ""
    conditions = ",".join(filter(None, [own, *more]))
    return f" -l '{conditions}'" if conditions else ""


def _said(condition: ConditionView) -> str:
    return f"{condition.reason}: {condition.message}" if condition.message else condition.reason or condition.status
