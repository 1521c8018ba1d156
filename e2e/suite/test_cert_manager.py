"""`overlays/cert-manager` with the real cert-manager: `make e2e-cert-manager`, as building that takes minutes."""

import base64
import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from cryptography import x509

from cert_manager import INSTALL, definitions
from suite.creating import Admissions, admissions
from suite.installing import OVERLAYS, SYSTEM, install
from suite.kubectl import Kubectl, KubectlError, until
from suite.objects import deployment, engine_pod, pod
from suite.place import Place
from suite.pods import is_injected, is_ready, wait_ready

pytestmark = pytest.mark.skipif(not os.environ.get("E2E_CERT_MANAGER"), reason="`make e2e-cert-manager` runs it")

INJECTOR, INJECTOR_CA = "fairqueue-injector", "fairqueue-injector-ca"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:{INJECTOR}"
AUTHORITY, LEAF = "fairqueue-injector-ca", "fairqueue-injector-tls"
# Kubelets look for a Secret's new content each minute and a half at the latest, injectors every five seconds.
SERVED_WITHIN_SECONDS = 100.0
_SERVED_UNTIL = re.compile(r"^fairqueue_certificate_not_after_seconds (\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def system() -> Iterator[Kubectl]:
    """fairqueue by that overlay and no other: what the default one has more than it must not stay behind."""
    Kubectl().run("delete", "--ignore-not-found", "-k", str(OVERLAYS / "default"))
    install_cert_manager()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("E2E_OVERLAY", "cert-manager")
        yield install()
    if not os.environ.get("E2E_KEEP"):
        Kubectl().run("delete", "-k", str(OVERLAYS / "cert-manager"))
        Kubectl().run("delete", "-f", str(definitions()), "-f", str(INSTALL))


def install_cert_manager() -> None:
    Kubectl().run("apply", "--server-side", "-f", str(definitions()), "-f", str(INSTALL))
    cert_manager = Kubectl("cert-manager")
    for component in ("controller", "cainjector", "webhook"):
        cert_manager.run("rollout", "status", f"deployment/{component}", "--timeout=90s")
    until(lambda: accepts(cert_manager), "cert-manager's own webhook")


def accepts(cert_manager: Kubectl) -> bool:
    issuer = {"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "tried"}}
    cert_manager.dry_run({**issuer, "spec": {"selfSigned": {}}})
    return True


def entry(system: Kubectl, secret: str, name: str) -> bytes:
    return base64.b64decode(system.get("secret", secret)["data"][name])


def bundle(system: Kubectl) -> bytes:
    """What API servers trust."""
    [webhook] = system.get("mutatingwebhookconfiguration", INJECTOR)["webhooks"]
    return base64.b64decode(webhook["clientConfig"].get("caBundle", ""))


def served(system: Kubectl) -> set[float]:
    """When the certificates end that the injectors serve."""
    pods = [it for it in system.all("pods", f"app.kubernetes.io/name={INJECTOR}") if is_ready(it)]
    paths = [f"/api/v1/namespaces/{SYSTEM}/pods/{it['metadata']['name']}:8080/proxy/metrics" for it in pods]
    return {float(found[1]) for path in paths if (found := _SERVED_UNTIL.search(system.run("get", "--raw", path)))}


def wait_served(system: Kubectl) -> None:
    """All injectors serve what is in the Secret."""
    leaf = x509.load_pem_x509_certificate(entry(system, LEAF, "tls.crt"))
    ends = {leaf.not_valid_after_utc.timestamp()}
    until(lambda: served(system) == ends, "the new certificate is served", seconds=SERVED_WITHIN_SECONDS, every=1)


def renew(system: Kubectl, certificate: str, secret: str) -> bytes:
    """As `cmctl renew` does; returns the new certificate."""
    before = entry(system, secret, "tls.crt")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    asked = {"type": "Issuing", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": now}
    change = json.dumps([{"op": "add", "path": "/status/conditions/-", "value": asked}])
    system.run("patch", "certificate", certificate, "--subresource=status", "--type=json", "-p", change)
    return until_new(system, secret, before)


def until_new(system: Kubectl, secret: str, before: bytes) -> bytes:
    def changed() -> bytes | None:
        now = entry(system, secret, "tls.crt")
        return now if now != before else None

    return until(changed, f"a new certificate in {secret}")


def report(what: str, found: Admissions, began: float, done: float) -> None:
    refused = [round(at - began, 1) for at, _ in found.refused]
    print(f"{what}: served by all after {done - began:.1f} s; {len(found.admitted)} admitted, refused at {refused}")


def test_cert_managers_certificate_is_served_trusted_and_admits_pods(system: Kubectl, place: Place) -> None:
    wait_served(system)
    assert bundle(system) == entry(system, LEAF, "ca.crt") == entry(system, AUTHORITY, "tls.crt")
    owner = system.get("secret", LEAF)["metadata"]["annotations"]["cert-manager.io/certificate-name"]
    assert owner == INJECTOR
    place.share({"alice": 1})
    place.kubectl.apply(deployment(engine_pod()))
    [ready] = wait_ready(place.kubectl)
    assert is_injected(ready)


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "patch", "delete"])
@pytest.mark.parametrize(
    "what", ["secrets", f"secret/{LEAF}", f"secret/{AUTHORITY}", f"mutatingwebhookconfiguration/{INJECTOR}"]
)
def test_the_injector_may_do_nothing_with_secrets_and_its_webhook(system: Kubectl, verb: str, what: str) -> None:
    with pytest.raises(KubectlError) as refusal:
        system.run("auth", "can-i", verb, what, f"--as={ACCOUNT}")
    assert "exit code 1" in str(refusal.value) or "Warning" in str(refusal.value)


def test_a_renewed_certificate_fails_no_admission(system: Kubectl, place: Place) -> None:
    place.share({"alice": 1})
    trusted = bundle(system)
    with admissions(place.kubectl, pod(engine_pod(), name="tried")) as found:
        time.sleep(2)
        began = time.monotonic()
        renew(system, INJECTOR, LEAF)
        wait_served(system)
        done = time.monotonic()
        time.sleep(2)
    report("a renewed certificate", found, began, done)
    assert bundle(system) == trusted
    assert found.refused == []
    assert len(found.admitted) > 20


def test_a_deleted_secret_fails_no_admission(system: Kubectl, place: Place) -> None:
    place.share({"alice": 1})
    before = entry(system, LEAF, "tls.crt")
    with admissions(place.kubectl, pod(engine_pod(), name="tried")) as found:
        time.sleep(2)
        began = time.monotonic()
        system.delete("secret", LEAF)
        until(lambda: until_new(system, LEAF, before), "a new certificate")
        wait_served(system)
        done = time.monotonic()
        time.sleep(2)
    report("a deleted Secret", found, began, done)
    assert found.refused == []


def test_a_renewed_authority_fails_no_admission(system: Kubectl, place: Place) -> None:
    place.share({"alice": 1})
    with admissions(place.kubectl, pod(engine_pod(), name="tried")) as found:
        time.sleep(2)
        began = time.monotonic()
        authority = renew(system, INJECTOR_CA, AUTHORITY)
        # It comes into the caBundle with the next certificate, which is there before injectors serve it.
        renew(system, INJECTOR, LEAF)
        until(lambda: bundle(system) == authority, "the new authority is trusted")
        wait_served(system)
        done = time.monotonic()
        time.sleep(2)
    report("a renewed authority", found, began, done)
    assert found.refused == []


def test_with_the_authority_lost_admissions_work_again_once_its_certificate_is_served(
    system: Kubectl, place: Place
) -> None:
    place.share({"alice": 1})
    before = entry(system, AUTHORITY, "tls.crt")
    with admissions(place.kubectl, pod(engine_pod(), name="tried")) as found:
        time.sleep(2)
        began = time.monotonic()
        system.delete("secret", AUTHORITY)
        until(lambda: until_new(system, AUTHORITY, before), "a new authority")
        time.sleep(5)
        renewed_at = time.monotonic()
        renew(system, INJECTOR, LEAF)
        wait_served(system)
        done = time.monotonic()
        time.sleep(5)
    report("a new authority and then a certificate by it", found, began, done)
    # Its old certificate is served and trusted until there is a new one.
    assert all(at > renewed_at for at, _ in found.refused)
    assert all(at < done + 2 for at, _ in found.refused)
