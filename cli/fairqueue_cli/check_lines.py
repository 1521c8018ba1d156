"""What a check finds, as values: lines with a mark, and the commands that mend what is wrong. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SYSTEM: Final = "fairqueue-system"
INSTALL: Final = "kubectl apply --server-side -k manifests/overlays/default"


class Mark(StrEnum):
    """How a check ended. Only what `failed` makes the command's exit code 1."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Line:
    """One finding, a sentence, and what to type."""

    mark: Mark
    text: str
    mend: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """All findings about one thing."""

    name: str
    lines: tuple[Line, ...]


def passed(text: str) -> Line:
    """All is well with it."""
    return Line(Mark.PASSED, text)


def warning(text: str, *mend: str) -> Line:
    """It works, or may work, and is not as it should be; or it could not be found out."""
    return Line(Mark.WARNING, text, mend)


def failed(text: str, *mend: str) -> Line:
    """It does not work."""
    return Line(Mark.FAILED, text, mend)


def shown(names: list[str], most: int = 3) -> str:
    """Some of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
