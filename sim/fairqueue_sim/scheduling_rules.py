"""How engines differ in what a sequence takes of the KV cache, and in what a prefill does to those who decode."""

from dataclasses import dataclass

__all__ = ["SGLANG_RULES", "TGI_RULES", "VLLM_RULES", "SchedulingRules"]


@dataclass(frozen=True, slots=True)
class SchedulingRules:
    """Rules of a continuous batch; the defaults are TGI's.

    `reserves_output`: a sequence takes what prompt and output will need when it joins. Otherwise it takes what it has,
    and more as it grows; when nothing is left, the newest gives all back and waits at the head of the queue.
    `rests_after_joiners`: a step with newcomers among others is followed by one without.
    `prefill_stalls`: nobody decodes in a step that prefills.
    `length_first`: an output whose end is also the last token that it may have has ended by its length.
    """

    block_tokens: int = 1
    reserves_output: bool = True
    rests_after_joiners: bool = True
    prefill_stalls: bool = False
    length_first: bool = True

    def held(self, tokens: int) -> int:
        """So many tokens in whole blocks."""
        return -(-tokens // self.block_tokens) * self.block_tokens


TGI_RULES = SchedulingRules()
VLLM_RULES = SchedulingRules(block_tokens=16, reserves_output=False, rests_after_joiners=False, length_first=False)
SGLANG_RULES = SchedulingRules(reserves_output=False, rests_after_joiners=False, prefill_stalls=True)
