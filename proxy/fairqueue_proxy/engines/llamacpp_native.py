"""What is peculiar to the bodies of llama.cpp's native routes, `/completion` and `/infill`. Pure functions."""

from typing import Final

import msgspec
from msgspec import Raw

from fairqueue_proxy.engines.fields import Fields
from fairqueue_proxy.engines.prompts import PromptSize, json_bytes, size_of_prompt, text_bytes

# What a result tells of itself, in its own words; a client may ask for fewer words.
_COUNTS: Final = ("index", "stop", "tokens_predicted", "tokens_evaluated", "timings")
_SELECTION: Final = "response_fields"

_names = msgspec.json.Decoder(list[str])


def ask_counts(fields: Fields) -> tuple[str, ...]:
    """Has the counts told also to clients which selected other fields of the result; the names that were added."""
    raw = fields.get(_SELECTION)
    try:
        names = _names.decode(raw) if raw is not None else []
    except (ValueError, RecursionError):
        return ()
    missing = tuple(name for name in _COUNTS if name not in names)
    if not names or not missing:
        return ()
    fields[_SELECTION] = Raw(msgspec.json.encode([*names, *missing]))
    return missing


def size_of_native(fields: Fields) -> PromptSize:
    """The prompt, and what `/infill` puts around it."""
    size = size_of_prompt(fields.get("prompt"))
    around = text_bytes(fields.get("input_prefix")) + text_bytes(fields.get("input_suffix"))
    around += json_bytes(fields.get("input_extra"))
    if not around:
        return size
    return PromptSize(size.prompts, size.text_bytes + around * size.prompts)
