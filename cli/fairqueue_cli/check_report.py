"""What `fairqueue check` prints: a group's lines with a mark each, and the commands below. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fairqueue_cli.check_lines import Group, Mark
from fairqueue_sim.lab.plain_words import printable

SIGNS: Final[Mapping[Mark, str]] = {Mark.PASSED: "✓", Mark.WARNING: "‼", Mark.FAILED: "×"}  # noqa: RUF001
PLAIN_SIGNS: Final[Mapping[Mark, str]] = {Mark.PASSED: "ok  ", Mark.WARNING: "warn", Mark.FAILED: "FAIL"}


def signs_for(encoding: str | None, *, is_terminal: bool) -> Mapping[Mark, str]:
    """Words where the output is no terminal, or one that cannot show the signs."""
    try:
        "".join(SIGNS.values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN_SIGNS
    return SIGNS if is_terminal else PLAIN_SIGNS


def group_text(group: Group, signs: Mapping[Mark, str]) -> str:
    """One group for people."""
    return "\n".join([group.name, *_lines(group, signs)]) + "\n"


def verdict_text(groups: Iterable[Group], signs: Mapping[Mark, str]) -> str:
    """The last line."""
    marks = [line.mark for group in groups for line in group.lines]
    failures, warnings = marks.count(Mark.FAILED), marks.count(Mark.WARNING)
    if failures:
        return f"{signs[Mark.FAILED]} {failures} of {len(marks)} checks failed"
    if warnings:
        return f"{signs[Mark.WARNING]} no check failed, {warnings} of {len(marks)} warned"
    return f"{signs[Mark.PASSED]} all {len(marks)} checks passed"


def as_values(groups: Iterable[Group]) -> dict[str, Any]:
    """For programs."""
    groups = list(groups)
    return {
        "passed": is_well(groups),
        "groups": [
            {
                "name": group.name,
                "checks": [
                    {"result": line.mark.value, "text": line.text, "mend": list(line.mend)} for line in group.lines
                ],
            }
            for group in groups
        ],
    }


def is_well(groups: Iterable[Group]) -> bool:
    """No check failed."""
    return not any(line.mark is Mark.FAILED for group in groups for line in group.lines)


def _lines(group: Group, signs: Mapping[Mark, str]) -> Iterator[str]:
    for line in group.lines:
        yield f"  {signs[line.mark]} {printable(line.text)}"
        for command in line.mend:
            yield f"      {printable(command)}"
