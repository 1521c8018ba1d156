"""Request bodies of a plain OpenAI-compatible engine, and what it checks in them.

Lenient as such engines are: nulls and unknown fields are accepted.
"""

from typing import Annotated

import msgspec

from fairqueue_sim.generation import BatchLimits
from fairqueue_sim.prompts import Prompt, chat_prompt, completion_prompts
from fairqueue_sim.refusal import Refusal

__all__ = ["ChatBody", "CompletionBody", "check_size"]

Count = Annotated[int, msgspec.Meta(ge=1, le=128)]


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None


class SamplingBody(msgspec.Struct, kw_only=True):
    """What chat and completions have in common."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: Count | None = None
    stop: str | list[str] | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def stop_sequences(self) -> list[str]:
        """`stop` as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class ContentPart(msgspec.Struct):
    """One part of a message; only text counts."""

    type: str
    text: str = ""


class Message(msgspec.Struct):
    """One chat message."""

    role: str
    content: str | list[ContentPart] | None = None


class ChatBody(SamplingBody, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None

    @property
    def limit(self) -> int | None:
        """The newer name of the limit wins."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def prompts(self) -> list[Prompt]:
        """One prompt."""
        return [chat_prompt(_text(message.content) for message in self.messages)]


class CompletionBody(SamplingBody, kw_only=True):
    """POST /v1/completions; prompts are texts or token ids, one or several."""

    prompt: str | list[str | int | list[int]]

    @property
    def limit(self) -> int | None:
        """OpenAI's default is 16 tokens."""
        return 16 if self.max_tokens is None else self.max_tokens

    def prompts(self) -> list[Prompt]:
        """All prompts in order."""
        return completion_prompts(self.prompt)


def check_size(prompt: Prompt, limit: int | None, limits: BatchLimits) -> None:
    """Raises Refusal for a request that can never be served."""
    if limit is not None and limit < 1:
        raise _invalid(f"max_tokens must be at least 1, got {limit}.", "max_tokens")
    wanted = prompt.tokens + (1 if limit is None else limit)
    if not prompt.tokens or wanted > limits.max_total_tokens:
        raise _invalid(
            f"This model's maximum context length is {limits.max_total_tokens} tokens. However, you requested "
            f"{wanted} tokens ({prompt.tokens} in the prompt, {wanted - prompt.tokens} in the completion).",
            "context_length_exceeded",
        )


def _invalid(message: str, code: str) -> Refusal:
    return Refusal(400, message, code)


def _text(content: str | list[ContentPart] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text for part in content)
    return content or ""
