"""The simulator's own tokenizer: deterministic, quick, and the same for every engine.

A token is one of: the start token; up to eight letters, digits or underscores with at most one space before them; any
other single character. So " hello" is one token, "What is deep learning?" is five and the start token, and a prompt of
n short words has n + 1 tokens. The counts are near those of real tokenizers for English text (about four bytes a token
with the space), but no real tokenizer's.

A chat message costs seven tokens besides its text, the template eight more with the start token.
"""

import re
from typing import NamedTuple
from zlib import crc32

__all__ = ["CHAT_TEMPLATE_TOKENS", "MESSAGE_TOKENS", "START_TOKEN", "PromptToken", "count_tokens", "tokenize"]

START_TOKEN = "<s>"
MESSAGE_TOKENS = 7
CHAT_TEMPLATE_TOKENS = 8
# Ids below this are left to special tokens, those from 1000 on belong to what the model says.
_FIRST_PROMPT_ID, _PROMPT_IDS = 3, 990
_PIECE = re.compile(r" ?\w{1,8}|[^\w]")


class PromptToken(NamedTuple):
    """One token of a prompt with its place in the text (in characters)."""

    id: int
    text: str
    start: int
    stop: int


def count_tokens(text: str) -> int:
    """Number of tokens of a text, without the start token."""
    return len(_PIECE.findall(text))


def tokenize(text: str) -> list[PromptToken]:
    """The tokens of a text, without the start token."""
    return [
        PromptToken(_FIRST_PROMPT_ID + crc32(match[0].encode()) % _PROMPT_IDS, match[0], match.start(), match.end())
        for match in _PIECE.finditer(text)
    ]
