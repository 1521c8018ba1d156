"""How engines differ in what a sequence takes of the KV cache, and in what a prefill does to those who decode."""

from dataclasses import dataclass

__all__ = ["LIGHTLLM_RULES", "SGLANG_RULES", "TGI_RULES", "VLLM_RULES", "SchedulingRules"]


@dataclass(frozen=True, slots=True)
class SchedulingRules:
    """Rules of a continuous batch; the defaults are TGI's.

    `reserves_output`: a sequence takes what prompt and output will need when it joins. Otherwise it takes what it has,
    and more as it grows; when nothing is left, the newest gives all back and waits at the head of the queue.
    `rests_after_joiners`: a step with newcomers among others is followed by one without.
    `prefill_stalls`: nobody decodes in a step that prefills.
    `length_first`: an output whose end is also the last token that it may have has ended by its length.
    `joins_every_steps`: after newcomers so many steps pass before the queue is looked at again.
    `whole_prompts`: newcomers' prompts are read whole in one step; who does not fit into it waits.
    `looks_ahead`: who joins must leave room for the whole outputs of all, as if their lengths were known; what is held
    is only what is there.
    `client_tokens`: so much of the KV cache each client takes that has something in the batch (its adapter).
    """

    block_tokens: int = 1
    reserves_output: bool = True
    rests_after_joiners: bool = True
    prefill_stalls: bool = False
    length_first: bool = True
    joins_every_steps: int = 0
    whole_prompts: bool = False
    looks_ahead: bool = False
    client_tokens: int = 0

    def held(self, tokens: int) -> int:
        """So many tokens in whole blocks."""
        block = self.block_tokens
        return tokens if block == 1 else -(-tokens // block) * block


TGI_RULES = SchedulingRules()
VLLM_RULES = SchedulingRules(block_tokens=16, reserves_output=False, rests_after_joiners=False, length_first=False)
SGLANG_RULES = SchedulingRules(reserves_output=False, rests_after_joiners=False, prefill_stalls=True)
# S-LoRA on LightLLM as in the artifact of VTC (OSDI '24), with adapters of rank 8. It looks ahead by the longest output
# that a request may have, which was the true one in all that was published.
LIGHTLLM_RULES = SchedulingRules(
    reserves_output=False,
    rests_after_joiners=False,
    prefill_stalls=True,
    joins_every_steps=10,
    whole_prompts=True,
    looks_ahead=True,
    client_tokens=32,
)
