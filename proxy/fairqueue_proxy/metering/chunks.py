"""The parts of OpenAI-shaped replies that are counted, as typed structures.

Only what is needed is decoded; text stays raw, because it matters only whether there is any. Shared by all engines that
speak these shapes, plain and streamed.
"""

from typing import Annotated

import msgspec
from msgspec import Raw

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: Count | None = None


class UsageField(msgspec.Struct):
    prompt_tokens: Count
    completion_tokens: Count
    prompt_tokens_details: PromptTokensDetails | None = None

    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0


class Timings(msgspec.Struct):
    """llama.cpp's counts: `prompt_n` was prefilled, `cache_n` was found in the cache, `predicted_n` grows."""

    predicted_n: Count
    prompt_n: Count
    cache_n: Count = 0

    def prompt_tokens(self) -> int:
        return self.prompt_n + self.cache_n


class Message(msgspec.Struct):
    """The `delta` of a chunk or the `message` of a plain reply."""

    content: Raw = Raw()
    reasoning_content: Raw = Raw()
    reasoning: Raw = Raw()
    refusal: Raw = Raw()
    tool_calls: Raw = Raw()
    function_call: Raw = Raw()

    def text_bytes(self) -> int:
        return sum(
            len(raw)
            for raw in (
                self.content,
                self.reasoning_content,
                self.reasoning,
                self.refusal,
                self.tool_calls,
                self.function_call,
            )
            if has_text(raw)
        )


class Choice(msgspec.Struct):
    index: Count = 0
    text: Raw = Raw()
    delta: Message | None = None
    message: Message | None = None
    finish_reason: str | None = None

    def text_bytes(self) -> int:
        """Bytes of JSON that carry text or a tool call; 0 for role-only and finish chunks."""
        text = len(self.text) if has_text(self.text) else 0
        return text + sum(part.text_bytes() for part in (self.delta, self.message) if part is not None)


class Chunk(msgspec.Struct):
    """One event, or a whole plain reply, of a chat or completions route."""

    choices: list[Choice] | None = None
    usage: UsageField | None = None
    timings: Timings | None = None
    error: Raw = Raw()
    system_fingerprint: Raw = Raw()


def has_text(raw: Raw) -> bool:
    """Whether a raw value is more than null, "", [] or {}."""
    return len(raw) > 2 and bytes(raw) != b"null"


decode_chunk = msgspec.json.Decoder(Chunk).decode
