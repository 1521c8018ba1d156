"""Certificates as such: what is in them, who takes them, and what is said of what is none.

Real cryptography, at times that the tests choose. What is done about a certificate is `test_certificate_plan`'s.
"""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_operator import certificates
from fairqueue_operator.certificates import CertificateError, Pair, make_authority, make_leaf
from injector.conftest import START

NAME = "fairqueue-injector.fairqueue-system.svc"
AUTHORITY = make_authority(START)
LEAF = make_leaf(AUTHORITY, [NAME], START)


def verify(leaf: Pair, *authorities: Pair, name: str = NAME, days: float = 0) -> None:
    """As a TLS client does."""
    store = Store([authority.certificate for authority in authorities])
    verifier = PolicyBuilder().store(store).time(START + timedelta(days=days)).build_server_verifier(x509.DNSName(name))
    verifier.verify(leaf.certificate, [])


@pytest.mark.parametrize("days", [-0.003, 0, 45, 89.9])
def test_a_leaf_is_taken_for_its_name_from_five_minutes_before_it_was_made_until_its_end(days: float) -> None:
    verify(LEAF, AUTHORITY, days=days)


@pytest.mark.parametrize("days", [-0.004, 90.1])
def test_a_leaf_is_not_taken_outside_its_time(days: float) -> None:
    with pytest.raises(VerificationError):
        verify(LEAF, AUTHORITY, days=days)


def test_a_leaf_is_taken_by_nobody_for_another_name_or_by_another_authority() -> None:
    with pytest.raises(VerificationError):
        verify(LEAF, AUTHORITY, name="fairqueue-injector.elsewhere.svc")
    with pytest.raises(VerificationError):
        verify(LEAF, make_authority(START))


def test_a_bundle_of_two_authorities_takes_the_leaves_of_both() -> None:
    other = make_authority(START)
    for authority in (AUTHORITY, other):
        verify(make_leaf(authority, [NAME], START), AUTHORITY, other)


def test_an_authority_lasts_ten_years_and_signs_leaves_only() -> None:
    certificate = AUTHORITY.certificate
    assert certificate.not_valid_after_utc.year == START.year + 10
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    assert isinstance(AUTHORITY.key, ec.EllipticCurvePrivateKey)


def test_a_leaf_ends_no_later_than_its_authority() -> None:
    late = make_leaf(AUTHORITY, [NAME], START + timedelta(days=3600))
    assert late.certificate.not_valid_after_utc == AUTHORITY.certificate.not_valid_after_utc


def test_names_longer_than_a_common_name_can_be_are_taken() -> None:
    name = f"{'s' * 63}.{'n' * 63}.svc"
    verify(make_leaf(AUTHORITY, [name], START), AUTHORITY, name=name)


def test_a_certificate_is_due_at_two_thirds_of_its_life() -> None:
    due = certificates.due_at(LEAF.certificate)
    assert timedelta(days=59.9) < due - START < timedelta(days=60)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["rsa", "ed25519", "p384"],
)
@pytest.mark.parametrize("identified", [True, False], ids=["own-key-identifier", "no-key-identifier"])
def test_an_authority_that_somebody_else_made_signs_leaves(key: certificates._Key, identified: bool) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the company")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, START, START + timedelta(days=500))
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    if identified:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(b"not a hash of the key"), False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    theirs = Pair(builder.sign(key, algorithm), key)
    read = certificates.read_pair({"tls.crt": theirs.certificate_pem, "tls.key": theirs.key_pem})
    leaf = make_leaf(read, [NAME], START)
    assert certificates.is_signed_by(leaf.certificate, theirs.certificate)
    identifier = leaf.certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert (identifier == b"not a hash of the key") is identified


def test_what_is_written_can_be_read() -> None:
    assert (
        certificates.read_pair({"tls.crt": LEAF.certificate_pem, "tls.key": LEAF.key_pem}).certificate
        == LEAF.certificate
    )


def _encrypted(pair: Pair) -> bytes:
    return pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        pytest.param({}, "tls.crt is not a certificate", id="empty"),
        pytest.param({"tls.crt": LEAF.certificate_pem}, "tls.key is not a private key", id="no-key"),
        pytest.param({"tls.crt": b"x", "tls.key": LEAF.key_pem}, "tls.crt is not a certificate", id="garbage"),
        pytest.param(
            {"tls.crt": LEAF.certificate_pem[:-60], "tls.key": LEAF.key_pem}, "tls.crt is not a certificate", id="cut"
        ),
        pytest.param(
            {"tls.crt": LEAF.certificate_pem, "tls.key": AUTHORITY.key_pem}, "not the key of tls.crt", id="other-key"
        ),
        pytest.param({"tls.crt": LEAF.certificate_pem, "tls.key": _encrypted(LEAF)}, "without a password", id="locked"),
    ],
)
def test_what_cannot_be_used_is_named_without_the_key(data: dict[str, bytes], what: str) -> None:
    with pytest.raises(CertificateError, match=what) as caught:
        certificates.read_pair(data)
    assert "PRIVATE" not in str(caught.value)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_bytes_in_a_secret_raise_anything_else(certificate: bytes, key: bytes) -> None:
    with pytest.raises(CertificateError):
        certificates.read_pair({"tls.crt": certificate, "tls.key": key})


@given(st.integers(0, len(LEAF.certificate_pem) - 1), st.integers(0, 255))
def test_a_certificate_with_one_wrong_byte_is_the_same_certificate_or_none(position: int, byte: int) -> None:
    spoilt = bytearray(LEAF.certificate_pem)
    spoilt[position] = byte
    try:
        pair = certificates.read_pair({"tls.crt": bytes(spoilt), "tls.key": LEAF.key_pem})
    except CertificateError:
        return
    assert certificates.is_signed_by(pair.certificate, AUTHORITY.certificate) is (pair.certificate == LEAF.certificate)


@given(
    st.lists(
        st.sampled_from(
            [AUTHORITY, LEAF, b"garbage", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
        )
    )
)
def test_a_bundle_gives_the_certificates_in_it_and_passes_over_the_rest(parts: list[Pair | bytes]) -> None:
    text = b"\n".join(part if isinstance(part, bytes) else part.certificate_pem for part in parts)
    wanted = tuple(part.certificate for part in parts if isinstance(part, Pair))
    assert certificates.read_bundle(text) == wanted


def test_a_pair_shows_no_key() -> None:
    assert "key" not in repr(LEAF)


def test_a_bare_certificate_has_no_names_and_is_no_authority() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bare")])
    key = ec.generate_private_key(ec.SECP256R1())
    bare = x509.CertificateBuilder(name, name, key.public_key(), 1, START, START + timedelta(days=1))
    certificate = bare.sign(key, hashes.SHA256())
    assert certificates.dns_names(certificate) == frozenset()
    assert not certificates.is_authority(certificate)


def test_a_key_that_cannot_serve_tls_is_refused() -> None:
    key = x25519.X25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(CertificateError, match="of a kind that cannot serve TLS"):
        certificates.read_pair({"tls.crt": LEAF.certificate_pem, "tls.key": text})
