"""Sizes of conversations: bytes of text in messages, tools and instructions, and how many parts are no text.

OpenAI's chat messages, the items of its responses, Anthropic's messages: all are lists of objects whose `content` is a
text or a list of parts. What has another shape is measured by the bytes of its JSON. Pure functions.
"""

import msgspec
from msgspec import Raw

from fairqueue_proxy.engines.fields import Fields, decode_items
from fairqueue_proxy.engines.prompts import PromptSize, is_list, json_bytes, sum_of, text_bytes

# Besides the messages: what chat templates also put into the prompt.
_TEMPLATE_FIELDS = ("tools", "functions", "documents", "tool_prompt")

# The results of tools hold parts of their own; nobody nests them deeper.
_MOST_LEVELS = 4


class _Part(msgspec.Struct):
    """A part of a content, or an item of a responses request: its text under one of these names, else it is media."""

    text: Raw = Raw()
    thinking: Raw = Raw()
    refusal: Raw = Raw()
    content: Raw = Raw()
    input: Raw = Raw()


class _Message(msgspec.Struct):
    content: Raw = Raw()
    reasoning_content: Raw = Raw()
    reasoning: Raw = Raw()
    tool_calls: Raw = Raw()
    function_call: Raw = Raw()
    arguments: Raw = Raw()
    output: Raw = Raw()
    summary: Raw = Raw()


_messages = msgspec.json.Decoder(list[_Message])
_parts = msgspec.json.Decoder(list[_Part])


def size_of_chat(fields: Fields) -> PromptSize:
    """`messages` and what else a chat template puts into the prompt; a list of conversations is several prompts."""
    raw = fields.get("messages")
    extra = sum(json_bytes(fields.get(name)) for name in _TEMPLATE_FIELDS)
    if not is_list(raw) or raw is None:
        return PromptSize(1, extra)
    items = decode_items(raw)
    if items and all(is_list(item) for item in items):
        sizes = [_size_of_list(item) for item in items]
        return sum_of(PromptSize(1, text + extra, media_parts=media) for text, media in sizes)
    text, media = _size_of_list(raw)
    return PromptSize(1, extra + text, media_parts=media)


def size_of_messages(fields: Fields) -> PromptSize:
    """Anthropic's `system`, `messages` and `tools`."""
    text, media = _size_of_content(fields.get("system"), 0)
    chat = size_of_chat(fields)
    return PromptSize(1, chat.text_bytes + text, media_parts=chat.media_parts + media)


def size_of_responses(fields: Fields) -> PromptSize:
    """`input`, `instructions` and `tools` of a responses request."""
    extra = text_bytes(fields.get("instructions")) + json_bytes(fields.get("tools"))
    raw = fields.get("input")
    if not is_list(raw) or raw is None:
        return PromptSize(1, extra + text_bytes(raw))
    text, media = _size_of_list(raw)
    return PromptSize(1, extra + text, media_parts=media)


def _size_of_list(raw: Raw) -> tuple[int, int]:
    """Bytes of text in a list of messages, and the parts that are not text."""
    try:
        sizes = [_size_of_message(message) for message in _messages.decode(raw)]
    except (ValueError, RecursionError):
        return len(raw), 0
    return sum(text for text, _ in sizes), sum(media for _, media in sizes)


def _size_of_message(message: _Message) -> tuple[int, int]:
    text = sum(text_bytes(raw) for raw in (message.reasoning_content, message.reasoning, message.arguments))
    text += json_bytes(message.tool_calls) + json_bytes(message.function_call)
    contents = [_size_of_content(raw, 0) for raw in (message.content, message.output, message.summary)]
    return text + sum(size for size, _ in contents), sum(media for _, media in contents)


def _size_of_content(raw: Raw | None, level: int) -> tuple[int, int]:
    if not is_list(raw) or raw is None:
        return text_bytes(raw), 0
    if level == _MOST_LEVELS:
        return len(raw), 0
    try:
        sizes = [_size_of_part(part, level) for part in _parts.decode(raw)]
    except (ValueError, RecursionError):
        return len(raw), 0
    return sum(text for text, _ in sizes), sum(media for _, media in sizes)


def _size_of_part(part: _Part, level: int) -> tuple[int, int]:
    texts = [raw for raw in (part.text, part.thinking, part.refusal) if len(raw)]
    if not texts and not len(part.content) and not len(part.input):
        return 0, 1
    inner, media = _size_of_content(part.content, level + 1) if len(part.content) else (0, 0)
    return sum(text_bytes(raw) for raw in texts) + json_bytes(part.input) + inner, media
