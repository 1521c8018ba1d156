"""Client keys in a directory: what a file may hold, which files are read, and that no key is ever repeated."""

import os
from pathlib import Path

import pytest

from fairqueue_api import SecretDirectory, SecretError

KEY = "sk-0123456789-very-secret"
LINE_OF_BAD_BYTES = (
    "secrets/team/token: the key has white space, control or non-ASCII characters in it: "
    "write one key and nothing else into it"
)


def write(content: bytes) -> None:
    path = Path("secrets/team/token")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def read(name: str = "team", key: str = "token") -> bytes:
    return SecretDirectory(Path("secrets")).read(name, key)


def refusal(name: str = "team", key: str = "token") -> str:
    with pytest.raises(SecretError) as caught:
        read(name, key)
    assert KEY not in repr(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " ", "\t"])
def test_a_key_is_read_without_its_line_end(ending: str) -> None:
    write((KEY + ending).encode())
    assert read() == KEY.encode()


@pytest.mark.parametrize(
    "content", [f"{KEY}\n\n", f"{KEY} {KEY}", f" {KEY}", f"{KEY}\n{KEY}\n", f"{KEY}\0", f"{KEY}\x7f", f"{KEY}é"]
)
def test_a_key_that_no_header_can_carry_is_refused(content: str) -> None:
    write(content.encode())
    assert refusal() == LINE_OF_BAD_BYTES


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b" "])
def test_an_empty_key_is_refused(content: bytes) -> None:
    write(content)
    assert refusal() == "secrets/team/token: the key is empty: write the key into it"


def test_a_key_may_have_4096_bytes() -> None:
    write(b"k" * 4096 + b"\r\n")
    assert len(read()) == 4096


@pytest.mark.parametrize("content", [b"k" * 4097, b"k" * 4097 + b"\r\n", b"k" * 100_000])
def test_a_longer_key_is_refused(content: bytes) -> None:
    write(content)
    assert refusal() == "secrets/team/token: the key is longer than 4096 bytes: use a shorter key"


def test_a_missing_file_is_named() -> None:
    write(b"k")
    assert refusal(key="other") == "secrets/team/other: file not found: create it"
    assert refusal(name="nobody") == "secrets/nobody/token: file not found: create it"


def test_a_missing_directory_is_named_itself() -> None:
    assert refusal() == "secrets: directory not found: create it"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("..", "token"),
        (".", "token"),
        ("../secrets/team", "token"),
        ("/etc", "passwd"),
        ("", "token"),
        ("Team", "token"),
        ("team", ".."),
        ("team", "."),
        ("team", "..data"),
        ("team", "../../outside"),
        ("team", "/etc/passwd"),
        ("team", ""),
        ("team", "token\n"),
        ("team", "to\0ken"),
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused_unread(name: str, key: str) -> None:
    write(KEY.encode())
    Path("outside").write_text(KEY)
    assert refusal(name, key).endswith(": is not a name that a Secret or its entry can have: rename it")


@pytest.mark.parametrize("name", [".dockerconfigjson", "a..b", "A_b-1.txt", "x"])
def test_every_entry_name_that_kubernetes_allows_is_read(name: str) -> None:
    write(b"k")
    Path("secrets/team", name).write_bytes(b"key-of-entry")
    assert read(key=name) == b"key-of-entry"


def test_links_are_followed_as_kubernetes_mounts_them() -> None:
    data = Path("secrets/team/..2026_01_01")
    data.mkdir(parents=True)
    (data / "token").write_text(KEY)
    Path("secrets/team/..data").symlink_to("..2026_01_01")
    Path("secrets/team/token").symlink_to("..data/token")
    assert read() == KEY.encode()


def test_a_link_out_of_the_directory_is_followed() -> None:
    write(b"k")
    Path("outside").write_text(KEY)
    Path("secrets/team/linked").symlink_to(Path("outside").absolute())
    assert read(key="linked") == KEY.encode()


def test_a_pipe_is_refused_and_does_not_hang() -> None:
    write(b"k")
    os.mkfifo("secrets/team/pipe")
    assert refusal(key="pipe") == "secrets/team/pipe: is not a regular file: write the key into a file"


def test_a_directory_is_refused() -> None:
    Path("secrets/team/token").mkdir(parents=True)
    assert refusal() == "secrets/team/token: is not a regular file: write the key into a file"


def test_an_unreadable_file_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    write(KEY.encode())

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    # Root, as which tests may run, can read any file.
    monkeypatch.setattr("fairqueue_api.secret_files.os.open", denied)
    assert refusal() == "secrets/team/token: cannot be read (Permission denied): mend its rights"


def test_reading_leaves_no_descriptor_open() -> None:
    Path("secrets/team/folder").mkdir(parents=True)
    Path("secrets/team/token").write_text(KEY)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read()
        refusal(key="folder")
    assert len(os.listdir("/proc/self/fd")) == before
