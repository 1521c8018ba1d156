"""What can be wrong with a policy, its secrets or a rendered document, said in one line.

Every error holds all problems that were found; its text is the first of them. Values that a user wrote are never
repeated: a key pasted into the wrong field must not end up in a log.
"""

from collections.abc import Sequence
from dataclasses import dataclass

NOT_SUPPORTED_YET = "is not supported yet"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in which file, at which field, what, and what to do about it.

    `path` is empty where the file as a whole is meant.
    """

    source: str
    path: str
    what: str
    fix: str

    def __str__(self) -> str:
        return _one_line(": ".join(part for part in (self.source, self.path, self.what, self.fix) if part))


class PolicyError(Exception):
    """A policy that cannot be used. `str()` is one line, the first problem; `problems` has all, never none."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return str(self.problems[0])


class SecretError(PolicyError):
    """A client key that a policy names and that cannot be had or used."""


class DocumentError(PolicyError):
    """A rendered document that this version cannot read."""


def _one_line(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
