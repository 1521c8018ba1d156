"""Which certificate a handshake gets: after a change, after a change of the kind of key, after what cannot be loaded.

Handshakes are made in memory; certificates come from a directory or are given directly.
"""

import os
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fairqueue_operator import serving_context
from fairqueue_operator.certificate_files import CertificateFiles
from fairqueue_operator.certificates import CertificateError, Pair
from fairqueue_operator.serving_context import ServingContext, is_in_memory, not_after_seconds
from injector.leaves import AUTHORITY, NAME, NOW, leaf


def shaken(context: ssl.SSLContext, name: str | None = NAME) -> x509.Certificate:
    """The certificate that a client gets, which trusts the authority."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.load_verify_locations(cadata=AUTHORITY.certificate_pem.decode())
    client_context.check_hostname = name is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return x509.load_der_x509_certificate(client.getpeercert(True) or b"")


@pytest.fixture
def loaded() -> list[x509.Certificate]:
    return []


@pytest.fixture
def serving(tmp_path: Path, loaded: list[x509.Certificate]) -> ServingContext:
    directory = tmp_path / "keys"
    directory.mkdir()
    return ServingContext(directory, loaded.append)


def load(serving: ServingContext, pair: Pair) -> bool:
    return serving.load(pair.certificate_pem, pair.key_pem)


@pytest.mark.parametrize("name", [NAME, None], ids=["by-name", "without-a-name"])
def test_the_last_certificate_is_served(serving: ServingContext, name: str | None, loaded: list[Any]) -> None:
    pairs = [leaf(), leaf()]
    for pair in pairs:
        assert load(serving, pair)
        assert shaken(serving.context, name) == pair.certificate
    assert loaded == [pair.certificate for pair in pairs]
    assert not load(serving, pairs[1])
    assert len(loaded) == 2


def test_a_key_of_another_kind_is_served_too(serving: ServingContext) -> None:
    """OpenSSL's own contexts hold one of each kind, and prefer the elliptic curve whichever is newer."""
    for key in (None, rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1()), None):
        pair = leaf(key)
        load(serving, pair)
        assert shaken(serving.context) == pair.certificate


def test_without_a_certificate_no_handshake_succeeds(serving: ServingContext) -> None:
    assert not serving.is_loaded
    with pytest.raises(ssl.SSLError):
        shaken(serving.context)


def test_what_does_not_belong_together_leaves_the_last_one_in_place(serving: ServingContext) -> None:
    good, other = leaf(), leaf()
    load(serving, good)
    for chain, key in (
        (other.certificate_pem, good.key_pem),
        (b"garbage", good.key_pem),
        (other.certificate_pem, b"garbage"),
        (other.certificate_pem, b""),
    ):
        with pytest.raises(CertificateError):
            serving.load(chain, key)
        assert shaken(serving.context) == good.certificate


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(serving: ServingContext) -> None:
    pair = leaf()
    locked = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(CertificateError, match="password"):
        serving.load(pair.certificate_pem, locked)


def test_the_key_is_a_file_only_while_it_is_loaded_and_nobody_elses_to_read(
    serving: ServingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Watching(ssl.SSLContext):
        def load_cert_chain(self, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
            seen.append((os.path.dirname(certfile), os.stat(certfile).st_mode & 0o777))
            super().load_cert_chain(certfile, keyfile, password)

    monkeypatch.setattr(serving_context, "_context", lambda: Watching(ssl.PROTOCOL_TLS_SERVER))
    pair = leaf()
    load(serving, pair)
    with pytest.raises(CertificateError):
        serving.load(leaf().certificate_pem, pair.key_pem)
    assert seen == [(str(tmp_path / "keys"), 0o600)] * 2
    assert list((tmp_path / "keys").iterdir()) == []


def test_what_is_in_memory_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounts = [
        "1 0 8:1 / / rw - ext4 /dev/sda rw",
        "2 1 0:5 / /run rw shared:1 - tmpfs tmpfs rw",
        "3 2 8:2 / /run/disk rw - xfs /dev/sdb rw",
    ]
    monkeypatch.setattr(Path, "read_text", lambda self: "\n".join(mounts))
    assert is_in_memory(Path("/run/fairqueue"))
    assert not is_in_memory(Path("/run/disk/x"))
    assert not is_in_memory(tmp_path)


def test_where_mounts_are_not_to_be_read_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreadable(self: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert is_in_memory(tmp_path)


def test_the_end_of_a_certificate_is_in_seconds_since_1970() -> None:
    assert not_after_seconds(leaf().certificate) == pytest.approx((NOW + timedelta(days=90)).timestamp(), abs=1)


class Mounted:
    """A directory as kubelet mounts a Secret: names that lead through a link, which is exchanged."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._number = 0
        directory.mkdir()
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (directory / name).symlink_to(Path("..data") / name)

    def put(self, certificate: bytes, key: bytes) -> None:
        self._number += 1
        content = self.directory / f"..{self._number}"
        content.mkdir()
        (content / "tls.crt").write_bytes(certificate)
        (content / "tls.key").write_bytes(key)
        (content / "ca.crt").write_bytes(AUTHORITY.certificate_pem)
        (self.directory / "..new").symlink_to(content)
        (self.directory / "..new").rename(self.directory / "..data")


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    return Mounted(tmp_path / "mounted")


def test_files_are_taken_up_when_they_change(
    serving: ServingContext, mounted: Mounted, lines: Callable[[str], Any]
) -> None:
    files = CertificateFiles(mounted.directory, serving)
    for key in (None, rsa.generate_private_key(65537, 2048)):
        pair = leaf(key)
        mounted.put(pair.certificate_pem + AUTHORITY.certificate_pem, pair.key_pem)
        for _ in range(2):
            files.look()
        assert shaken(serving.context) == pair.certificate
    assert len(lines("certificate loaded")) == 2


def test_files_that_are_missing_or_spoilt_are_named_once_and_the_last_certificate_served(
    serving: ServingContext, mounted: Mounted, lines: Callable[[str], Any]
) -> None:
    files = CertificateFiles(mounted.directory, serving)
    for _ in range(3):
        files.look()
    pair = leaf()
    mounted.put(pair.certificate_pem, pair.key_pem)
    files.look()
    mounted.put(leaf().certificate_pem, pair.key_pem)
    for _ in range(3):
        files.look()
    assert shaken(serving.context) == pair.certificate
    said = [line["error"] for line in lines("certificate not loaded")]
    assert said[0] == "No such file or directory"
    assert len(said) == 2
    assert "KEY_VALUES_MISMATCH" in said[1]


class Stop(Exception):
    """Ends what never ends."""


async def test_files_are_looked_at_every_few_seconds(serving: ServingContext, mounted: Mounted) -> None:
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise Stop
        pair = leaf()
        mounted.put(pair.certificate_pem, pair.key_pem)

    with pytest.raises(Stop):
        await CertificateFiles(mounted.directory, serving).run(pause)
    assert waits == [5.0] * 3
    assert serving.is_loaded
