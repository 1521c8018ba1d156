"""Where client keys come from: an interface, and a directory laid out as Kubernetes mounts Secrets.

A key is returned, never kept, and never part of an error.
"""

import os
import stat
from pathlib import Path
from typing import Protocol

from .errors import Problem, SecretError
from .secret_entries import MAX_KEY_BYTES, can_be_entry, usable_key


class SecretSource(Protocol):
    """Gives the bytes of one entry of a Secret, fit to be a client key. Raises `SecretError`."""

    def read(self, name: str, key: str) -> bytes: ...


class SecretDirectory:
    """Reads `DIRECTORY/<secret>/<key>`.

    Symbolic links are followed wherever they lead: Kubernetes mounts every entry as one, and who may write to the
    directory may put any key there anyhow. Anything but a regular file is refused, so that no read can hang.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, name: str, key: str) -> bytes:
        """The key in that file. Raises `SecretError`."""
        path = self._directory / name / key
        if not can_be_entry(name, key):
            raise _error(path, "is not a name that a Secret or its entry can have", "rename it")
        return usable_key(self._content(path), str(path))

    def _content(self, path: Path) -> bytes:
        try:
            # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise _error(path, "is not a regular file", "write the key into a file")
                return os.read(descriptor, MAX_KEY_BYTES + len(b"\r\n") + 1)
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
