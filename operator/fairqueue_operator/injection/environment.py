"""A container's environment, as far as the pod alone tells it, and the `$(NAME)` that Kubernetes replaces by it.

What comes from Secrets, ConfigMaps, fields of the pod or Services is not known here, and is never guessed.
"""

import re
from typing import Final

from .names import Json

# `$$` is how a `$` is written; a `$` before anything else is itself.
_REFERENCE: Final = re.compile(r"\$\$|\$\(([^)]*)\)")


class Environment:
    """Reads and writes `env` of one container; the list is made when it is first written to."""

    def __init__(self, container: Json) -> None:
        self._container = container

    def __contains__(self, name: str) -> bool:
        return any(entry["name"] == name for entry in self._container.get("env", []))

    @property
    def has_unseen(self) -> bool:
        """Whether whole Secrets or ConfigMaps are part of it, so that any variable may be there."""
        return bool(self._container.get("envFrom"))

    def value(self, name: str) -> str | None:
        """The variable's value; None if it is not there or not known."""
        return self._values().get(name)

    def expanded(self, text: str) -> str | None:
        """`text` with each `$(NAME)` replaced; None if one of them is not known."""
        return _expanded(text, self._values())

    def set(self, name: str, value: str) -> None:
        """Gives the variable this value, wherever it came from before."""
        entries = self._container.setdefault("env", [])
        # A name may be there twice; then the last one counts, but others may refer to the first.
        for index, entry in enumerate(entries):
            if entry["name"] == name:
                entries[index] = {"name": name, "value": value}
        if name not in self:
            entries.append({"name": name, "value": value})

    def _values(self) -> dict[str, str | None]:
        values: dict[str, str | None] = {}
        for entry in self._container.get("env", []):
            # A value may refer to those before it.
            values[entry["name"]] = None if "valueFrom" in entry else _expanded(entry.get("value", ""), values)
        return values


def _expanded(text: str, values: dict[str, str | None]) -> str | None:
    known = True

    def replacement(reference: re.Match[str]) -> str:
        nonlocal known
        if reference[0] == "$$":
            return "$"
        value = values.get(reference[1])
        known = known and value is not None
        return value or ""

    expanded = _REFERENCE.sub(replacement, text)
    return expanded if known else None
