"""Which engine a simulation runs: a machine (`profiles.toml`) with one of the known rules of batching."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from fairqueue_proxy.capacity import EngineReport
from fairqueue_sim.batching import ContinuousBatch, Line
from fairqueue_sim.engine import EngineSettings
from fairqueue_sim.generation import BatchLimits
from fairqueue_sim.profiles import ModelProfile
from fairqueue_sim.scheduling_rules import LIGHTLLM_RULES, SGLANG_RULES, VLLM_RULES

__all__ = ["LabEngine", "RulesName", "UnknownRulesError", "rules_named"]

RulesName = Literal["lightllm", "tgi", "vllm", "sglang"]
_KINDS = {"lightllm": "OpenAI", "tgi": "TGI", "vllm": "VLLM", "sglang": "SGLang"}
VLLM_SLOTS, SGLANG_SLOTS, LIGHTLLM_SLOTS = 256, 2048, 1000
LIGHTLLM_PREFILL_TOKENS = 3072
TGI_CONCURRENT_REQUESTS = 128


class UnknownRulesError(LookupError):
    """No engine batches by rules of that name; the message lists those that exist."""


def rules_named(name: str) -> RulesName:
    """The name, if there are such rules; raises UnknownRulesError."""
    if name not in _KINDS:
        raise UnknownRulesError(f"there are no such rules: take one of {', '.join(get_args(RulesName))}")
    return cast(RulesName, name)


@dataclass(frozen=True, slots=True)
class LabEngine:
    """A machine, and how it batches. None: as the profile says, else as the engine does by itself."""

    profile: ModelProfile
    rules: RulesName
    kv_tokens: int | None = None
    slots: int | None = None

    @property
    def kind(self) -> str:
        """What a policy calls it."""
        return _KINDS[self.rules]

    @property
    def limits(self) -> BatchLimits:
        """What fits."""
        settings = EngineSettings(self.profile, kv_tokens=self.kv_tokens, slots=self.slots)
        if self.rules == "lightllm":
            # S-LoRA takes a sixth of the cache for one prefill, but no less than this.
            kv_tokens = self.kv_tokens or self.profile.kv_tokens
            prefill = max(kv_tokens // 6, LIGHTLLM_PREFILL_TOKENS)
            slots = self.slots or LIGHTLLM_SLOTS
            return BatchLimits(
                kv_tokens, prefill, kv_tokens, kv_tokens, slots=slots, piece_tokens=kv_tokens, rules=LIGHTLLM_RULES
            )
        if self.rules == "vllm":
            return settings.limits().in_blocks(VLLM_RULES, VLLM_SLOTS)
        if self.rules == "sglang":
            return settings.limits().in_blocks(SGLANG_RULES, SGLANG_SLOTS)
        return settings.limits()

    def report(self) -> EngineReport:
        """What an engine of this kind tells of itself."""
        limits = self.limits
        if self.rules == "lightllm":
            return EngineReport()
        return EngineReport(
            batch_limit=limits.slots if self.rules == "sglang" else None,
            concurrency_limit=max(TGI_CONCURRENT_REQUESTS, 2 * (self.slots or 0)) if self.rules == "tgi" else None,
            kv_tokens=None if self.rules == "tgi" else limits.kv_tokens,
            context_tokens=limits.max_total_tokens,
        )

    def batch(self, line: Line | None = None) -> ContinuousBatch:
        """The engine, empty."""
        return ContinuousBatch(self.profile, self.limits, line)
