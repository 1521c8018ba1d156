"""`overlays/cert-manager` with the real cert-manager: `make e2e-cert-manager`, as building that takes minutes."""

import base64
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from cryptography import x509

from cert_manager import INSTALL, definitions
from suite.creating import admissions
from suite.installing import OVERLAYS, SYSTEM, install
from suite.kubectl import Kubectl, KubectlError, until
from suite.objects import deployment, engine_pod, pod
from suite.place import Place
from suite.pods import is_injected, is_ready, wait_ready

pytestmark = pytest.mark.skipif(not os.environ.get("E2E_CERT_MANAGER"), reason="`make e2e-cert-manager` runs it")

INJECTOR = "fairqueue-injector"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:{INJECTOR}"
# Secrets; the Certificates are called INJECTOR and AUTHORITY.
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


def certificate(system: Kubectl, secret: str, name: str = "tls.crt") -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(system.get("secret", secret)["data"][name]))


def trusted(system: Kubectl) -> list[x509.Certificate]:
    """By API servers, when they ask the injector."""
    [webhook] = system.get("mutatingwebhookconfiguration", INJECTOR)["webhooks"]
    return x509.load_pem_x509_certificates(base64.b64decode(webhook["clientConfig"]["caBundle"]))


def served(system: Kubectl) -> set[float]:
    """When the certificates end that the injectors serve."""
    pods = [it for it in system.all("pods", f"app.kubernetes.io/name={INJECTOR}") if is_ready(it)]
    paths = [f"/api/v1/namespaces/{SYSTEM}/pods/{it['metadata']['name']}:8080/proxy/metrics" for it in pods]
    return {float(found[1]) for path in paths if (found := _SERVED_UNTIL.search(system.run("get", "--raw", path)))}


def wait_served(system: Kubectl) -> None:
    """All injectors serve what is in the Secret."""
    ends = {certificate(system, LEAF).not_valid_after_utc.timestamp()}
    until(lambda: served(system) == ends, "the new certificate is served", seconds=SERVED_WITHIN_SECONDS, every=1)


def renew(system: Kubectl, name: str, secret: str) -> x509.Certificate:
    """As `cmctl renew` does; returns the new certificate."""
    before = certificate(system, secret)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    asked = {"type": "Issuing", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": now}
    change = json.dumps([{"op": "add", "path": "/status/conditions/-", "value": asked}])
    system.run("patch", "certificate", name, "--subresource=status", "--type=json", "-p", change)
    return until_new(system, secret, before)


def until_new(system: Kubectl, secret: str, before: x509.Certificate) -> x509.Certificate:
    def changed() -> x509.Certificate | None:
        now = certificate(system, secret)
        return now if now != before else None

    return until(changed, f"a new certificate in {secret}")


def delete(system: Kubectl, secret: str) -> x509.Certificate:
    """Returns the certificate that is in it next."""
    before = certificate(system, secret)
    system.delete("secret", secret)
    return until_new(system, secret, before)


@contextmanager
def all_admitted(system: Kubectl, place: Place, what: str) -> Iterator[None]:
    """No admission fails from before the block until all injectors serve the certificate that is there after it."""
    place.share({"alice": 1})
    with admissions(place.kubectl, pod(engine_pod(), name="tried")) as found:
        time.sleep(2)
        began = time.monotonic()
        yield
        wait_served(system)
        took = time.monotonic() - began
        time.sleep(5)
    refused = [round(at - began, 1) for at, _ in found.refused]
    print(f"{what}: served by all after {took:.1f} s; {len(found.admitted)} admitted, refused at {refused}")
    assert found.refused == []
    assert len(found.admitted) > 20


def test_cert_managers_certificate_is_served_trusted_and_admits_pods(system: Kubectl, place: Place) -> None:
    wait_served(system)
    assert trusted(system) == [certificate(system, LEAF, "ca.crt")] == [certificate(system, AUTHORITY)]
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
    assert system.run("auth", "can-i", "list", "pods", f"--as={ACCOUNT}").strip() == "yes"
    with pytest.raises(KubectlError) as refusal:
        system.run("auth", "can-i", verb, what, f"--as={ACCOUNT}")
    assert "exit code 1" in str(refusal.value) or "Warning" in str(refusal.value)


def test_a_renewed_certificate_fails_no_admission_and_changes_nothing_of_what_is_trusted(
    system: Kubectl, place: Place
) -> None:
    before = trusted(system)
    with all_admitted(system, place, "a renewed certificate"):
        renew(system, INJECTOR, LEAF)
    assert trusted(system) == before


def test_a_deleted_certificate_fails_no_admission(system: Kubectl, place: Place) -> None:
    with all_admitted(system, place, "a deleted certificate"):
        delete(system, LEAF)


def test_a_renewed_authority_fails_no_admission(system: Kubectl, place: Place) -> None:
    before = certificate(system, AUTHORITY)
    with all_admitted(system, place, "a renewed authority"):
        authority = renew(system, AUTHORITY, AUTHORITY)
        sign_anew(system, authority)
    # So either vouches for what the other has signed.
    assert authority.public_key() == before.public_key()


def test_an_authority_that_is_lost_fails_no_admission(system: Kubectl, place: Place) -> None:
    with all_admitted(system, place, "a new authority"):
        sign_anew(system, delete(system, AUTHORITY))


def sign_anew(system: Kubectl, authority: x509.Certificate) -> None:
    """cert-manager does not when the authority changes, but when the certificate is due, months later."""
    until(lambda: renew(system, INJECTOR, LEAF) and certificate(system, LEAF, "ca.crt") == authority, "its signature")
    until(lambda: authority in trusted(system), "the new authority is trusted")
