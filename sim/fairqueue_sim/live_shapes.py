"""What the streams of vLLM's and SGLang's OpenAI routes have in common."""

from dataclasses import dataclass, field

from fairqueue_sim.generation import FinishReason
from fairqueue_sim.live_text import LiveText
from fairqueue_sim.openai_shapes import Reply

__all__ = ["LiveStreamShape", "finish_reason"]


@dataclass(slots=True)
class LiveStreamShape:
    """The first fields of all chunks, and how far each output is; `prompt_tokens` is the sum over all prompts."""

    reply: Reply
    prompt_tokens: int
    opening: bytes = field(default=b"", init=False)
    texts: dict[int, LiveText] = field(default_factory=dict, init=False)
    has_failed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.opening = self.reply.opening(chunk=True)

    @property
    def sent_tokens(self) -> int:
        """Tokens sent over all outputs."""
        return sum(text.sent_tokens for text in self.texts.values())


def finish_reason(reason: FinishReason | None) -> bytes:
    """OpenAI's word for it, as JSON."""
    if reason is None:
        return b"null"
    words = {FinishReason.LENGTH: b'"length"', FinishReason.ABORT: b'"abort"'}
    return words.get(reason, b'"stop"')
