"""Prompts of a wanted length that no prefix cache has seen: a fixed opening, then random words."""

import random

_OPENING = ("Write", "a", "long", "story", "about")
_VOCABULARY = (
    "river stone lamp winter copper garden engine cloud silver market paper violin harbor desert candle forest "
    "bridge mirror anchor barley castle dragon ember falcon glacier hammer island jacket kettle ladder meadow needle "
    "orchard pepper quarry ribbon saddle thunder umbrella valley wagon yarn zebra acorn blanket compass dolphin"
)
_WORDS = tuple(_VOCABULARY.split())


def random_prompt(rng: random.Random, words: int) -> str:
    """At least the last word is random, so that short prompts differ too."""
    opening = _OPENING[: words - 1]
    return " ".join((*opening, *(rng.choice(_WORDS) for _ in range(words - len(opening)))))
