"""How the tokens of one output become chunks of a stream: how many share one, and what text is held back.

As in vLLM and SGLang: the first token has a chunk of its own, then `[[merge=4]]` puts four in a chunk, and whatever
else has come by then goes with them. Text that may be the beginning of a stop sequence waits for what follows, and the
stop sequence itself is never sent, though its tokens count. With `[[empty=1]]` every second chunk has an empty text.
"""

from typing import NamedTuple

from fairqueue_sim.engine import Choice
from fairqueue_sim.generation import FinishReason

__all__ = ["LiveText", "TextChunk", "final_text"]


class TextChunk(NamedTuple):
    """What one chunk of a stream says about one output; `numbers` are those of its tokens."""

    numbers: list[int]
    text: str
    reason: FinishReason | None


class LiveText:
    """Cuts one output into chunks; with `only_text`, tokens without text wait for one that has some."""

    def __init__(self, choice: Choice, *, only_text: bool = False) -> None:
        self.sent_tokens = 0
        self.matched_stop: str | None = None
        self._choice = choice
        self._only_text = only_text
        self._begun = False
        self._held_back_characters = max(map(len, choice.stop), default=1) - 1
        self._unsent: list[int] = []
        self._textless: list[int] = []
        self._tail = ""

    def push(self, numbers: list[int], reason: FinishReason | None) -> TextChunk | None:
        """Takes new tokens; returns a chunk if there are enough for one, always if the output has ended."""
        self._unsent.extend(numbers)
        if reason is None and self._begun and len(self._unsent) < self._choice.output.steering.merge:
            return None
        self._begun = True
        numbers, self._unsent = self._unsent, []
        tokens = map(self._choice.output.token, numbers)
        self._tail += "".join(token.text for token in tokens if not token.special)
        text = self._take_text(numbers, reason)
        self._textless.extend(numbers)
        if self._only_text and not text and reason is None:
            return None
        numbers, self._textless = self._textless, []
        self.sent_tokens += len(numbers)
        return TextChunk(numbers, text, reason)

    def _take_text(self, numbers: list[int], reason: FinishReason | None) -> str:
        if reason is FinishReason.STOP:
            text, self.matched_stop = _before_stop(self._tail, self._choice)
            return text
        length = len(self._tail)
        if reason is None:
            waits = self._choice.output.steering.empty and numbers[0] % 2
            length = 0 if waits else max(length - self._held_back_characters, 0)
        text, self._tail = self._tail[:length], self._tail[length:]
        return text


def final_text(choice: Choice, reason: FinishReason) -> tuple[str, str | None]:
    """The whole text of an output, and the stop sequence that ended it."""
    text = choice.output.text(choice.generation.generated_tokens)
    return _before_stop(text, choice) if reason is FinishReason.STOP else (text, None)


def _before_stop(text: str, choice: Choice) -> tuple[str, str | None]:
    place, stop = min((text.find(stop), stop) for stop in choice.stop if stop in text)
    return text[:place], stop
