"""What has to be done about the stored certificates: decided from the stored Secrets, the `caBundle` and the time.

The order that keeps admissions working while the authority changes: (1) the new authority is stored; (2) the
`caBundle` trusts the new and the old one; (3) some seconds later, when API servers have seen that, the serving
certificate is replaced; (4) all replicas take it up; (5) ten minutes later the old authority leaves the bundle. Each
step is decided from what is stored alone, so any replica can take it, and none has to know who took the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from .certificates import (
    AUTHORITY,
    BACKDATED,
    CERTIFICATE,
    KEY,
    CertificateError,
    Pair,
    dns_names,
    due_at,
    is_authority,
    is_signed_by,
    is_valid_at,
    make_authority,
    make_leaf,
    pem,
    read_bundle,
    read_certificate,
    read_pair,
)

# How long an authority stays trusted after a certificate of the next one was made: all replicas serve that by then.
OVERLAP = timedelta(minutes=10)
_MAX_BUNDLED = 4

SecretData = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class StoredPair:
    """A pair that was found in a Secret: what can be used of it, and why it should be replaced.

    `usable` is None where nothing can be served with it. Nothing is wrong when `problem` is empty. `can_wait`: it
    does its work as long as the bundle trusts its issuer.
    """

    usable: Pair | None
    problem: str = ""
    can_wait: bool = False
    issuer: x509.Certificate | None = None


def judge_authority(data: SecretData | None, now: datetime) -> StoredPair:
    """What is to be thought of the stored authority; None is an absent Secret."""
    if data is None:
        return StoredPair(None, "absent")
    try:
        pair = read_pair(data)
    except CertificateError as error:
        return StoredPair(None, f"corrupted: {error}")
    if not is_authority(pair.certificate):
        return StoredPair(None, "not a certificate authority")
    return _judge_time(pair, now)


def judge_leaf(data: SecretData | None, authority: x509.Certificate, names: Sequence[str], now: datetime) -> StoredPair:
    """What is to be thought of the stored serving certificate, beside the authority that is stored now."""
    if data is None:
        return StoredPair(None, "absent")
    try:
        pair = read_pair(data)
    except CertificateError as error:
        return StoredPair(None, f"corrupted: {error}")
    missing = [name for name in names if name not in dns_names(pair.certificate)]
    if missing:
        return StoredPair(None, f"not for the name {missing[0]}")
    if is_signed_by(pair.certificate, authority):
        return _judge_time(pair, now)
    if not is_valid_at(pair.certificate, now):
        return StoredPair(None, "expired, and of another authority")
    return StoredPair(pair, "of another authority", can_wait=True, issuer=_issuer(data, pair))


def new_authority(now: datetime) -> SecretData:
    """The content of the authority's Secret, made anew."""
    pair = make_authority(now)
    return {CERTIFICATE: pair.certificate_pem, KEY: pair.key_pem}


def new_leaf(authority: Pair, names: Sequence[str], now: datetime) -> SecretData:
    """The content of the serving certificate's Secret, made anew; it says by whom it was signed."""
    pair = make_leaf(authority, names, now)
    return {CERTIFICATE: pair.certificate_pem, KEY: pair.key_pem, AUTHORITY: authority.certificate_pem}


def trusts(bundle: bytes, authority: x509.Certificate) -> bool:
    """Whether API servers that go by the bundle take what the authority signs."""
    return authority in read_bundle(bundle)


def plan_bundle(present: bytes, authority: x509.Certificate, leaf: StoredPair, now: datetime) -> bytes:
    """What the `caBundle` should be: the stored authority first, then those before it while they are needed.

    It depends on nothing but what is stored, so two replicas do not undo each other's work.
    """
    if leaf.usable is None or leaf.can_wait:
        # Others may serve a certificate still that they hold in memory, and whose Secret is gone.
        changing = True
    else:
        made = leaf.usable.certificate.not_valid_before_utc + BACKDATED
        changing = now < made + OVERLAP
    others = {*read_bundle(present)} if changing else set()
    if leaf.issuer is not None:
        others.add(leaf.issuer)
    kept = [other for other in others if other != authority and is_authority(other) and is_valid_at(other, now)]
    kept.sort(key=lambda other: (other != leaf.issuer, -other.not_valid_before_utc.timestamp(), other.serial_number))
    return pem(authority, *kept[: _MAX_BUNDLED - 1])


def _judge_time(pair: Pair, now: datetime) -> StoredPair:
    if not is_valid_at(pair.certificate, now):
        begun = pair.certificate.not_valid_before_utc <= now
        return StoredPair(None, "expired" if begun else "not valid yet")
    return StoredPair(pair, "due for renewal" if now >= due_at(pair.certificate) else "")


def _issuer(data: SecretData, pair: Pair) -> x509.Certificate | None:
    """Who signed the certificate, as its own Secret says, if that is true."""
    try:
        issuer = read_certificate(data.get(AUTHORITY, b""), AUTHORITY)
    except CertificateError:
        return None
    return issuer if is_signed_by(pair.certificate, issuer) else None
