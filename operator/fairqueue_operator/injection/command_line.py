"""A container's command line: finding what an option is given, replacing it, adding one.

Options are read as the engines' own parsers do: `--name value`, `--name=value`, with `_` for `-`, and for a short one
that takes a number `-p8080`. The last one counts where there are several; all are replaced.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .environment import Environment
from .names import Json

_ATTACHED_NUMBER: Final = re.compile(r"(-[a-zA-Z])=?([0-9]+)")


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """An option at `index` of the words; its value is in the same word behind `prefix`, or else the next word."""

    index: int
    value: str | None
    prefix: str | None


class CommandLine:
    """Reads and writes `command` and `args` of one container, which Kubernetes joins into one list of words."""

    def __init__(self, container: Json) -> None:
        self._container = container
        self._environment = Environment(container)

    @property
    def words(self) -> list[str]:
        return [*self._container.get("command", []), *self._container.get("args", [])]

    def has(self, options: Sequence[str]) -> bool:
        return any(True for _ in self._occurrences(options))

    def value(self, options: Sequence[str]) -> str | None:
        """What the last of the options is given; None if none is there, or it is given nothing or nothing known."""
        value = None
        for occurrence in self._occurrences(options):
            value = occurrence.value
        return None if value is None else self._environment.expanded(value)

    def replace(self, options: Sequence[str], value: str) -> bool:
        """Gives each of the options that is there this value. False: there is none."""
        occurrences = list(self._occurrences(options))
        for occurrence in occurrences:
            if occurrence.prefix is not None:
                self._set_word(occurrence.index, occurrence.prefix + value)
            elif occurrence.value is not None:
                self._set_word(occurrence.index + 1, value)
            else:
                self._container.setdefault("args", []).append(value)
        return bool(occurrences)

    def append(self, *words: str) -> None:
        self._container["args"] = [*self._container.get("args", []), *words]

    def _set_word(self, index: int, word: str) -> None:
        command = self._container.get("command", [])
        if index < len(command):
            command[index] = word
        else:
            self._container["args"][index - len(command)] = word

    def _occurrences(self, options: Sequence[str]) -> Iterator[_Occurrence]:
        words = self.words
        for index, written in enumerate(words):
            # Where a variable hides an option, it is read as the engine will see it.
            word = self._environment.expanded(written) or written
            name, equals, value = word.partition("=")
            if name.startswith("--"):
                name = name.replace("_", "-")
            attached = _ATTACHED_NUMBER.fullmatch(word)
            if name in options and equals:
                yield _Occurrence(index, value, word[: len(word) - len(value)])
            elif name in options:
                yield _Occurrence(index, words[index + 1] if index + 1 < len(words) else None, None)
            elif attached and attached[1] in options:
                yield _Occurrence(index, attached[2], attached[1])
