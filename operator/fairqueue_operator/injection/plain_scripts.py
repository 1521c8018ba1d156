"""Scripts that are one plain command: `sh -c "vllm serve MODEL …"`, as vLLM's own documentation starts it.

A shell does nothing there but split words, so the words take its place, and the engine can be told where to listen.
Anything that a shell would do more than that (variables, patterns, several commands, redirections) leaves it as it is.
"""

import re
import shlex
from typing import Final

from .command_line import CommandLine
from .engine_kinds import EngineKind
from .names import Json

_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash"})
# Neither what is read at a login shell's start nor options that change what a script means.
_COMMAND_OPTIONS: Final = frozenset({"-c", "-ec", "-ce"})
_LINE_CONTINUED: Final = re.compile(r"\\\n")
# Between single quotes a shell sees nothing, between double quotes only these.
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"$`\\!]*\"")
_PLAIN: Final = re.compile(r"[\w@%+=:,./\- \t]*", re.ASCII)


def unwrap(container: Json, kind: EngineKind) -> None:
    """Puts the words of the script in the place of the shell, if it is one plain command of the engine's program."""
    words = CommandLine(container).words
    if len(words) != 3 or words[0].rpartition("/")[2] not in _SHELLS or words[1] not in _COMMAND_OPTIONS:
        return
    script = _LINE_CONTINUED.sub(" ", words[2]).strip()
    if not _PLAIN.fullmatch(_QUOTED.sub("", script)):
        return
    split = shlex.split(script)
    if split[:1] == ["exec"]:
        del split[0]
    if _is_program(split, kind):
        container["command"], container["args"] = split[:1], split[1:]


def _is_program(words: list[str], kind: EngineKind) -> bool:
    """No keyword or assignment of the shell's, and nothing between it and the engine, such as `env -i`."""
    program = words[0].rpartition("/")[2] if words else ""
    if program.startswith("python") and words[1:2] == ["-m"]:
        program = words[2] if len(words) > 2 else ""
    return "=" not in program and any(mark in program for mark in kind.marks)
