"""Prompts of a wanted length that no prefix cache has seen, of common words: about one token each."""

import random

from fairqueue_cli.load_spec import Api

_OPENING = ("Write", "a", "long", "story", "about")
_CLOSING = ("Write", "a", "long", "story", "about", "all", "these")
# A prompt this much longer than the closing still begins with enough words to be like no other.
_LEAST_RANDOM_WORDS = 8
_VOCABULARY = (
    "river stone lamp winter copper garden engine cloud silver market paper violin harbor desert candle forest "
    "bridge mirror anchor barley castle dragon ember falcon glacier hammer island jacket kettle ladder meadow needle "
    "orchard pepper quarry ribbon saddle thunder umbrella valley wagon yarn zebra acorn blanket compass dolphin"
)
_WORDS = tuple(_VOCABULARY.split())
# What fairqueue's simulated engines add to the words of a prompt: a start token, or the template of a chat with one
# message. Real models' templates are about as long.
_TEMPLATE_TOKENS: dict[Api, int] = {"tgi": 1, "openai": 15}


def random_prompt(rng: random.Random, words: int) -> str:
    """A fixed opening, then random words. At least the last word is random, so that short prompts differ too."""
    opening = _OPENING[: words - 1]
    return " ".join((*opening, *(rng.choice(_WORDS) for _ in range(words - len(opening)))))


def unseen_prompt(rng: random.Random, api: Api, tokens: int) -> str:
    """A prompt of so many tokens with its template, which is exact for fairqueue's simulated engines (down to the
    template and one word). It begins with random words, as a cache keeps what prompts have in common from the start."""
    words = max(tokens - _TEMPLATE_TOKENS[api], 1)
    closing = _CLOSING if words >= len(_CLOSING) + _LEAST_RANDOM_WORDS else ()
    return " ".join((*rng.choices(_WORDS, k=words - len(closing)), *closing))
