"""Prompt sizes before the engine has counted them: text bytes over a learned ratio of bytes per token, and a learned
constant for each image or audio part.

Pure. Learned from the engine's own counts, for each route's shape and the models asked for there, which may have
tokenizers and templates of their own; a request's charge is always corrected to the engine's count at the end, so an
error here costs order, never exactness.
"""

from collections import OrderedDict
from dataclasses import dataclass

FIRST_BYTES_PER_TOKEN = 4.0
FIRST_TOKENS_PER_PART = 500.0
FADE = 0.98
# Clients write what they like as the name of a model.
MOST_MODELS = 256
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
    """Fading sums; zero where nothing was learned yet."""

    text_bytes: float = 0.0
    text_tokens: float = 0.0
    parts: float = 0.0
    part_tokens: float = 0.0

    def learn_text(self, text_bytes: int, tokens: int) -> None:
        self.text_bytes = self.text_bytes * FADE + text_bytes
        self.text_tokens = self.text_tokens * FADE + tokens

    def learn_parts(self, parts: int, tokens: float) -> None:
        self.parts = self.parts * FADE + parts
        self.part_tokens = self.part_tokens * FADE + tokens


class PromptSizes:
    """What is known of prompt sizes, by key (the shape of the route) and model.

    What was learned of a model on its route comes first, then what was learned on the route, then a first guess. Only
    the `MOST_MODELS` models used last are remembered.
    """

    def __init__(self) -> None:
        self._routes: dict[object, _Learned] = {}
        self._models: OrderedDict[tuple[object, str], _Learned] = OrderedDict()

    def estimate(self, key: object, text_bytes: int, media_parts: int = 0, *, model: str = "") -> int:
        """Tokens of a prompt with this many bytes of text and this many images and audio parts, at least 1."""
        known = self._known(key, model)
        tokens = _text_tokens(known, text_bytes)
        if media_parts:
            tokens += media_parts * _tokens_per_part(known)
        return max(1, round(tokens))

    def learn(self, key: object, text_bytes: int, tokens: int, media_parts: int = 0, *, model: str = "") -> None:
        """The engine counted `tokens` in such a prompt."""
        self._routes.setdefault(key, _Learned())
        if model:
            self._models.setdefault((key, model), _Learned())
            if len(self._models) > MOST_MODELS:
                self._models.popitem(last=False)
        known = self._known(key, model)
        if media_parts:
            rest = max(tokens - _text_tokens(known, text_bytes), 0.0)
            for learned in known:
                learned.learn_parts(media_parts, rest)
        elif text_bytes > 0 and tokens > 0:
            for learned in known:
                learned.learn_text(text_bytes, tokens)

    def _known(self, key: object, model: str) -> list[_Learned]:
        """What to ask, the nearest first."""
        known = []
        if model and (of_model := self._models.get((key, model))) is not None:
            self._models.move_to_end((key, model))
            known.append(of_model)
        if (of_route := self._routes.get(key)) is not None:
            known.append(of_route)
        return known


def _text_tokens(known: list[_Learned], text_bytes: int) -> float:
    for learned in known:
        if learned.text_tokens:
            return text_bytes * learned.text_tokens / learned.text_bytes
    return text_bytes / FIRST_BYTES_PER_TOKEN


def _tokens_per_part(known: list[_Learned]) -> float:
    for learned in known:
        if learned.parts:
            return learned.part_tokens / learned.parts
    return FIRST_TOKENS_PER_PART
