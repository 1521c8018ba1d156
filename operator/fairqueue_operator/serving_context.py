"""The TLS context of the webhook: one for the life of the listener, whatever certificate it serves.

Each certificate gets an inner context of its own, which new handshakes are switched to; established connections stay
as they are. `load_cert_chain` on the listener's own context would do for keys of one kind, but OpenSSL holds one
certificate for each kind, and goes on serving the old ECDSA one after an RSA one was loaded; and after a load that
failed half way, it serves nothing.
"""

import contextlib
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from .certificates import CertificateError, read_certificate

_IN_MEMORY = ("tmpfs", "ramfs")


class ServingContext:
    """Serves the certificate that was loaded last. Without one, every handshake fails."""

    def __init__(self, key_directory: Path, loaded: Callable[[x509.Certificate], None]) -> None:
        self._key_directory = key_directory
        self._loaded = loaded
        self._serving: tuple[bytes, bytes] | None = None
        self._inner: ssl.SSLContext | None = None
        self.context = _context()
        self.context.sni_callback = self._switch

    @property
    def is_loaded(self) -> bool:
        """Whether there is a certificate to serve."""
        return self._inner is not None

    def load(self, chain_pem: bytes, key_pem: bytes) -> bool:
        """Serves these from the next handshake on; False if they are served already. Raises `CertificateError`.

        The key lies in a file for as long as OpenSSL needs to read it.
        """
        if self._serving == (chain_pem, key_pem):
            return False
        leaf = read_certificate(chain_pem, "the certificate")
        inner = _context()
        with _key_file(self._key_directory, chain_pem + b"\n" + key_pem) as path:
            try:
                # The password is asked for at the terminal otherwise.
                inner.load_cert_chain(path, password=_no_password)
            except (ssl.SSLError, CertificateError) as error:
                reason = getattr(error, "reason", None) or "the key has a password"
                raise CertificateError(f"certificate and key cannot be served: {reason}") from None
        self._inner = inner
        self._serving = chain_pem, key_pem
        self._loaded(leaf)
        return True

    def _switch(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, outer: ssl.SSLContext) -> int | None:
        # Called at every handshake, with and without a name.
        del name, outer
        if self._inner is None:
            return int(ssl.ALERT_DESCRIPTION_INTERNAL_ERROR)
        connection.context = self._inner
        return None


def is_in_memory(directory: Path) -> bool:
    """Whether what is written there never comes to a disk; True where that cannot be found out."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return True
    # "36 35 98:0 /root /mounted-at options - tmpfs source options" (proc(5)).
    kinds = {line.split()[4]: line.partition(" - ")[2].split()[0] for line in lines}
    resolved = directory.resolve()
    return next((kinds[str(place)] for place in (resolved, *resolved.parents) if str(place) in kinds), "") in _IN_MEMORY


def not_after_seconds(certificate: x509.Certificate) -> float:
    """When it ends, in seconds since 1970."""
    return (certificate.not_valid_after_utc - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


@contextlib.contextmanager
def _key_file(directory: Path, content: bytes) -> Iterator[str]:
    descriptor, path = tempfile.mkstemp(dir=directory)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        yield path
    finally:
        os.unlink(path)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _no_password() -> str:
    raise CertificateError
