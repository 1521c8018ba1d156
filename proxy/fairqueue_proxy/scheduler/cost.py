"""What a request costs: the function h(n_p, n_q) of VTC (OSDI '24, sections 3.1 and 4.2), in exact integers.

Costs are whole millionths of a cost unit (`MICRO`), so that a request charged token by token, in any number of
steps, adds up to the last digit. The function never falls when a token is added, so charging by differences
telescopes.
"""

from dataclasses import dataclass

MICRO = 1_000_000
"""One cost unit, in the unit that all counters are kept in."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Weights of the linear and the quadratic cost; the defaults are the paper's (w_p = 1, w_q = 2).

    `cached_input_percent` is what a prompt token found in the engine's prefix cache costs, in percent of
    `input_token`. The `..._per_million` coefficients are cost units per million token pairs.
    """

    input_token: int = 1
    output_token: int = 2
    request: int = 0
    cached_input_percent: int = 100
    input_input_per_million: int = 0
    input_output_per_million: int = 0
    output_output_per_million: int = 0

    def of(self, prompt_tokens: int, output_tokens: int, *, cached_tokens: int = 0, sequences: int = 1) -> int:
        """Cost in millionths of a unit.

        Token counts are totals over all `sequences` (n, best_of, lists of prompts); each sequence counts as a
        request of its own, and the quadratic part takes them to be of equal length.
        """
        linear = self.input_token * prompt_tokens + self.output_token * output_tokens + self.request * sequences
        cost = linear * MICRO
        if cached_tokens and self.cached_input_percent != 100:
            discounted = min(cached_tokens, prompt_tokens)
            cost -= self.input_token * discounted * (100 - self.cached_input_percent) * (MICRO // 100)
        pairs = prompt_tokens * (
            self.input_input_per_million * prompt_tokens + self.input_output_per_million * output_tokens
        )
        pairs += self.output_output_per_million * output_tokens * output_tokens
        return cost + pairs // sequences

    # Reads better, and takes twice as long.
    __call__ = of

    @property
    def each_output_token(self) -> int | None:
        """What any further output token adds, in millionths of a unit; None where the quadratic part has a say."""
        quadratic = self.input_output_per_million or self.output_output_per_million
        return None if quadratic else self.output_token * MICRO
