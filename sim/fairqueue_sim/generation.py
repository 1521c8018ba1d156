"""What a continuous batch is about: one sequence, what fits, and what a step brings."""

from dataclasses import dataclass, field, replace
from enum import Enum

from fairqueue_sim.scheduling_rules import TGI_RULES, SchedulingRules

__all__ = [
    "PIECE_TOKENS",
    "BatchGauges",
    "BatchLimits",
    "FinishReason",
    "Generation",
    "GenerationState",
    "Step",
]

PIECE_TOKENS = 1024


class FinishReason(Enum):
    """Why an output ended: by itself (the values are TGI's), or because somebody ended it by its id."""

    LENGTH = "length"
    EOS = "eos_token"
    STOP = "stop_sequence"
    ABORT = "abort"


class GenerationState(Enum):
    """Where a generation is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What fits: into the KV cache, into one prefill, into one request, into the batch, into one piece of an output;
    and by which rules."""

    kv_tokens: int
    prefill_budget_tokens: int
    max_input_tokens: int
    max_total_tokens: int
    slots: int | None = None
    piece_tokens: int = PIECE_TOKENS
    rules: SchedulingRules = TGI_RULES

    def in_blocks(self, rules: SchedulingRules, slots: int) -> "BatchLimits":
        """The same cache in whole blocks of `rules`, outputs in one piece, and `slots` if there was no other limit."""
        block = rules.block_tokens
        blocks = max(self.kv_tokens // block, 2)
        longest = min(self.max_total_tokens, (blocks - 1) * block)
        return replace(
            self,
            kv_tokens=blocks * block,
            max_total_tokens=longest,
            max_input_tokens=longest - 1,
            piece_tokens=longest,
            slots=self.slots or slots,
            rules=rules,
        )


@dataclass(slots=True, eq=False)
class Generation:
    """One sequence: what it asks of the engine, and how far it is. The state fields belong to the batch.

    `end_at` is the number of the token with which the output ends by itself, for `end_reason`; `fail_at` that of the
    token in whose place the engine fails. `max_new_tokens` None means up to the model's limit, 0 that the prompt is
    only read, as for embeddings. `client` is who it is of, for engines that look at that.
    """

    number: int
    prompt_tokens: int
    max_new_tokens: int | None = None
    end_at: int | None = None
    end_reason: FinishReason = FinishReason.EOS
    fail_at: int | None = None
    tokens_per_step: int = 1
    step_seconds: float = 0.0
    prefill_seconds: float = 0.0
    client: str = ""

    state: GenerationState = GenerationState.WAITING
    generated_tokens: int = 0
    wanted_tokens: int = 0
    piece_end_tokens: int = 0
    piece_need_tokens: int = 0
    held_tokens: int = 0
    prefill_left_tokens: int = 0

    @property
    def left_tokens(self) -> int:
        """Tokens that it will still make, as only the model knows."""
        end = self.wanted_tokens if self.end_at is None else min(self.wanted_tokens, self.end_at)
        return end - self.generated_tokens

    @property
    def resident_tokens(self) -> int:
        """Tokens that it has in the KV cache now."""
        return self.prompt_tokens + self.generated_tokens - self.prefill_left_tokens


@dataclass(slots=True)
class Step:
    """One engine iteration: its length, whether the queue was looked at, who joined, and what is there at its end.

    `tokens` holds (generation, number of the token from 1), those of one generation next to each other. `prefilled` are
    those whose prompt is in the KV cache for the first time.
    """

    duration_seconds: float
    looked: bool = True
    joined: list[Generation] = field(default_factory=list)
    tokens: list[tuple[Generation, int]] = field(default_factory=list)
    prefilled: list[Generation] = field(default_factory=list)
    finished: list[tuple[Generation, FinishReason]] = field(default_factory=list)
    failed: list[Generation] = field(default_factory=list)


@dataclass(slots=True)
class BatchGauges:
    """The gauges as TGI exports them: None until first set, and up to two steps behind the truth."""

    queue_size: int | None = None
    current_size: int | None = None
    current_max_tokens: int | None = None
