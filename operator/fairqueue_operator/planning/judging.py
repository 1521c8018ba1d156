"""Whether a policy can be in force, and with which document: the condition Accepted, and what is to be stored.

A policy that cannot be in force leaves its last document in force, but for keys that are not there any more: people
revoke a key by deleting it, and must not have to mend a policy first. That a Secret could not be read is no such
deletion.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fairqueue_api import (
    Document,
    DocumentError,
    FairnessPolicy,
    Problem,
    SecretError,
    parse_document,
    policy_warnings,
    render,
)
from fairqueue_api.errors import NOT_SUPPORTED_YET
from fairqueue_api.revoking import revoke

from ..injection.names import secret_name
from ..policy_cache import InvalidPolicy
from .pod_facts import PodFacts
from .policy_facts import PolicyFacts
from .secrets_view import API_KEYS_LABEL, ENGINE_KEY_LABEL, Denied, LabelledKeys, Open, SecretsView, Unknown
from .verdicts import Verdict, verdict

_NO_SECRETS = Open({})


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a policy comes to, as things are."""

    accepted: Verdict
    document: str | None = field(repr=False)
    """What the stored document must be; None: what it is now, or none. It may hold the engine's key in clear."""
    revision: str
    """Of the document that must be stored then; empty if there is none."""
    tenants: int | None
    """How many the policy has, if that can be read."""


def judge(
    policy: PolicyFacts,
    rivals: Iterable[PolicyFacts],
    pods: Iterable[PodFacts],
    secrets: SecretsView,
    stored: str | None,
) -> Judgement:
    """`rivals` are the policies of the namespace (`policy` may be among them) and `pods` those that `policy` selects;
    others are passed over. `stored` is the document that is stored now.

    A verdict that is Unknown says only that the operator has just started: where the policy has a status already,
    that is worth more.
    """
    outcome = _outcome(policy, rivals, pods, secrets)
    tenants = None if isinstance(policy.parsed, InvalidPolicy) else len(policy.parsed.spec.tenants)
    if isinstance(outcome, Document):
        accepted = verdict("True", "Accepted", _accepted_message(policy))
        return Judgement(accepted, outcome.to_json().decode(), outcome.revision, tenants)
    document, revision = _left_in_force(stored, secrets)
    return Judgement(outcome, document, revision, tenants)


def access_denied(namespace: str, because: str) -> Verdict:
    """The operator may not read, or not write, the namespace's Secrets; `because` is what the API server said."""
    message = (
        f"The operator has no right to the Secrets of namespace {namespace} ({because}): "
        f"kubectl apply -k manifests/overlays/tenant-namespace -n {namespace}"
    )
    return verdict("False", "SecretAccessDenied", message)


def not_written(namespace: str, because: str) -> Verdict:
    """The document could not be stored, or what is stored not be read; `because` is what the API server said."""
    message = (
        f"The document could not be read or written: {because}. What may refuse it: a ResourceQuota, an admission "
        f"policy, a namespace that is ending (kubectl -n {namespace} describe quota), or a grant without create and "
        f"patch: kubectl apply -k manifests/overlays/tenant-namespace -n {namespace}"
    )
    return verdict("False", "DocumentNotWritten", message)


def name_taken(namespace: str, policy: str) -> Verdict:
    """There is a Secret where the document would be stored, and it is not fairqueue's."""
    name = secret_name(policy)
    message = (
        f"Secret {name}, which would hold the document, is there and is not fairqueue's: delete it, or, if it was made "
        f"for this: kubectl -n {namespace} label secret {name} app.kubernetes.io/managed-by=fairqueue"
    )
    return verdict("False", "NameTaken", message)


def secrets_being_read(namespace: str) -> Verdict:
    """The operator has just started."""
    return verdict("Unknown", "Pending", f"The Secrets of namespace {namespace} are being read.")


