"""What the simulated model says: token ids and texts, and where an output ends.

An output is a pure function of its steering, its style and a few numbers drawn once from the request's own random
generator, so that token n can be asked for at any time and costs the same for every n.
Two styles: `random` (words of a made-up vocabulary, with quotes, line breaks and many-byte characters among them, so
that whatever parses the stream meets them) and `numbered` (" word1", " word2", ...: easy to compare).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random
from typing import Literal, NamedTuple

import msgspec

from fairqueue_sim.generation import PIECE_TOKENS, FinishReason
from fairqueue_sim.steering import Steering

__all__ = ["EOS_TOKEN", "ModelOutput", "OutputStyle", "OutputToken", "output_end"]

OutputStyle = Literal["random", "numbered"]
_FIRST_WORD_ID, _FIRST_BYTE_ID, _CHOSEN_WORD_ID = 1000, 2000, 500
_UTF8_TEXT = " h\u00e9llo \u65e5\u672c \U0001f600 end"


class OutputToken(NamedTuple):
    """One generated token; `json` is its text as a JSON string."""

    id: int
    text: str
    json: bytes
    special: bool = False


EOS_TOKEN = OutputToken(2, "</s>", b'"</s>"', special=True)


def _token(token_id: int, text: str) -> OutputToken:
    return OutputToken(token_id, text, msgspec.json.encode(text))


@cache
def _vocabulary() -> tuple[OutputToken, ...]:
    onsets = ["b", "br", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v"]
    words = ["".join(parts) for parts in product(onsets, ["a", "e", "i", "o", "u"], ["", "l", "n", "r", "st"])]
    odd = ["\n", ".", ",", '"', "\\", "'", "\u00e9t\u00e9", "\u65e5\u672c", "\U0001f600", "{", "}", "\t", "data:"]
    # The odd ones are spread, so that every longer output has some; the length is prime, so that any stride does.
    pieces = [f" {word}" for word in words][:388]
    for index, text in enumerate(odd):
        pieces.insert(index * 29, text)
    return tuple(_token(_FIRST_WORD_ID + index, text) for index, text in enumerate(pieces))


@cache
def _utf8_tokens() -> tuple[OutputToken, ...]:
    """One token a byte; a character's text comes with its last byte, the bytes before it have none."""
    tokens: list[OutputToken] = []
    for character in _UTF8_TEXT:
        held_back = [""] * (len(character.encode()) - 1)
        tokens += [_token(_FIRST_BYTE_ID + len(tokens) + i, text) for i, text in enumerate([*held_back, character], 1)]
    return tuple(tokens)


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The endless text from which one generation takes its tokens, up to the end-of-sequence token if it has one."""

    steering: Steering
    style: OutputStyle
    start: int
    stride: int
    eos_at: int | None

    @classmethod
    def draw(cls, steering: Steering, style: OutputStyle, random: Random, mean_tokens: float) -> "ModelOutput":
        """Chooses an output; without `[[eos=..]]` its length is drawn around `mean_tokens` (0: it never ends)."""
        size = len(_vocabulary())
        start, stride, chance = random.randrange(size), random.randrange(1, size), random.random()
        eos_at = steering.eos
        if eos_at is None and steering.utf8:
            eos_at = len(_utf8_tokens()) + 1
        elif eos_at is None and mean_tokens > 1:
            eos_at = 1 + int(math.log(1 - chance) / math.log(1 - 1 / mean_tokens))
        return cls(steering, style, start, stride, eos_at)

    def token(self, number: int) -> OutputToken:
        """The token of that number, from 1."""
        if number == self.eos_at:
            return EOS_TOKEN
        if self.steering.word is not None:
            return _token(_CHOSEN_WORD_ID, f" {self.steering.word}")
        if self.steering.utf8:
            tokens = _utf8_tokens()
            return tokens[(number - 1) % len(tokens)]
        if self.style == "numbered":
            return OutputToken(_FIRST_WORD_ID + number, f" word{number}", b'" word%d"' % number)
        vocabulary = _vocabulary()
        return vocabulary[(self.start + number * self.stride) % len(vocabulary)]

    def text(self, tokens: int) -> str:
        """The text of the first so many tokens; special ones have none."""
        return "".join(t.text for t in map(self.token, range(1, tokens + 1)) if not t.special)


def output_end(
    output: ModelOutput, stop_sequences: Sequence[str], wanted_tokens: int
) -> tuple[int | None, FinishReason]:
    """With which token an output ends by itself, and why: its own end, or the first stop sequence in its text."""
    if stop_sequences:
        longest = max(map(len, stop_sequences))
        tail = ""
        # An output is cut at whole pieces, so that it may come to be longer than wanted.
        last = output.eos_at or (wanted_tokens + PIECE_TOKENS)
        for number in range(1, last):
            text = output.token(number).text
            tail = (tail + text)[-(longest + len(text)) :]
            if any(stop in tail for stop in stop_sequences):
                return number, FinishReason.STOP
    return output.eos_at, FinishReason.EOS
