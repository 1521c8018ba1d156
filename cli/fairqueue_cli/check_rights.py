"""Checks of what fairqueue's ServiceAccounts may do, as the API server's authorizer says. Pure.

The lists are the manifests' own (`manifests/base/*/rights.yaml`, `manifests/overlays/tenant-namespace`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fairqueue_cli.check_lines import INSTALL, SYSTEM, Line, Mark, failed, passed, shown, warning
from fairqueue_cli.kubernetes_unknown import Unknown

OPERATOR: Final = "fairqueue-operator"
INJECTOR: Final = "fairqueue-injector"
REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a resource; in all namespaces if `namespace` is empty."""

    account: str
    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""

    def review(self) -> dict[str, Any]:
        """The SubjectAccessReview that asks for it."""
        resource, _, subresource = self.resource.partition("/")
        asked = {
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": self.namespace,
            "name": self.name,
        }
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{SYSTEM}:{self.account}",
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"],
                "resourceAttributes": {name: value for name, value in asked.items() if value},
            },
        }

    @property
    def what(self) -> str:
        """The resource, as `kubectl auth can-i` takes it."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{resource}/{self.name}" if self.name else resource


def _each(account: str, verbs: str, resource: str, group: str = "", namespace: str = "", name: str = "") -> list[Right]:
    return [Right(account, verb, resource, group, namespace, name) for verb in verbs.split()]


CLUSTER_RIGHTS: Final[Mapping[str, tuple[Right, ...]]] = {
    OPERATOR: (
        *_each(OPERATOR, "list watch", "fairnesspolicies", "fairqueue.dev"),
        *_each(OPERATOR, "patch", "fairnesspolicies/status", "fairqueue.dev"),
        *_each(OPERATOR, "list patch watch", "pods"),
        *_each(OPERATOR, "create", "events", "events.k8s.io"),
        *_each(OPERATOR, "get update", "leases", "coordination.k8s.io", SYSTEM, OPERATOR),
        *_each(OPERATOR, "create", "leases", "coordination.k8s.io", SYSTEM),
    ),
    # With cert-manager it has, and needs, no more; what it needs without is checked by the certificates themselves.
    INJECTOR: (
        *_each(INJECTOR, "list watch", "fairnesspolicies", "fairqueue.dev"),
        *_each(INJECTOR, "list", "pods"),
        *_each(INJECTOR, "create", "events", "events.k8s.io"),
    ),
}


def grant(namespace: str) -> tuple[Right, ...]:
    """What whoever runs a namespace gives the operator there."""
    return tuple(_each(OPERATOR, "create get list patch watch", "secrets", "", namespace))


def granting(namespace: str) -> str:
    """The command that gives it."""
    return f"kubectl apply -k manifests/overlays/tenant-namespace -n {namespace}"


Answers = Mapping[Right, bool | Unknown]


def judge_account(account: str, rights: Sequence[Right], answers: Answers) -> Line:
    """What it must be able to do everywhere."""
    return _judge(f"{account} may do what it must", account, rights, answers, INSTALL)


def judge_grants(namespaces: Sequence[str], answers: Answers) -> Iterator[Line]:
    """Secrets, namespace by namespace; the good ones in one line."""
    good = []
    for namespace in namespaces:
        what = f"{OPERATOR} may read and write Secrets in {namespace}"
        line = _judge(what, f"in {namespace} {OPERATOR}", grant(namespace), answers, granting(namespace))
        if line.mark is Mark.PASSED:
            good.append(namespace)
        else:
            yield line
    if good:
        yield passed(f"{OPERATOR} may read and write Secrets in {shown(good)}")


def _judge(all_is_well: str, who: str, rights: Sequence[Right], answers: Answers, mend: str) -> Line:
    missing: dict[str, list[str]] = {}
    for right in rights:
        if answers[right] is False:
            missing.setdefault(right.what, []).append(right.verb)
    if missing:
        return failed(f"{who} may not {'; '.join(f'{_listed(verbs)} {what}' for what, verbs in missing.items())}", mend)
    unknown = next((answer for right in rights if isinstance(answer := answers[right], Unknown)), None)
    if unknown is not None:
        account = f"system:serviceaccount:{SYSTEM}:{rights[0].account}"
        place = f" -n {rights[0].namespace}" if rights[0].namespace else ""
        return warning(
            f"not known whether {all_is_well}: {unknown.because}", f"kubectl auth can-i --list{place} --as={account}"
        )
    return passed(all_is_well)


def _listed(verbs: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(verbs[:-1]), verbs[-1]]))
