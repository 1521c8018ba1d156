"""A `usage` object in any of the words that routes have for it, as a typed structure."""

import msgspec

from fairqueue_proxy.metering.chunks import Count, PromptTokensDetails


class TokenUsage(msgspec.Struct):
    """OpenAI's chat and completions say prompt and completion, its responses and Anthropic input and output."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    input_tokens_details: PromptTokensDetails | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None

    def prompt(self) -> int | None:
        """All tokens of the prompt. Anthropic's `input_tokens` are those that no cache had, so the others are added."""
        if self.input_tokens is None:
            return self.prompt_tokens
        return self.input_tokens + (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)

    def output(self) -> int | None:
        return self.completion_tokens if self.output_tokens is None else self.output_tokens

    def cached(self) -> int:
        details = self.input_tokens_details or self.prompt_tokens_details
        return self.cache_read_input_tokens or (details.cached_tokens or 0 if details is not None else 0)


decode_usage = msgspec.json.Decoder(TokenUsage).decode