def _outcome(
    policy: PolicyFacts, rivals: Iterable[PolicyFacts], pods: Iterable[PodFacts], secrets: SecretsView
) -> Document | Verdict:
    """The policy's document, or what keeps it from being in force."""
    if policy.problems or isinstance(policy.parsed, InvalidPolicy):
        unsupported = all(NOT_SUPPORTED_YET in problem.what for problem in policy.problems)
        return verdict("False", "NotSupported" if unsupported else "Invalid", _text(policy, policy.problems))
    return _conflict(policy, rivals, pods) or _rendered(policy, policy.parsed, secrets)


def _conflict(policy: PolicyFacts, rivals: Iterable[PolicyFacts], pods: Iterable[PodFacts]) -> Verdict | None:
    """An older policy selects a pod that does not say whose it is: the injector would deny such a pod."""
    older = sorted(
        (rival for rival in rivals if rival.namespace == policy.namespace and rival.is_older_than(policy)),
        key=lambda rival: (rival.created, rival.name),
    )
    if not older:
        return None
    for pod in sorted(pods, key=lambda pod: pod.name):
        if pod.namespace != policy.namespace or not pod.asks or pod.policy_label or not policy.selects(pod.labels):
            continue
        other = next((rival for rival in older if rival.selects(pod.labels)), None)
        if other is not None:
            message = (
                f"Policy {other.name}, which is older, selects pod {pod.name} too: write fairqueue.dev/policy: "
                f"{policy.name} or {other.name} into the labels of the pod template, or narrow a selector: "
                f"kubectl -n {policy.namespace} edit fpol {policy.name}"
            )
            return verdict("False", "Conflicted", message)
    return None


def _rendered(policy: PolicyFacts, parsed: FairnessPolicy, secrets: SecretsView) -> Document | Verdict:
    client_keys, engine_keys = _wanted(parsed)
    if not client_keys and not engine_keys:
        secrets = _NO_SECRETS
    if isinstance(secrets, Unknown):
        return secrets_being_read(policy.namespace)
    if isinstance(secrets, Denied):
        return access_denied(policy.namespace, secrets.because)
    clients = LabelledKeys(policy.namespace, secrets, API_KEYS_LABEL, client_keys)
    engines = LabelledKeys(policy.namespace, secrets, ENGINE_KEY_LABEL, engine_keys)
    try:
        return render(parsed, clients, engines)
    except SecretError as error:
        return verdict("False", "UnresolvedSecret", _text(policy, error.problems))


def _wanted(parsed: FairnessPolicy) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
    """The entries that the policy names, by Secret: those of clients, and the engine's."""
    client_keys: dict[str, list[str]] = {}
    for tenant in parsed.spec.tenants:
        for ref in tenant.api_key_secret_refs:
            client_keys.setdefault(ref.name, []).append(ref.key)
    engine = parsed.spec.engine.api_key_secret_ref
    return client_keys, {} if engine is None else {engine.name: [engine.key]}


def _left_in_force(stored: str | None, secrets: SecretsView) -> tuple[str | None, str]:
    """The document to be stored in place of `stored` if keys are gone, and the revision that then is in force."""
    if stored is None:
        return None, ""
    try:
        before = stored.encode()
        after = revoke(before, secrets.client_digests) if isinstance(secrets, Open) else before
        revision = parse_document(after).document.revision
    except DocumentError:
        # Not even a proxy can read it.
        return None, ""
    return None if after == before else after.decode(), revision


def _accepted_message(policy: PolicyFacts) -> str:
    doubts = [] if isinstance(policy.parsed, InvalidPolicy) else policy_warnings(policy.parsed)
    return " ".join(["The policy and its keys are in order.", *([f"But {_text(policy, doubts)}"] if doubts else [])])


def _text(policy: PolicyFacts, problems: Iterable[Problem]) -> str:
    """All problems, each once: a Secret that is not there is one, however many of its keys are wanted."""
    texts: dict[tuple[str, str, str], str] = {}
    for problem in problems:
        if problem.source == f"policy {policy.full_name}":
            problem = replace(problem, source="")
        texts.setdefault((problem.source, problem.path, problem.what), str(problem))
    return "; ".join(texts.values())
