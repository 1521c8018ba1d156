"""Checks of the admission webhook: configured, trusted, and answering when a pod that asks for the proxy is made. Pure.

The last is found out by a dry run of such a pod, in a namespace where it can only be denied or injected.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from fairqueue_cli.check_lines import INSTALL, SYSTEM, Line, failed, passed, warning
from fairqueue_cli.kubernetes_json import Resource, objects_at, text_at
from fairqueue_cli.kubernetes_unknown import Unknown
from fairqueue_operator.certificates import is_valid_at, read_bundle
from fairqueue_operator.cluster_model import ClusterError, Forbidden
from fairqueue_operator.injection.names import INJECT_LABEL, PROXY_CONTAINER
from fairqueue_operator.injection.reasons import Reason
from fairqueue_operator.verdict import OwnReason

CONFIGURATION: Final = "fairqueue-injector"
WEBHOOK: Final = "inject.fairqueue.dev"
LOCK: Final = "fairqueue-injected"
NUDGE_LOCK: Final = "fairqueue-nudge-only"
RESTART: Final = f"kubectl -n {SYSTEM} rollout restart deployment/fairqueue-injector"
_LOGS: Final = f"kubectl -n {SYSTEM} logs deployment/fairqueue-injector"
# Certificates are renewed a month before they end.
_SOON: Final = timedelta(days=20)
_DENIED: Final = re.compile(rf'admission webhook "{re.escape(WEBHOOK)}" denied the request: ?(.*)')
_NOT_CALLED: Final = re.compile(rf'failed calling webhook "{re.escape(WEBHOOK)}": ?(.*)')
_LOCKED: Final = re.compile(rf"ValidatingAdmissionPolicy '{LOCK}'[^:]*denied request: ?(.*)")
_OURS: Final = (_DENIED, _NOT_CALLED, _LOCKED)
_DECISIONS: Final = frozenset([*Reason, *OwnReason])


def probe() -> dict[str, Any]:
    """A pod that asks for the proxy, and that Pod Security lets in everywhere. For dry runs only."""
    contained = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "none", "image": "none", "securityContext": contained}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "fairqueue-check-", "labels": {INJECT_LABEL: "true"}},
        "spec": {"containers": [container]},
    }


def denial(message: str) -> str:
    """What fairqueue's webhook or its second lock has against a pod, in the message of an error; empty if it is
    somebody else's."""
    return next((match[1] or match[0] for pattern in _OURS if (match := pattern.search(message))), "")


def judge_configuration(found: Resource | Unknown | None, now: datetime) -> Iterator[Line]:
    """The MutatingWebhookConfiguration, and whom it trusts."""
    if isinstance(found, Unknown):
        yield warning(f"the MutatingWebhookConfiguration {CONFIGURATION} cannot be looked at: {found.because}")
        return
    webhooks = objects_at(found, "webhooks")
    webhook = next((each for each in webhooks if each.get("name") == WEBHOOK), None)
    if webhook is None:
        what = f"the MutatingWebhookConfiguration {CONFIGURATION}"
        yield failed(f"{what} is not there" if found is None else f"{what} has no webhook {WEBHOOK}", INSTALL)
        return
    yield passed(f"the MutatingWebhookConfiguration {CONFIGURATION} is there")
    if webhook.get("failurePolicy") != "Fail":
        text = f"its failurePolicy is {webhook.get('failurePolicy')}: while no injector answers, only the second lock"
        yield warning(f"{text} keeps pods from starting without the proxy", INSTALL)
    yield _bundle(text_at(webhook, "clientConfig", "caBundle"), now)


def judge_certificate(ends: datetime | Unknown | None, now: datetime) -> Line:
    """When the certificate that injectors serve ends; None: they have none."""
    if isinstance(ends, Unknown):
        return warning(f"the injector's certificate cannot be looked at: {ends.because}")
    if ends is None:
        return failed("the injector has no certificate", _LOGS)
    if ends <= now:
        return failed(f"the injector's certificate has ended on {ends:%Y-%m-%d}", RESTART)
    if ends <= now + _SOON:
        return warning(f"the injector's certificate ends on {ends:%Y-%m-%d} and was not renewed", _LOGS)
    return passed(f"the injector's certificate is good until {ends:%Y-%m-%d}")


def judge_probe(outcome: Resource | ClusterError, namespace: str) -> Line:
    """How the dry run of `probe` ended there."""
    if not isinstance(outcome, ClusterError):
        if any(each.get("name") == PROXY_CONTAINER for each in objects_at(outcome, "spec", "initContainers")):
            return passed(f"the webhook answers: a dry run of a pod in {namespace} was injected")
        return failed(f"a pod that asks for the proxy is let into {namespace} without it", INSTALL)
    message = str(outcome)
    if denied := _DENIED.search(message):
        reason = denied[1].partition(":")[0]
        if reason in (OwnReason.POLICIES_UNREADABLE, OwnReason.INTERNAL_ERROR):
            return failed(f"the webhook answers, and cannot decide: {denied[1]}", _LOGS)
        said = reason if reason in _DECISIONS else denied[1]
        return passed(f"the webhook answers: a dry run of a pod in {namespace} was denied ({said})")
    if uncalled := _NOT_CALLED.search(message):
        return failed(f"the API server does not reach the webhook: {uncalled[1]}", *_mend_of_call(uncalled[1]))
    if _LOCKED.search(message):
        return failed("the API server does not call the webhook, only the second lock keeps pods out", INSTALL)
    if isinstance(outcome, Forbidden) and "cannot create resource" in message:
        return warning(f"whether the webhook answers cannot be tried, as you may not create pods in {namespace}")
    return warning(f"whether the webhook answers could not be tried: {message}")


def judge_lock(policy: Resource | Unknown | None, binding: Resource | Unknown | None, name: str, does: str) -> Line:
    """A ValidatingAdmissionPolicy with its binding."""
    for found in (policy, binding):
        if isinstance(found, Unknown):
            return warning(f"the ValidatingAdmissionPolicy {name}, which {does}, cannot be looked at: {found.because}")
    if policy is None:
        return failed(f"the ValidatingAdmissionPolicy {name}, which {does}, is not there", INSTALL)
    actions = binding.get("spec", {}).get("validationActions", ()) if isinstance(binding, dict) else ()
    if "Deny" not in actions:
        return failed(
            f"the ValidatingAdmissionPolicy {name}, which {does}, is bound to nothing or does not deny", INSTALL
        )
    return passed(f"the ValidatingAdmissionPolicy {name} {does}")


def _bundle(text: str, now: datetime) -> Line:
    try:
        certificates = read_bundle(base64.b64decode(text))
    except binascii.Error:
        certificates = ()
    if not certificates:
        return failed(f"the webhook's caBundle {'holds no certificate' if text else 'is empty'}", RESTART, _LOGS)
    ends = max(each.not_valid_after_utc for each in certificates)
    if not any(is_valid_at(each, now) for each in certificates):
        return failed(
            f"the webhook's caBundle holds no certificate that is good now (the last until {ends:%Y-%m-%d})", RESTART
        )
    return passed(f"the webhook's caBundle is good until {ends:%Y-%m-%d}")


def _mend_of_call(reason: str) -> tuple[str, ...]:
    if "x509" in reason or "tls" in reason.lower():
        # The injector compares caBundle and certificate four times a minute, and says in its log what keeps it.
        return RESTART, _LOGS
    if "not found" in reason:
        return (INSTALL,)
    return f"kubectl -n {SYSTEM} get pods,endpointslices", RESTART
