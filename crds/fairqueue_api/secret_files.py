"""Where client keys come from: an interface, and a directory laid out as Kubernetes mounts Secrets.

A key is returned, never kept, and never part of an error.
"""

import os
import re
import stat
from pathlib import Path
from typing import Protocol

from .errors import Problem, SecretError

_MAX_KEY_BYTES = 4096
# What Kubernetes allows in the name of a Secret and of an entry in it; neither can lead out of the directory.
_SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_ENTRY_NAME = re.compile(r"(?!\.\.|\.$)[-._a-zA-Z0-9]+")
_TRAILING_WHITE_SPACE = re.compile(rb"(\r?\n|[ \t])\Z")
_VISIBLE_ASCII = re.compile(rb"[\x21-\x7e]+")


class SecretSource(Protocol):
    """Gives the bytes of one entry of a Secret, fit to be a client key. Raises `SecretError`."""

    def read(self, name: str, key: str) -> bytes: ...


class SecretDirectory:
    """Reads `DIRECTORY/<secret>/<key>`; one trailing line end or blank is taken off.

    Symbolic links are followed wherever they lead: Kubernetes mounts every entry as one, and who may write to the
    directory may put any key there anyhow. Anything but a regular file is refused, so that no read can hang.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, name: str, key: str) -> bytes:
        """The key, 1 to 4096 visible ASCII characters: what a header can carry. Raises `SecretError`."""
        path = self._directory / name / key
        if not _SECRET_NAME.fullmatch(name) or not _ENTRY_NAME.fullmatch(key):
            raise _error(path, "is not a name that a Secret or its entry can have", "rename it")
        content = _TRAILING_WHITE_SPACE.sub(b"", self._content(path), count=1)
        if not content:
            raise _error(path, "the key is empty", "write the key into it")
        if len(content) > _MAX_KEY_BYTES:
            raise _error(path, f"the key is longer than {_MAX_KEY_BYTES} bytes", "use a shorter key")
        if not _VISIBLE_ASCII.fullmatch(content):
            what = "the key has white space, control or non-ASCII characters in it"
            raise _error(path, what, "write one key and nothing else into it")
        return content

    def _content(self, path: Path) -> bytes:
        try:
            # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise _error(path, "is not a regular file", "write the key into a file")
                return os.read(descriptor, _MAX_KEY_BYTES + len(b"\r\n") + 1)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            if not self._directory.is_dir():
                raise _error(self._directory, "directory not found", "create it") from None
            raise _error(path, "file not found", "create it") from None
        except OSError as error:
            raise _error(path, f"cannot be read ({error.strerror})", "mend its rights") from None


def _error(path: Path, what: str, fix: str) -> SecretError:
    return SecretError([Problem(str(path), "", what, fix)])
