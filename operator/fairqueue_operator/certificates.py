"""Certificates of the injector: a certificate authority of its own, and the serving certificate that it signs.

Made and read here, nothing stored and no clock read: whoever calls says what time it is. When something has to be
made anew is `certificate_plan`'s. Keys are ECDSA P-256; authorities that somebody else put into the Secret are used
whatever their kind.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3653)
LEAF_LIFE = timedelta(days=90)
# Clocks of API servers may be behind ours.
BACKDATED = timedelta(minutes=5)
# The names of a kubernetes.io/tls Secret's entries.
CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"

_ORGANISATION = "fairqueue.dev"
_PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


class CertificateError(ValueError):
    """A certificate or key that cannot be used. It says why, and never holds the key."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    key: _Key = field(repr=False)

    @property
    def certificate_pem(self) -> bytes:
        return pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def make_authority(now: datetime) -> Pair:
    """A new certificate authority, good for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A name of its own, so that a bundle of two is not ambiguous to those who look for issuers by name.
    name = _name(f"fairqueue injector CA {serial & 0xFFFFFFFF:08x}")
    builder = _builder(name, key, serial, now, now + AUTHORITY_LIFE).issuer_name(name)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def make_leaf(authority: Pair, names: Sequence[str], now: datetime) -> Pair:
    """A new serving certificate for the DNS names, no longer good than the authority is."""
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + LEAF_LIFE, authority.certificate.not_valid_after_utc)
    # Not the DNS name: it may have twice the 64 characters that a common name can have, and nobody reads it there.
    builder = _builder(_name("fairqueue injector"), key, x509.random_serial_number(), now, end)
    builder = builder.issuer_name(authority.certificate.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
    builder = builder.add_extension(_issuer_identifier(authority.certificate), critical=False)
    algorithm = (
        None if isinstance(authority.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    )
    return Pair(builder.sign(authority.key, algorithm), key)


def read_pair(data: Mapping[str, bytes]) -> Pair:
    """The pair in a Secret or directory. Raises `CertificateError` with what is wrong with it."""
    certificate = read_certificate(data.get(CERTIFICATE, b""), CERTIFICATE)
    try:
        key = serialization.load_pem_private_key(data.get(KEY, b""), password=None)
    except (ValueError, TypeError):
        # The library's own text may tell of the key.
        raise CertificateError(f"{KEY} is not a private key in PEM without a password") from None
    if not isinstance(key, _Key):
        raise CertificateError(f"{KEY} is of a kind that cannot serve TLS")
    if key.public_key() != certificate.public_key():
        raise CertificateError(f"{KEY} is not the key of {CERTIFICATE}")
    return Pair(certificate, key)


def read_certificate(text: bytes, name: str) -> x509.Certificate:
    """The first certificate in PEM text; `name` is what an error calls it. Raises `CertificateError`."""
    try:
        certificate = x509.load_pem_x509_certificate(text)
        # Parsed on demand: what is asked for later must not fail then.
        _ = certificate.extensions, certificate.public_key(), certificate.subject, certificate.not_valid_after_utc
    except Exception as error:  # The library's reader raises much more than ValueError on what is nearly right.
        raise CertificateError(f"{name} is not a certificate in PEM") from error
    return certificate


def read_bundle(text: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in a `caBundle`, in its order; what is no certificate is passed over."""
    found = []
    for block in _PEM_CERTIFICATE.findall(text):
        try:
            found.append(read_certificate(block, "caBundle"))
        except CertificateError:
            continue
    return tuple(found)


def pem(*certificates: x509.Certificate) -> bytes:
    """The certificates one after the other, as a `caBundle` has them."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority issued it."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_valid_at(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it has begun and not ended."""
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def due_at(certificate: x509.Certificate) -> datetime:
    """When it should be replaced: at two thirds of its life."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_before_utc + life * 2 / 3


def dns_names(certificate: x509.Certificate) -> frozenset[str]:
    """The names that it is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(names.value.get_values_for_type(x509.DNSName))


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, serial: int, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key()).serial_number(serial)
    builder = builder.not_valid_before(now - BACKDATED).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _issuer_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        # An authority from elsewhere may have named its key in another way than we would.
        identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
