"""The node's certificates: its authorities, and who is who to the API server.

They live as long as a node that tests use; nothing renews them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from one_node.addresses import API_SERVICE, DOMAIN, NODE, NODE_NAME

__all__ = ["Authority", "Pair", "create_authority", "issue", "write_all", "write_secret"]

_LIFE = timedelta(days=30)
# Clocks that were set back a little must not make a new certificate invalid.
_BACKDATED = timedelta(hours=1)

API_SERVER_HOSTS = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{DOMAIN}",
    "localhost",
    NODE_NAME,
    API_SERVICE,
    NODE,
    IPv4Address("127.0.0.1"),
)
SERVERS: dict[str, Sequence[str | IPv4Address]] = {"apiserver": API_SERVER_HOSTS, "kubelet-server": (NODE_NAME, NODE)}
# Files by what the API server knows their holders as: common name and group.
CLIENTS: dict[str, tuple[str, str | None]] = {
    "admin": ("fairqueue-e2e-admin", "system:masters"),
    "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "proxy": ("system:kube-proxy", None),
    # It only reads; a role of its own would be one more thing to bring up.
    "dns": ("system:dns", "system:masters"),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
}


@dataclass(frozen=True, slots=True)
class Pair:
    certificate_pem: bytes
    key_pem: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pair(self) -> Pair:
        return Pair(self.certificate.public_bytes(serialization.Encoding.PEM), _key_pem(self.key))


def create_authority(common_name: str, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name, None)
    builder = (
        _builder(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Authority(builder.sign(key, hashes.SHA256()), key)


def issue(
    authority: Authority,
    common_name: str,
    now: datetime,
    *,
    group: str | None = None,
    hosts: Sequence[str | IPv4Address] = (),
) -> Pair:
    """A server's certificate if there are hosts to serve as, else a client's."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_name(common_name, group), authority.certificate.subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if hosts:
        names = [x509.DNSName(it) if isinstance(it, str) else x509.IPAddress(it) for it in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def write_all(folder: Path, now: datetime) -> None:
    """NAME.crt and NAME.key of everyone, and the pair of keys that ServiceAccount tokens are signed with."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = create_authority("fairqueue-e2e", now)
    front_proxy = create_authority("fairqueue-e2e-front-proxy", now)
    pairs = {
        "ca": authority.pair,
        "front-proxy-ca": front_proxy.pair,
        "front-proxy-client": issue(front_proxy, "front-proxy-client", now),
        **{name: issue(authority, name, now, hosts=hosts) for name, hosts in SERVERS.items()},
        **{name: issue(authority, common, now, group=group) for name, (common, group) in CLIENTS.items()},
    }
    for name, pair in pairs.items():
        (folder / f"{name}.crt").write_bytes(pair.certificate_pem)
        write_secret(folder / f"{name}.key", pair.key_pem)
    tokens = ec.generate_private_key(ec.SECP256R1())
    write_secret(folder / "service-accounts.key", _key_pem(tokens))
    public = tokens.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "service-accounts.pub").write_bytes(public)


def write_secret(file: Path, content: bytes) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        output.write(content)


def _name(common_name: str, group: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if group:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFE)
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
