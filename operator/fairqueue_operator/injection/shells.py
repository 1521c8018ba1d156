"""Engines that a shell or a script starts: what the script tells the engine cannot be changed, and seldom be read."""

import re
from collections.abc import Sequence
from typing import Final

from .command_line import CommandLine
from .engine_kinds import EngineKind, Listening

_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"})
# The script of TGI's own image calls the launcher with the arguments as they are.
_TRANSPARENT: Final = frozenset({"tgi-entrypoint.sh"})
_RUNS_WHAT_IS_NOT_SEEN: Final = re.compile(r"\.sh\b|\bsource\b|\beval\b|(^|[\s;&|])\.\s|\benv\b|\bunset\b|\$@|`|\$\(")


def script_of(line: CommandLine) -> str | None:
    """All words of a command line that a shell or script is part of; else None."""
    words = line.words
    programs = [word.rpartition("/")[2] for word in words]
    if any(program in _SHELLS or (program.endswith(".sh") and program not in _TRANSPARENT) for program in programs):
        return "\n".join(words)
    return None


def leaves_variables_alone(script: str, kind: EngineKind, listening: Listening) -> bool:
    """Whether the engine is sure to take its address and port from variables although a script starts it.

    Only a script that is there to be read, names the engine's program, runs nothing else that could decide, and has
    none of the options and variables in it. A word that looks like one of them is enough to say no.
    """
    if not any(mark in script for mark in kind.marks) or _RUNS_WHAT_IS_NOT_SEEN.search(script):
        return False
    settings = (listening.host, listening.port)
    names = [name for setting in settings for name in (*setting.options, setting.variable) if name]
    return not any(_mentions(script, name) for name in names)


def _mentions(script: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![a-zA-Z_-])", script) is not None


def has_script_in_sight(words: Sequence[str]) -> bool:
    """Whether the shell is given its script as a word (`-c`), rather than a file."""
    return any(re.fullmatch(r"-[a-z]*c", word) for word in words)
