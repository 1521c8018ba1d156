"""Adds up the tokens of a reply's sequences into one `Usage`.

Engines count per choice index, per prompt or over the whole reply, as differences or as running totals, once at the end
or all the time. The meters say which; the sums are kept here. Counting only, no bytes.
"""

from dataclasses import dataclass

from fairqueue_proxy.metering.usage import Usage


@dataclass(slots=True)
class _Sequence:
    output_tokens: int = 0
    settled: bool = False
    prompt_tokens: int | None = None
    cached_tokens: int = 0


class Tally:
    """The sequences of one reply, by the index under which the engine reports them."""

    __slots__ = ("_expected", "_sequences", "_settled_whole", "usage")

    def __init__(self, usage: Usage, expected: int) -> None:
        self.usage = usage
        self._expected = expected
        self._sequences: dict[int, _Sequence] = {}
        self._settled_whole = False

    def count(self, index: int, tokens: int = 1) -> None:
        """`tokens` more of one sequence have passed."""
        sequence = self._sequences.get(index) or self._sequence(index)
        if sequence.settled or self._settled_whole:
            return
        sequence.output_tokens += tokens
        self.usage.output_tokens += tokens
        self.usage.counted_tokens += tokens

    def count_up_to(self, index: int, total: int) -> None:
        """The engine's running total of one sequence is now `total`; a smaller one than before says nothing."""
        sequence = self._sequences.get(index) or self._sequence(index)
        if total > sequence.output_tokens:
            self.count(index, total - sequence.output_tokens)

    def settle(self, index: int, output_tokens: int) -> None:
        """The engine's last word on one sequence."""
        sequence = self._sequence(index)
        self.usage.output_tokens += output_tokens - sequence.output_tokens
        sequence.output_tokens = output_tokens
        sequence.settled = True
        self._check_settled(self._expected)

    def tell_prompt(self, index: int, prompt_tokens: int, cached_tokens: int = 0) -> None:
        """The engine's count of one sequence's prompt."""
        sequence = self._sequences.get(index) or self._sequence(index)
        # Engines tell it with every event.
        if sequence.prompt_tokens == prompt_tokens and sequence.cached_tokens == cached_tokens:
            return
        cached_tokens = min(cached_tokens, prompt_tokens)
        if self._settled_whole or (sequence.prompt_tokens == prompt_tokens and sequence.cached_tokens == cached_tokens):
            return
        sequence.prompt_tokens = prompt_tokens
        sequence.cached_tokens = cached_tokens
        if len(self._sequences) >= self._expected:
            self._add_prompts()

    def settle_whole(self, output_tokens: int, prompt_tokens: int, cached_tokens: int = 0) -> None:
        """The engine's last word on all sequences together; from here on only another such word changes anything."""
        usage = self.usage
        usage.output_tokens = output_tokens
        usage.prompt_tokens = prompt_tokens
        usage.cached_tokens = min(cached_tokens, prompt_tokens)
        usage.final = usage.exact = self._settled_whole = True

    def close(self) -> None:
        """The engine has ended the stream in order: sequences that never came will not come any more."""
        if self._settled_whole or self.usage.error is not None or not self._sequences:
            return
        self._check_settled(1)
        if self.usage.prompt_tokens is None:
            self._add_prompts()

    def _sequence(self, index: int) -> _Sequence:
        sequence = self._sequences.get(index)
        if sequence is None:
            sequence = self._sequences[index] = _Sequence()
        return sequence

    def _check_settled(self, expected: int) -> None:
        sequences = self._sequences.values()
        self.usage.final = len(sequences) >= expected and all(sequence.settled for sequence in sequences)
        if self.usage.final:
            self.usage.exact = True

    def _add_prompts(self) -> None:
        sequences = self._sequences.values()
        if all(sequence.prompt_tokens is not None for sequence in sequences):
            self.usage.prompt_tokens = sum(sequence.prompt_tokens or 0 for sequence in sequences)
            self.usage.cached_tokens = sum(sequence.cached_tokens for sequence in sequences)
