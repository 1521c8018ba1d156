"""Prompts as the model gets them: their text, which may hold steering marks, and how many tokens they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairqueue_sim.tokenizer import CHAT_TEMPLATE_TOKENS, MESSAGE_TOKENS, count_tokens, tokenize

__all__ = ["TEMPLATE_TOKEN_ID", "Prompt", "chat_prompt", "completion_prompts", "prompt_ids"]

TEMPLATE_TOKEN_ID = 1


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text for the model, and how many tokens it is."""

    text: str
    tokens: int


def chat_prompt(texts: Iterable[str]) -> Prompt:
    """The prompt of a conversation: the texts of its messages, one after the other."""
    texts = list(texts)
    tokens = CHAT_TEMPLATE_TOKENS + sum(MESSAGE_TOKENS + count_tokens(text) for text in texts)
    return Prompt("\n".join(texts), tokens)


def completion_prompts(prompt: str | Sequence[str | int | list[int]]) -> list[Prompt]:
    """All prompts in order; a prompt is a text or a list of token ids, and may stand alone or in a list."""
    if isinstance(prompt, str):
        return [_prompt(prompt)]
    if all(isinstance(item, int) for item in prompt):
        return [Prompt("", len(prompt))]
    return [_prompt(item) for item in prompt if not isinstance(item, int)]


def _prompt(item: str | list[int]) -> Prompt:
    return Prompt(item, 1 + count_tokens(item)) if isinstance(item, str) else Prompt("", len(item))


def prompt_ids(prompt: Prompt) -> list[int]:
    """The ids of its tokens; the start token and those of the chat template have one and the same."""
    ids = [token.id for token in tokenize(prompt.text)][: prompt.tokens]
    return [TEMPLATE_TOKEN_ID] * (prompt.tokens - len(ids)) + ids
