"""An entry of a Secret that holds a key, wherever Secrets are kept: how it can be called, and what content is a key."""

import re
from typing import Final

from .errors import Problem, SecretError

MAX_KEY_BYTES: Final = 4096
# What Kubernetes allows in the name of a Secret and of an entry in it; neither can lead out of a directory, nor end a
# word of a shell.
_SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_ENTRY_NAME = re.compile(r"(?!\.\.|\.$)[-._a-zA-Z0-9]+")
_TRAILING_WHITE_SPACE = re.compile(rb"(\r?\n|[ \t])\Z")
_VISIBLE_ASCII = re.compile(rb"[\x21-\x7e]+")


def can_be_entry(name: str, key: str) -> bool:
    """Whether a Secret can have that name, and an entry in it that key."""
    return _SECRET_NAME.fullmatch(name) is not None and _ENTRY_NAME.fullmatch(key) is not None


def usable_key(content: bytes, source: str) -> bytes:
    """The key in the content of an entry: without one trailing line end or blank, 1 to 4096 visible ASCII characters,
    which is what a header can carry.

    Raises `SecretError`; `source` is what its problem calls the entry.
    """
    key = _TRAILING_WHITE_SPACE.sub(b"", content, count=1)
    if not key:
        raise _error(source, "the key is empty", "write the key into it")
    if len(key) > MAX_KEY_BYTES:
        raise _error(source, f"the key is longer than {MAX_KEY_BYTES} bytes", "use a shorter key")
    if not _VISIBLE_ASCII.fullmatch(key):
        what = "the key has white space, control or non-ASCII characters in it"
        raise _error(source, what, "write one key and nothing else into it")
    return key


def _error(source: str, what: str, fix: str) -> SecretError:
    return SecretError([Problem(source, "", what, fix)])
