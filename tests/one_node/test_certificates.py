"""Everyone's certificate says who they are, is signed by the right authority, and holds for as long as a node does."""

import stat
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from one_node.certificates import write_all

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates") / "pki"
    write_all(folder, NOW)
    return folder


def read(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def subject(certificate: x509.Certificate) -> tuple[str | None, str | None]:
    def part(oid: x509.ObjectIdentifier) -> str | None:
        found = certificate.subject.get_attributes_for_oid(oid)
        return str(found[0].value) if found else None

    return part(NameOID.COMMON_NAME), part(NameOID.ORGANIZATION_NAME)


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("admin", ("fairqueue-e2e-admin", "system:masters")),
        ("apiserver-kubelet-client", ("kube-apiserver-kubelet-client", "system:masters")),
        ("controller-manager", ("system:kube-controller-manager", None)),
        ("kubelet", ("system:node:fairqueue-e2e", "system:nodes")),
        ("proxy", ("system:kube-proxy", None)),
        ("scheduler", ("system:kube-scheduler", None)),
    ],
)
def test_a_clients_certificate_says_who_it_is_to_the_api_server(
    folder: Path, name: str, who: tuple[str, str | None]
) -> None:
    certificate = read(folder, name)
    assert subject(certificate) == who
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize(
    ("name", "dns_names", "addresses"),
    [
        (
            "apiserver",
            {"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
            {"10.77.16.1", "10.77.32.2", "127.0.0.1"},
        ),
        ("kubelet-server", {"fairqueue-e2e"}, {"10.77.32.2"}),
    ],
)
def test_a_servers_certificate_names_every_address_it_is_reached_by(
    folder: Path, name: str, dns_names: set[str], addresses: set[str]
) -> None:
    certificate = read(folder, name)
    hosts = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert dns_names <= set(hosts.get_values_for_type(x509.DNSName))
    assert {IPv4Address(it) for it in addresses} <= set(hosts.get_values_for_type(x509.IPAddress))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_every_certificate_holds_from_a_little_before_now_for_thirty_days(folder: Path) -> None:
    files = sorted(folder.glob("*.crt"))
    assert files
    for file in files:
        certificate = read(folder, file.stem)
        assert NOW - timedelta(days=1) < certificate.not_valid_before_utc < NOW, file.stem
        assert certificate.not_valid_after_utc == NOW + timedelta(days=30), file.stem


def test_every_certificate_is_signed_by_its_authority_and_only_authorities_may_sign(folder: Path) -> None:
    authorities = {it: read(folder, it) for it in ("ca", "front-proxy-ca")}
    for file in folder.glob("*.crt"):
        certificate = read(folder, file.stem)
        signer = "front-proxy-ca" if file.stem.startswith("front-proxy") else "ca"
        certificate.verify_directly_issued_by(authorities[signer])
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert limits.ca is (file.stem in authorities), file.stem


def test_each_key_fits_its_certificate_and_is_its_owners_alone(folder: Path) -> None:
    for file in folder.glob("*.crt"):
        key_file = file.with_suffix(".key")
        key = load_pem_private_key(key_file.read_bytes(), None)
        assert key.public_key() == read(folder, file.stem).public_key()
    for key_file in folder.glob("*.key"):
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
