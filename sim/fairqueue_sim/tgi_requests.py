"""Request bodies of Text Generation Inference: their fields, and what its router checks in them, in its words.

Unknown fields are accepted everywhere, as there. Tools and grammars are accepted and ignored.
"""

from typing import Annotated

import msgspec

from fairqueue_sim.generation import PIECE_TOKENS, BatchLimits
from fairqueue_sim.refusal import Refusal
from fairqueue_sim.tokenizer import CHAT_TEMPLATE_TOKENS, MESSAGE_TOKENS, count_tokens

__all__ = [
    "MAX_BEST_OF",
    "MAX_CLIENT_BATCH_SIZE",
    "MAX_STOP_SEQUENCES",
    "ChatRequest",
    "CompatGenerateRequest",
    "CompletionRequest",
    "GenerateParameters",
    "GenerateRequest",
    "check_parameters",
    "check_size",
]

MAX_BEST_OF, MAX_STOP_SEQUENCES, MAX_TOP_N_TOKENS, MAX_CLIENT_BATCH_SIZE = 2, 4, 5, 4

U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
# msgspec takes no upper bound beyond 63 bits.
U64 = Annotated[int, msgspec.Meta(ge=0)]
I32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class GenerateParameters(msgspec.Struct):
    """`parameters` of the native routes; chat and completions are translated into them."""

    best_of: U32 | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: I32 | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool = False
    max_new_tokens: U32 | None = None
    return_full_text: bool | None = None
    stop: list[str] = []
    truncate: U32 | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    seed: U64 | None = None
    top_n_tokens: U32 | None = None


def _sampling_parameters() -> GenerateParameters:
    return GenerateParameters(do_sample=True)


class GenerateRequest(msgspec.Struct):
    """POST /generate, /generate_stream and /tokenize."""

    inputs: str
    parameters: GenerateParameters = msgspec.field(default_factory=_sampling_parameters)


class CompatGenerateRequest(msgspec.Struct):
    """POST /."""

    inputs: str
    parameters: GenerateParameters = msgspec.field(default_factory=_sampling_parameters)
    stream: bool = False


class CompletionRequest(msgspec.Struct):
    """POST /v1/completions."""

    prompt: str | Annotated[list[str], msgspec.Meta(min_length=1)]
    model: str | None = None
    max_tokens: U32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool = False
    seed: U64 | None = None
    suffix: str | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: list[str] | None = None

    def parameters(self) -> GenerateParameters:
        """The same in the native route's terms."""
        return GenerateParameters(
            temperature=self.temperature or None,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            top_p=self.top_p,
            do_sample=self.temperature != 0,
            max_new_tokens=self.max_tokens,
            stop=self.stop or [],
            seed=self.seed,
        )


class ContentPart(msgspec.Struct):
    """One part of a chat message; only text counts."""

    type: str
    text: str = ""


class ChatMessage(msgspec.Struct):
    """One message; any role is accepted."""

    role: str
    content: str | list[ContentPart] | None = None

    def text(self) -> str:
        """What the template gets."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct):
    """`stream_options` of a chat request."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage]
    model: str | None = None
    frequency_penalty: float | None = None
    logit_bias: list[float] | None = None
    logprobs: bool | None = None
    top_logprobs: U32 | None = None
    max_tokens: U32 | None = None
    max_completion_tokens: U32 | None = None
    n: U32 | None = None
    presence_penalty: float | None = None
    stop: list[str] | None = None
    stream: bool = False
    seed: U64 | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream_options: StreamOptions = msgspec.field(default_factory=StreamOptions)

    def prompt(self) -> tuple[str, int]:
        """The templated text, and its tokens."""
        texts = [message.text() for message in self.messages]
        turns = "".join(f"{m.role}: {text}</s>" for m, text in zip(self.messages, texts, strict=True))
        tokens = CHAT_TEMPLATE_TOKENS + sum(MESSAGE_TOKENS + count_tokens(text) for text in texts)
        return f"<s>{turns}assistant:", tokens

    def parameters(self) -> GenerateParameters:
        """The same in the native route's terms."""
        # TGI's router really adds two.
        penalty = None if self.presence_penalty is None else self.presence_penalty + 2.0
        return GenerateParameters(
            temperature=self.temperature or None,
            repetition_penalty=penalty,
            frequency_penalty=self.frequency_penalty,
            top_p=self.top_p,
            do_sample=self.temperature != 0,
            max_new_tokens=self.max_completion_tokens if self.max_tokens is None else self.max_tokens,
            stop=self.stop or [],
            seed=self.seed,
            top_n_tokens=self.top_logprobs,
        )


def check_parameters(given: GenerateParameters) -> None:
    """Raises Refusal for the first parameter that is out of range, in the router's order."""
    samples = given.do_sample or any(
        value is not None for value in (given.temperature, given.top_k, given.top_p, given.typical_p)
    )
    top_n, stops = given.top_n_tokens, len(given.stop)
    checks = (
        ((given.best_of or 1) > 1 and not samples, "you must use sampling when `best_of` is > 1"),
        (not _above_zero(given.temperature), "`temperature` must be strictly positive"),
        (not _above_zero(given.repetition_penalty), "`repetition_penalty` must be strictly positive"),
        (abs(given.frequency_penalty or 0.0) > 2.0, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        (not _between_zero_and_one(given.top_p), "`top_p` must be > 0.0 and < 1.0"),
        (not _between_zero_and_one(given.typical_p), "`typical_p` must be > 0.0 and < 1.0"),
        (not _above_zero(given.top_k), "`top_k` must be strictly positive"),
        (given.max_new_tokens == 0, "`max_new_tokens` must be strictly positive"),
        (
            stops > MAX_STOP_SEQUENCES,
            f"`stop` supports up to {MAX_STOP_SEQUENCES} stop sequences. Given: {stops}",
        ),
        (
            top_n is not None and top_n > MAX_TOP_N_TOKENS,
            f"`top_n_tokens` must be >= 0 and <= {MAX_TOP_N_TOKENS}. Given: {top_n}",
        ),
    )
    for refused, message in checks:
        if refused:
            raise _invalid(message)


def check_size(text: str, tokens: int, given: GenerateParameters, limits: BatchLimits) -> int:
    """Returns the prompt's tokens after `truncate`; raises Refusal for an empty prompt or one that is too long."""
    if not text:
        raise _invalid("`inputs` cannot be empty")
    longest = limits.max_input_tokens
    if given.truncate is not None:
        if not 0 < given.truncate <= longest:
            raise _invalid(f"`truncate` must be strictly positive and less than {longest}. Given: {given.truncate}")
        tokens = min(tokens, given.truncate)
    new_tokens = given.max_new_tokens
    if new_tokens is None:
        new_tokens = max(limits.max_total_tokens - tokens, 0)
    new_tokens = min(new_tokens, PIECE_TOKENS)
    if tokens + new_tokens > limits.max_total_tokens:
        raise _invalid(
            f"`inputs` tokens + `max_new_tokens` must be <= {limits.max_total_tokens}. "
            f"Given: {tokens} `inputs` tokens and {new_tokens} `max_new_tokens`"
        )
    if tokens > longest:
        raise _invalid(f"`inputs` must have less than {longest} tokens. Given: {tokens}")
    return tokens


def _invalid(message: str) -> Refusal:
    return Refusal(422, f"Input validation error: {message}", "validation")


def _above_zero(value: float | None) -> bool:
    return value is None or value > 0


def _between_zero_and_one(value: float | None) -> bool:
    return value is None or 0.0 < value < 1.0
