"""Sizes of prompts: bytes of text, token ids, how many prompts, how many images.

The sizes feed an estimate that the engine's own count later corrects, so a prompt of an unknown shape is measured by
the bytes of its JSON instead of being refused. Pure functions.
"""

from dataclasses import dataclass

import msgspec
from msgspec import Raw

from fairqueue_proxy.engines.fields import Fields

# Besides the messages: what chat templates also put into the prompt.
_TEMPLATE_FIELDS = ("tools", "functions", "documents", "tool_prompt")


@dataclass(frozen=True, slots=True)
class PromptSize:
    """All prompts of one request, each counted once."""

    prompts: int
    text_bytes: int
    tokens: int | None = None
    """Exact, if all prompts are token ids."""

    media_parts: int = 0


class _Part(msgspec.Struct):
    text: Raw = Raw()


class _Message(msgspec.Struct):
    content: Raw = Raw()
    reasoning_content: Raw = Raw()
    tool_calls: Raw = Raw()
    function_call: Raw = Raw()


_text = msgspec.json.Decoder(str)
_messages = msgspec.json.Decoder(list[_Message])
_parts = msgspec.json.Decoder(list[_Part])
_token_ids = msgspec.json.Decoder(list[int])
_items = msgspec.json.Decoder(list[Raw])


def size_of_text(raw: Raw | None) -> PromptSize:
    """One prompt that must be a string (TGI's `inputs`)."""
    return PromptSize(1, _text_bytes(raw))


def size_of_prompt(raw: Raw | None) -> PromptSize:
    """OpenAI's and llama.cpp's `prompt`: a string, token ids, or a list of either."""
    if _first_byte(raw) != b"[" or raw is None:
        return _size_of_one(raw)
    try:
        ids = _token_ids.decode(raw)
        return PromptSize(1, 0, tokens=len(ids)) if ids else PromptSize(1, 0)
    except (ValueError, RecursionError):
        pass
    # The whole body has been decoded before, so this is a list.
    items = _items.decode(raw)
    if any(_is_number(item) for item in items):
        # llama.cpp reads a list of strings and token ids as one prompt.
        return PromptSize(1, sum(_text_bytes(item) for item in items))
    sizes = [_size_of_one(item) for item in items]
    tokens = [size.tokens for size in sizes if size.tokens is not None]
    exact = sum(tokens) if len(tokens) == len(sizes) else None
    return PromptSize(len(sizes), sum(size.text_bytes for size in sizes), tokens=exact)


def size_of_chat(fields: Fields) -> PromptSize:
    """`messages` and what else a chat template puts into the prompt."""
    raw = fields.get("messages")
    extra = sum(_json_bytes(fields.get(name)) for name in _TEMPLATE_FIELDS)
    if _first_byte(raw) != b"[" or raw is None:
        return PromptSize(1, extra)
    try:
        sizes = [_size_of_message(message) for message in _messages.decode(raw)]
    except (ValueError, RecursionError):
        return PromptSize(1, extra + len(raw))
    return PromptSize(1, extra + sum(text for text, _ in sizes), media_parts=sum(media for _, media in sizes))


def _size_of_one(raw: Raw | None) -> PromptSize:
    if _first_byte(raw) == b"[" and raw is not None:
        try:
            return PromptSize(1, 0, tokens=len(_token_ids.decode(raw)))
        except (ValueError, RecursionError):
            return PromptSize(1, len(raw))
    return PromptSize(1, _json_bytes(raw) if _first_byte(raw) == b"{" else _text_bytes(raw))


def _size_of_message(message: _Message) -> tuple[int, int]:
    """Bytes of text, and the parts that are not text."""
    text = _text_bytes(message.reasoning_content) + _json_bytes(message.tool_calls) + _json_bytes(message.function_call)
    if _first_byte(message.content) != b"[":
        return text + _text_bytes(message.content), 0
    try:
        parts = _parts.decode(message.content)
    except (ValueError, RecursionError):
        return text + len(message.content), 0
    media = sum(1 for part in parts if not len(part.text))
    return text + sum(_text_bytes(part.text) for part in parts), media


def _text_bytes(raw: Raw | None) -> int:
    """UTF-8 bytes of a JSON string; 0 for another value."""
    if _first_byte(raw) != b'"' or raw is None:
        return 0
    quoted = bytes(raw)
    if b"\\" not in quoted:
        return len(quoted) - 2
    try:
        return len(_text.decode(quoted).encode())
    except ValueError:
        return len(quoted) - 2


def _json_bytes(raw: Raw | None) -> int:
    """Bytes of a value that reaches the prompt in some form of JSON; 0 for null and empty values."""
    return len(raw) if raw is not None and len(raw) > 2 and bytes(raw) != b"null" else 0


def _is_number(raw: Raw) -> bool:
    return _first_byte(raw) in b"-0123456789"


def _first_byte(raw: Raw | None) -> bytes:
    return memoryview(raw)[:1].tobytes() if raw is not None else b""
