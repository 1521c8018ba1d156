"""Sizes of prompts: bytes of text, token ids, how many prompts.

The sizes feed an estimate that the engine's own count later corrects, so a prompt of an unknown shape is measured by
the bytes of its JSON instead of being refused. Conversations are in `conversations`. Pure functions.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from fairqueue_proxy.engines.call import BadBody
from fairqueue_proxy.engines.fields import Fields, decode_items

MAX_PROMPTS: Final = 1024
"""Above what engines take of prompts in one request."""


class PromptSize(NamedTuple):
    """All prompts of one request, each counted once."""

    prompts: int
    text_bytes: int
    tokens: int | None = None
    """Exact, if all prompts are token ids."""

    media_parts: int = 0


_text = msgspec.json.Decoder(str)
_token_ids = msgspec.json.Decoder(list[int])

# Of rerank and score requests, by the names that the engines have for them: one thing, and what it is paired with.
_ONE_SIDE = ("query", "text_1", "queries", "data_1")
_OTHER_SIDE = ("documents", "text_2", "items", "data_2")


def size_of_text(raw: Raw | None) -> PromptSize:
    """One prompt that must be a string (TGI's `inputs`)."""
    return PromptSize(1, text_bytes(raw))


def size_of_prompt(raw: Raw | None) -> PromptSize:
    """OpenAI's and llama.cpp's `prompt`, and `input` of embeddings: a string, token ids, or a list of either."""
    if not is_list(raw) or raw is None:
        return _size_of_one(raw)
    try:
        ids = _token_ids.decode(raw)
        return PromptSize(1, 0, tokens=len(ids)) if ids else PromptSize(1, 0)
    except (ValueError, RecursionError):
        pass
    # The whole body has been decoded before, so this is a list.
    items = decode_items(raw)
    if any(_is_number(item) for item in items):
        # llama.cpp reads a list of strings and token ids as one prompt.
        return PromptSize(1, sum(text_bytes(item) for item in items))
    if len(items) > MAX_PROMPTS:
        raise BadBody(f"more than {MAX_PROMPTS} prompts in one request: send fewer at once")
    return sum_of(_size_of_one(item) for item in items)


def size_of_pairs(fields: Fields) -> PromptSize | None:
    """Each pair of a rerank or score request is one prompt; None if there are no pairs in it."""
    one, other = _side(fields, _ONE_SIDE), _side(fields, _OTHER_SIDE)
    if other is None:
        return None
    one = one or [0]
    pairs = max(len(one), len(other))
    return PromptSize(pairs, sum(side * pairs // max(1, len(sizes)) for sizes in (one, other) for side in [sum(sizes)]))


def sum_of(sizes: Iterable[PromptSize]) -> PromptSize:
    """Several prompts of one request."""
    each = list(sizes)
    tokens = [size.tokens for size in each if size.tokens is not None]
    return PromptSize(
        prompts=sum(size.prompts for size in each) or 1,
        text_bytes=sum(size.text_bytes for size in each),
        tokens=sum(tokens) if each and len(tokens) == len(each) else None,
        media_parts=sum(size.media_parts for size in each),
    )


def text_bytes(raw: Raw | None) -> int:
    """UTF-8 bytes of a JSON string; 0 for another value."""
    if first_byte(raw) != b'"' or raw is None:
        return 0
    quoted = bytes(raw)
    if b"\\" not in quoted:
        return len(quoted) - 2
    try:
        return len(_text.decode(quoted).encode())
    except ValueError:
        return len(quoted) - 2


def json_bytes(raw: Raw | None) -> int:
    """Bytes of a value that reaches the prompt in some form of JSON; 0 for null and empty values."""
    return len(raw) if raw is not None and len(raw) > 2 and bytes(raw) != b"null" else 0


def is_list(raw: Raw | None) -> bool:
    return first_byte(raw) == b"["


def first_byte(raw: Raw | None) -> bytes:
    return memoryview(raw)[:1].tobytes() if raw is not None else b""


def _size_of_one(raw: Raw | None) -> PromptSize:
    if is_list(raw) and raw is not None:
        try:
            return PromptSize(1, 0, tokens=len(_token_ids.decode(raw)))
        except (ValueError, RecursionError):
            return PromptSize(1, len(raw))
    return PromptSize(1, json_bytes(raw) if first_byte(raw) == b"{" else text_bytes(raw))


def _side(fields: Fields, names: tuple[str, ...]) -> list[int] | None:
    """Bytes of each item on one side of the pairs."""
    raw = next((fields[name] for name in names if name in fields), None)
    if raw is None:
        return None
    items = decode_items(raw) if is_list(raw) else [raw]
    return [text_bytes(item) or json_bytes(item) for item in items]


def _is_number(raw: Raw) -> bool:
    return first_byte(raw) in b"-0123456789"
