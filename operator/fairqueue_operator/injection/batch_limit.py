"""How many requests an engine runs at once, where its container says so."""

from .command_line import CommandLine
from .engine_kinds import EngineKind
from .environment import Environment
from .names import Json


def batch_limit(container: Json, kind: EngineKind) -> int | None:
    """None if it is not said, or says nothing of the whole engine; the proxy then asks the engine, or learns it."""
    line, environment = CommandLine(container), Environment(container)
    if line.has(kind.ranks.options):
        return None
    if line.has(kind.batch.options):
        text = line.value(kind.batch.options)
    elif kind.batch.variable is not None:
        text = environment.value(kind.batch.variable)
    else:
        text = None
    if text is None or not text.isascii() or not text.isdigit() or not 0 < int(text[:10]) < 1_000_000:
        # llama.cpp's -1 lets it choose by itself.
        return None
    return int(text)
