"""Prompt sizes before the engine has counted them: text bytes over a learned ratio of bytes per token, and a learned
constant for each image or audio part.

Pure. Learned for each route's shape from the engine's own counts; a request's charge is always corrected to the
engine's count at the end, so an error here costs order, never exactness.
"""

from dataclasses import dataclass

FIRST_BYTES_PER_TOKEN = 4.0
FIRST_TOKENS_PER_PART = 500.0
FADE = 0.98
LONGEST_OUTPUT_TOKENS = 1_000_000
UNKNOWN_CONTEXT_TOKENS = 4096


def longest_output(context_tokens: int | None, prompt_tokens: int, max_tokens: int | None) -> int:
    """The longest output that one sequence may have: its own limit, else what is left of the engine's context."""
    room = context_tokens - prompt_tokens if context_tokens is not None else UNKNOWN_CONTEXT_TOKENS
    longest = max_tokens if max_tokens is not None else room
    if context_tokens is not None:
        longest = min(longest, max(room, 1))
    return max(1, min(longest, LONGEST_OUTPUT_TOKENS))


@dataclass(slots=True)
class _Learned:
    """Fading sums."""

    text_bytes: float = 0.0
    text_tokens: float = 0.0
    parts: float = 0.0
    part_tokens: float = 0.0


class PromptSizes:
    """What is known of prompt sizes, by key (the shape of the route)."""

    def __init__(self) -> None:
        self._learned: dict[object, _Learned] = {}

    def estimate(self, key: object, text_bytes: int, media_parts: int = 0) -> int:
        """Tokens of a prompt with this many bytes of text and this many images and audio parts, at least 1."""
        learned = self._learned.get(key, _Learned())
        tokens = self._text_tokens(learned, text_bytes)
        if media_parts:
            tokens += media_parts * (learned.part_tokens / learned.parts if learned.parts else FIRST_TOKENS_PER_PART)
        return max(1, round(tokens))

    def learn(self, key: object, text_bytes: int, tokens: int, media_parts: int = 0) -> None:
        """The engine counted `tokens` in such a prompt."""
        learned = self._learned.setdefault(key, _Learned())
        if media_parts:
            rest = max(tokens - self._text_tokens(learned, text_bytes), 0.0)
            learned.parts = learned.parts * FADE + media_parts
            learned.part_tokens = learned.part_tokens * FADE + rest
        elif text_bytes > 0 and tokens > 0:
            learned.text_bytes = learned.text_bytes * FADE + text_bytes
            learned.text_tokens = learned.text_tokens * FADE + tokens

    @staticmethod
    def _text_tokens(learned: _Learned, text_bytes: int) -> float:
        if not learned.text_tokens:
            return text_bytes / FIRST_BYTES_PER_TOKEN
        return text_bytes * learned.text_tokens / learned.text_bytes
