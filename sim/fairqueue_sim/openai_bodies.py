"""Bodies of chat and completions as engines on pydantic take them: vLLM and SGLang."""

from collections.abc import Sequence

from fairqueue_sim.lax_bodies import LaxModel
from fairqueue_sim.prompts import Prompt, chat_prompt, completion_prompts

__all__ = ["ChatBody", "CompletionBody", "Message", "SamplingBody", "StreamOptions", "message_text"]


class StreamOptions(LaxModel):
    """`stream_options`."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class SamplingBody(LaxModel):
    """What both have in common; `rid` and `request_id` are what others can abort the request by."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    n: int | None = 1
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    priority: int = 0
    ignore_eos: bool = False
    echo: bool = False
    return_token_ids: bool | None = None
    truncate_prompt_tokens: int | None = None
    request_id: str | None = None
    rid: str | None = None

    @property
    def stop_sequences(self) -> list[str]:
        """`stop` as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def copies(self) -> int:
        """How many outputs each prompt gets."""
        return 1 if self.n is None else self.n

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """Whether each chunk has the usage so far."""
        options = self.stream_options
        return options is not None and bool(options.include_usage and options.continuous_usage_stats)

    @property
    def limit(self) -> int | None:
        """How many tokens an output may have."""
        return self.max_tokens

    def truncated(self, prompts: list[Prompt]) -> list[Prompt]:
        """The prompts with no more tokens than `truncate_prompt_tokens` says."""
        longest = self.truncate_prompt_tokens
        if longest is None or longest < 0:
            return prompts
        return [Prompt(prompt.text, min(prompt.tokens, longest)) for prompt in prompts]


class ContentPart(LaxModel):
    """One part of a message; only text counts."""

    type: str
    text: str = ""


class Message(LaxModel):
    """One message of a conversation."""

    role: str
    content: str | list[ContentPart] | None = None


def message_text(content: str | Sequence[ContentPart] | None) -> str:
    """The text of a message."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


class ChatBody(SamplingBody):
    """POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0

    @property
    def limit(self) -> int | None:
        """The newer name of the limit wins."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def logprobs_of(self) -> int | None:
        """Of how many tokens for each place the log probabilities are wanted; None: of none."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def prompts(self) -> list[Prompt]:
        """One prompt."""
        return self.truncated([chat_prompt(message_text(message.content) for message in self.messages)])


class CompletionBody(SamplingBody):
    """POST /v1/completions; prompts are texts or token ids, one or several."""

    prompt: list[int] | list[list[int]] | str | list[str] | None = None
    logprobs: int | None = None
    suffix: str | None = None

    @property
    def limit(self) -> int | None:
        """OpenAI's default is 16 tokens."""
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def logprobs_of(self) -> int | None:
        """As for chat."""
        return self.logprobs

    def prompts(self) -> list[Prompt]:
        """All prompts in order."""
        return self.truncated(completion_prompts(self.prompt or []))
