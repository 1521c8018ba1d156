"""Serving certificates of one authority, with keys of any kind."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fairqueue_operator.certificates import Pair, make_authority, make_leaf

NAME = "fairqueue-injector.fairqueue-system.svc"
NOW = datetime.now(UTC)
AUTHORITY = make_authority(NOW)


def leaf(key: Any = None, days: int = 90) -> Pair:
    made = make_leaf(AUTHORITY, [NAME], NOW)
    if key is None:
        return made
    builder = x509.CertificateBuilder(
        AUTHORITY.certificate.subject, made.certificate.subject, key.public_key(), 7, NOW, NOW + timedelta(days=days)
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), False)
    return Pair(builder.sign(AUTHORITY.key, hashes.SHA256()), key)  # type: ignore[arg-type]
