"""The injector has the rights that it needs, and no others: each is taken away once, and something fails for it."""

import base64
import json
import re
from collections.abc import Callable, Iterator

import pytest

from suite.kubectl import Kubectl, KubectlError, until
from suite.objects import deployment, engine_pod
from suite.place import Place
from suite.pods import is_ready

ACCOUNT = "system:serviceaccount:fairqueue-system:fairqueue-injector"
INJECTOR = "app.kubernetes.io/name=fairqueue-injector"
WEBHOOK, LEAF = "mutatingwebhookconfiguration/fairqueue-injector", "fairqueue-injector-tls"


def may(system: Kubectl, *what: str) -> bool:
    """As the API server sees it."""
    try:
        return system.run("auth", "can-i", *what, f"--as={ACCOUNT}").strip() == "yes"
    except KubectlError as error:
        # It ends so when the answer is no, and prints nothing on standard error.
        if "exit code 1" in str(error) or "Warning" in str(error):
            return False
        raise


def complains(system: Kubectl, words: str) -> None:
    """An injector's log says that it has no right to it."""
    said = [re.compile(f"{words}.*403"), re.compile(f"{words}.*forbidden")]
    until(
        lambda: any(it.search(system.run("logs", "-l", INJECTOR, "--since=30s", "--tail=-1")) for it in said),
        f"a log that says {words}",
        seconds=60,
        every=1,
    )


def restarted(system: Kubectl) -> None:
    system.run("delete", "pods", "-l", INJECTOR, "--grace-period=1")


def no_policies(system: Kubectl, _place: Place) -> None:
    restarted(system)
    complains(system, "policies not followed.*fairnesspolicies")


def no_policies_listed(system: Kubectl, place: Place) -> None:
    no_policies(system, place)
    # Without a list the cache is not filled.
    assert not any(is_ready(pod) for pod in system.all("pods", INJECTOR))


def no_pods(system: Kubectl, _place: Place) -> None:
    restarted(system)
    complains(system, "pods without the proxy cannot be looked for")


def no_events(system: Kubectl, place: Place) -> None:
    place.kubectl.apply(deployment(engine_pod()))
    complains(system, "an Event could not be written")
    assert place.kubectl.events("MissingPolicy") == []


def no_webhook_read(system: Kubectl, _place: Place) -> None:
    complains(system, "GET [^ ]*mutatingwebhookconfigurations")


def no_webhook_written(system: Kubectl, _place: Place) -> None:
    change = [{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]
    system.run("patch", WEBHOOK, "--type=json", "-p", json.dumps(change))
    complains(system, "PATCH [^ ]*mutatingwebhookconfigurations")


def no_secret_read(system: Kubectl, _place: Place) -> None:
    complains(system, "GET [^ ]*secrets")


def no_secret_written(system: Kubectl, _place: Place) -> None:
    change = {"data": {"tls.crt": base64.b64encode(b"nothing").decode()}}
    system.run("patch", "secret", LEAF, "--type=merge", "-p", json.dumps(change))
    complains(system, "PATCH [^ ]*secrets")


def no_secret_created(system: Kubectl, _place: Place) -> None:
    system.delete("secret", LEAF)
    complains(system, "POST [^ ]*secrets")


# Which role, the rule's resource and verb, what fails without it.
RULES: list[tuple[str, str, str, Callable[[Kubectl, Place], None]]] = [
    ("clusterrole/fairqueue-injector", "fairnesspolicies", "list", no_policies_listed),
    ("clusterrole/fairqueue-injector", "fairnesspolicies", "watch", no_policies),
    ("clusterrole/fairqueue-injector", "pods", "list", no_pods),
    ("clusterrole/fairqueue-injector", "events", "create", no_events),
    ("clusterrole/fairqueue-injector-certificates", "mutatingwebhookconfigurations", "get", no_webhook_read),
    ("clusterrole/fairqueue-injector-certificates", "mutatingwebhookconfigurations", "patch", no_webhook_written),
    ("role/fairqueue-injector-certificates", "secrets", "get", no_secret_read),
    ("role/fairqueue-injector-certificates", "secrets", "patch", no_secret_written),
    ("role/fairqueue-injector-certificates", "secrets", "create", no_secret_created),
]


def rules(system: Kubectl, role: str) -> list[dict[str, list[str]]]:
    found: list[dict[str, list[str]]] = json.loads(system.run("get", role, "-o", "json"))["rules"]
    return found


def test_the_rules_are_those_that_are_taken_away_below(system: Kubectl) -> None:
    held = {
        (role, resource, verb)
        for role in {role for role, *_ in RULES}
        for rule in rules(system, role)
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert held == {(role, resource, verb) for role, resource, verb, _ in RULES}


@pytest.mark.parametrize(
    "what",
    [
        ("get", "secrets", "-A"),
        ("list", "secrets", "-n", "fairqueue-system"),
        ("get", "secret/other", "-n", "fairqueue-system"),
        ("create", "secrets", "-n", "default"),
        ("delete", "secret/fairqueue-injector-ca", "-n", "fairqueue-system"),
        ("create", "pods", "-A"),
        ("patch", "pods", "-A"),
        ("get", "configmaps", "-A"),
        ("patch", "fairnesspolicies", "-A"),
        ("patch", "mutatingwebhookconfigurations/other"),
        ("create", "mutatingwebhookconfigurations"),
        ("create", "clusterrolebindings"),
    ],
    ids=" ".join,
)
def test_it_may_nothing_else(system: Kubectl, what: tuple[str, ...]) -> None:
    assert may(system, "list", "pods", "-A")
    assert not may(system, *what)


@pytest.fixture
def mended(system: Kubectl) -> Iterator[None]:
    """Rights and injectors are as they were, afterwards."""
    before = {role: rules(system, role) for role in {role for role, *_ in RULES}}
    yield
    for role, held in before.items():
        patch(system, role, held)
    restarted(system)
    system.run("rollout", "status", "deployment/fairqueue-injector", "--timeout=60s")


def patch(system: Kubectl, role: str, held: list[dict[str, list[str]]]) -> None:
    change = json.dumps([{"op": "replace", "path": "/rules", "value": held}])
    system.run("patch", role, "--type=json", "-p", change)


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize(("role", "resource", "verb", "fails"), RULES, ids=lambda it: str(it).partition("/")[2] or None)
def test_without_a_right_something_fails(
    system: Kubectl, place: Place, role: str, resource: str, verb: str, fails: Callable[[Kubectl, Place], None]
) -> None:
    held = rules(system, role)
    for rule in held:
        if resource in rule["resources"] and verb in rule["verbs"]:
            rule["verbs"].remove(verb)
    patch(system, role, [rule for rule in held if rule["verbs"]])
    fails(system, place)
