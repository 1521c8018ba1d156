"""What is measured: the cells of `bench/cells.yaml`, each an engine and a kind of request."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

__all__ = ["Burst", "Cell", "CellsError", "Engine", "Light", "Requests", "Throughput", "read_cells"]

Range = tuple[int, int]
EngineName = Literal["tgi", "vllm", "sglang", "openai", "llamacpp"]
POLICY_KINDS: Mapping[EngineName, str] = {
    "tgi": "TGI",
    "vllm": "VLLM",
    "sglang": "SGLang",
    "openai": "OpenAI",
    "llamacpp": "LlamaCpp",
}


class CellsError(Exception):
    """The file of cells can't be used; the message says what is wrong with it."""


class Requests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients ask for, each of them the same mix: lengths are drawn evenly between two bounds.

    With `allowed_tokens` outputs end by themselves before that limit; without, the limit is their length. Of
    `plain_share` the replies are not streamed. Engines that can put `merge` tokens into each event of a stream.
    """

    prompt_tokens: Range
    output_tokens: Range
    allowed_tokens: int | None = None
    plain_share: float = 0.0
    merge: int = 1


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A simulated engine with options of `fairqueue engine-sim`, or llama.cpp with so many slots."""

    kind: EngineName
    words: str
    options: dict[str, str | int | float] = {}
    slots: int | None = None

    @property
    def is_simulated(self) -> bool:
        return self.kind != "llamacpp"

    @property
    def speed(self) -> float:
        """Engine seconds in a second."""
        return float(self.options.get("speed", 1))


class Throughput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="measures", tag="throughput"):
    """So many clients, each with one request at a time and without a pause, directly and through the proxy.

    Halves of a pair are measured for `least_seconds` or longer: a slow engine makes few tokens in a short time.
    """

    name: str
    engine: Engine
    requests: Requests
    clients: int
    least_seconds: int = 1


class Burst(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="measures", tag="burst"):
    """So many requests at once to an idle engine, directly and through a proxy: one that has just started each time, if
    it is to be `fresh`, else the same for all."""

    name: str
    engine: Engine
    requests: Requests
    count: int = 200
    fresh: bool = True


class Light(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="measures", tag="light"):
    """Requests that come by chance, so few that there is always room in the engine, through the proxy."""

    name: str
    engine: Engine
    requests: Requests
    per_second: float
    count: int = 1000


Cell = Throughput | Burst | Light


def read_cells(path: Path) -> list[Cell]:
    """All cells of the file, in its order; raises CellsError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        cells = msgspec.convert(content, list[Cell])
    except OSError as error:
        raise CellsError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise CellsError(f"{path}: {error}") from None
    _check_names(path, cells)
    return cells


def _check_names(path: Path, cells: Sequence[Cell]) -> None:
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise CellsError(f"{path}: two cells are named {name}: rename one")


def as_stored(cell: Cell) -> Any:
    """The cell as it is written beside its results, to see later whether it is still the same."""
    return msgspec.to_builtins(cell)
