"""Continuous batching as Text Generation Inference (v3 backend) and others do it, as a pure model in engine time.

No asyncio, no clock, no text: `step()` does one engine iteration and says how long it takes and which tokens come out
at its end. The caller owns time: it lets the duration pass (virtually or really) and calls `step()` again. Requests
that arrive, and cancellations, take effect at the next `step()`, which is the end of the iteration in flight.

TGI's rules, with blocks of one token and no prefix cache (`SchedulingRules` says how other engines differ):

- One FIFO queue. The head gets in while its whole KV need is free: `prompt + min(max_new, 1024) - 1` tokens, taken up
  front out of `kv_tokens - 1`. The first that does not fit stops the look at the queue; nobody overtakes it.
- Newcomers may prefill `prefill_budget_tokens` a step, less one for each sequence that decodes; the last prompt is cut
  to fill the budget and goes on in the following steps (chunked prefill is modelled in full).
- A step with newcomers advances the running sequences too, but lasts as long as both together: a prefill makes all
  others wait. After such a step one plain step follows before the queue is looked at again, so that joiners get in at
  most every second step. From idle, two prefills may follow each other.
- More than 1024 new tokens are made in pieces of 1024: after each piece the sequence gives its KV back, goes to the
  back of the queue and is prefilled again with all it has; the last piece is not shortened, so 1025 become 2048.
- A failing request takes the whole batch with it.

Who else decides the order of the queue gives a `Line` of its own.

`slots` bounds the batch at all times (TGI's own `--max-batch-size` binds only batches formed from idle).
Not thread-safe, and nothing here blocks.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from fairqueue_sim.generation import BatchGauges, BatchLimits, FinishReason, Generation, GenerationState, Step
from fairqueue_sim.profiles import ModelProfile

__all__ = ["ContinuousBatch", "Line"]


class Line(Protocol):
    """Who waits in the engine, and who of them is next. `head` may be asked any number of times before `take`, which
    takes out just that one."""

    def append(self, generation: Generation, /) -> None: ...
    def put_back(self, generation: Generation) -> None:
        """One that has had to give way is to be next of its client."""

    def head(self) -> Generation | None: ...
    def take(self) -> Generation: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Generation]: ...


class _Fifo(deque[Generation]):
    def head(self) -> Generation | None:
        return self[0] if self else None

    put_back = deque[Generation].appendleft
    take = deque[Generation].popleft


class ContinuousBatch:
    """The engine: a queue, a batch, and a KV cache."""

    def __init__(self, profile: ModelProfile, limits: BatchLimits, line: Line | None = None) -> None:
        self.profile = profile
        self.limits = limits
        self.preemptions = 0
        self.gauges = BatchGauges()
        self.dropped = 0
        self.kv_used_tokens = 0
        self._queue: Line = _Fifo() if line is None else line
        self._running: list[Generation] = []
        self._requeue: list[Generation] = []
        self._dead_in_queue = 0
        self._look_at_queue = True
        self._steps_since_joiners = 0
        self._may_fail = False
        self._prefill_left_tokens = 0
        self._looked = False

    def __repr__(self) -> str:
        return f"<ContinuousBatch {self.running} running, {self.waiting} waiting, {self.kv_used_tokens} KV tokens>"

    @property
    def waiting(self) -> int:
        """Requests in the queue that somebody still wants."""
        return len(self._queue) - self._dead_in_queue

    @property
    def running(self) -> int:
        """Sequences in the batch, those included that end with the step in flight."""
        return len(self._running)

    @property
    def capacity_tokens(self) -> int:
        """KV tokens that requests can have (one block belongs to the engine itself)."""
        return self.limits.kv_tokens - self.limits.rules.block_tokens

    @property
    def prefill_room_tokens(self) -> int:
        """Of the last step that looked at the queue: the prompt tokens that newcomers could still have brought."""
        return self._prefill_left_tokens

    def unreserved(self) -> list[tuple[int, int]] | None:
        """Of each in the batch the tokens that it has and will still make, unless the cache for these is reserved."""
        if self.limits.rules.reserves_output:
            return None
        return [(g.prompt_tokens + max(g.generated_tokens, 1), g.left_tokens) for g in self._running]

    def waiting_that_fit(self) -> int:
        """How many from the head of the queue on would fit into the KV cache and the slots right now."""
        free, slots = self.capacity_tokens - self.kv_used_tokens, self._free_slots()
        fitting: list[Generation] = []
        for generation in self._queue:
            if generation.state is GenerationState.CANCELLED:
                continue
            free -= generation.piece_need_tokens
            fits = self._peak_fits(*fitting, generation) if self.limits.rules.looks_ahead else free >= 0
            if not fits or len(fitting) >= slots:
                break
            fitting.append(generation)
        return len(fitting)

    def submit(self, generation: Generation) -> None:
        """Puts a new generation at the back of the queue; raises ValueError if it can never fit."""
        self.check_fits(generation)
        self._cut_piece(generation)
        self._may_fail = self._may_fail or generation.fail_at is not None
        self._append(generation)

    def check_fits(self, generation: Generation) -> None:
        """Raises ValueError for a new generation that can never fit."""
        limits, rules = self.limits, self.limits.rules
        left = limits.max_total_tokens - generation.prompt_tokens
        generation.wanted_tokens = left if generation.max_new_tokens is None else generation.max_new_tokens
        if generation.wanted_tokens < 0 or (generation.max_new_tokens is None and not generation.wanted_tokens):
            raise ValueError("a generation that asks for tokens makes at least one token")
        if rules.looks_ahead:
            new_tokens, margin = generation.left_tokens, rules.client_tokens
        else:
            new_tokens, margin = generation.wanted_tokens, 0
        if rules.reserves_output:
            new_tokens = min(new_tokens, limits.piece_tokens)
        need = rules.held(generation.prompt_tokens + max(new_tokens - 1, 0)) + margin
        if need > self.capacity_tokens:
            raise ValueError(f"needs {need} of {self.capacity_tokens} KV tokens")

    def cancel(self, generation: Generation) -> None:
        """Nobody wants it any more: out of the batch, KV free, at the end of the step in flight.

        In the queue it stays a dead entry until it reaches the head. A generation that has ended is left as it is.
        """
        if generation.state is GenerationState.WAITING and generation not in self._requeue:
            self._dead_in_queue += 1
        elif generation.state not in (GenerationState.WAITING, GenerationState.RUNNING):
            return
        generation.state = GenerationState.CANCELLED

    def step(self) -> Step | None:
        """Starts the next iteration; None when there is nothing to do. See the module for what the step means."""
        self._settle()
        self._looked = False
        joined = [] if self._grow() else self._admit()
        if not self._running:
            return None
        step = self._execute()
        step.joined, step.looked = joined, self._looked
        return step

    def would_join(self, generation: Generation) -> bool:
        """Whether a new one, too, would have joined in the step in flight, had it waited behind all others, and could
        have stayed until its end."""
        if len(self._queue) or self._prefill_left_tokens <= 0:
            return False
        self._cut_piece(generation)
        cut_short = self.limits.rules.whole_prompts and generation.prefill_left_tokens > self._prefill_left_tokens
        stays = self.limits.rules.reserves_output or self._peak_fits(generation)
        return not cut_short and stays and self._has_room(generation)

    def would_fit(self, generation: Generation) -> bool:
        """Whether the KV cache and the slots have room for a new one right now, whoever waits for it."""
        self._cut_piece(generation)
        return self._has_room(generation)

    def crash(self) -> list[Generation]:
        """Empties it, as if its process had died. Returns what was in it, none of which has ended; one that is to begin
        anew can be submitted again."""
        there = [*self._running, *self._requeue]
        while self._queue:
            there.append(self._queue.take())
        # The step in flight brings nothing: who was to end with it has not.
        gone = [generation for generation in there if generation.state is not GenerationState.CANCELLED]
        for generation in gone:
            generation.state, generation.held_tokens, generation.generated_tokens = GenerationState.FAILED, 0, 0
        self._running, self._requeue, self._dead_in_queue, self.kv_used_tokens = [], [], 0, 0
        self._look_at_queue, self._steps_since_joiners, self._prefill_left_tokens = True, 0, 0
        return gone

    def _append(self, generation: Generation) -> None:
        generation.state = GenerationState.WAITING
        self._queue.append(generation)
        self.gauges.queue_size = (self.gauges.queue_size or 0) + 1

    def _cut_piece(self, generation: Generation) -> None:
        so_far = generation.prompt_tokens + generation.generated_tokens
        new_tokens = min(generation.wanted_tokens, self.limits.piece_tokens)
        if generation.max_new_tokens is None:
            new_tokens = min(new_tokens, self.limits.max_total_tokens - so_far)
        generation.prefill_left_tokens = so_far
        generation.piece_end_tokens = generation.generated_tokens + new_tokens
        ahead = max(new_tokens - 1, 0) if self.limits.rules.reserves_output else 0
        generation.piece_need_tokens = self.limits.rules.held(so_far + ahead)

    def _settle(self) -> None:
        """The step in flight is over: whatever ended with it leaves the batch."""
        had_batch = bool(self._running)
        staying: list[Generation] = []
        for generation in self._running:
            if generation.state is GenerationState.RUNNING:
                staying.append(generation)
                continue
            self._give_back(generation)
            if generation.state is GenerationState.CANCELLED:
                self.dropped += 1
        self._running = staying
        for generation in self._requeue:
            if generation.state is GenerationState.WAITING:
                self._cut_piece(generation)
                self._append(generation)
        self._requeue.clear()
        if had_batch and not staying:
            self.gauges.current_size = self.gauges.current_max_tokens = 0
            self._look_at_queue = True

    def _give_back(self, generation: Generation) -> None:
        self.kv_used_tokens -= generation.held_tokens
        generation.held_tokens = 0

    def _grow(self) -> bool:
        """Takes KV cache for the next tokens of those who decode; whether somebody had to give way for it."""
        if self.limits.rules.reserves_output:
            return False
        preemptions, rules = self.preemptions, self.limits.rules
        for generation in list(self._running):
            if generation.prefill_left_tokens:
                continue
            need = generation.prompt_tokens + generation.generated_tokens
            if generation.tokens_per_step > 1:
                need += min(generation.tokens_per_step, generation.piece_end_tokens - generation.generated_tokens) - 1
            growth = rules.held(need) - generation.held_tokens
            if growth <= 0:
                continue
            while generation.state is GenerationState.RUNNING:
                if self.kv_used_tokens + growth <= self.capacity_tokens:
                    self.kv_used_tokens += growth
                    generation.held_tokens += growth
                    break
                self._preempt_newest()
        return self.preemptions > preemptions

    def _preempt_newest(self) -> None:
        """The newest in the batch goes back to the head of the queue; it is to be prefilled with all that it has."""
        generation = self._running.pop()
        self._give_back(generation)
        generation.state = GenerationState.WAITING
        generation.prefill_left_tokens = generation.prompt_tokens + generation.generated_tokens
        generation.piece_need_tokens = self.limits.rules.held(generation.prefill_left_tokens)
        self._queue.put_back(generation)
        self.preemptions += 1

    def _admit(self) -> list[Generation]:
        """Lets the head of the queue in while it fits; returns those who joined."""
        if not self._look_at_queue:
            self._look_at_queue = True
            return []
        was_running = len(self._running)
        if was_running and self._steps_since_joiners < self.limits.rules.joins_every_steps:
            self._steps_since_joiners += 1
            return []
        if was_running:
            self.gauges.current_size = was_running
            self.gauges.current_max_tokens = self.kv_used_tokens
        elif not self._queue:
            return []
        self._looked = True
        # A token of each that decodes counts, too, unless these stand still meanwhile.
        least = 0 if self.limits.rules.prefill_stalls else 1
        budget = self.limits.prefill_budget_tokens - sum(max(g.prefill_left_tokens, least) for g in self._running)
        while (head := self._fitting_head()) is not None and budget > 0:
            others_join = len(self._running) > was_running
            if self.limits.rules.whole_prompts and others_join and head.prefill_left_tokens > budget:
                break
            self._queue.take()
            head.state = GenerationState.RUNNING
            head.held_tokens = head.piece_need_tokens
            self.kv_used_tokens += head.held_tokens
            self._running.append(head)
            budget -= head.prefill_left_tokens
        self._prefill_left_tokens = budget
        self.gauges.queue_size = len(self._queue)
        joined = self._running[was_running:]
        if joined:
            self._steps_since_joiners = 0
        self._look_at_queue = not (joined and was_running and self.limits.rules.rests_after_joiners)
        return joined

    def _fitting_head(self) -> Generation | None:
        while (head := self._queue.head()) is not None and head.state is GenerationState.CANCELLED:
            self._queue.take()
            self._dead_in_queue -= 1
            self.dropped += 1
        return head if head is not None and self._has_room(head) else None

    def _has_room(self, generation: Generation) -> bool:
        if self._free_slots() <= 0:
            return False
        if self.limits.rules.looks_ahead:
            return self._peak_fits(generation)
        return self.kv_used_tokens + generation.piece_need_tokens <= self.capacity_tokens

    def _peak_fits(self, *joiners: Generation) -> bool:
        """Whether all will always fit with these: the most that is held at the end of any of them."""
        together = sorted([*self._running, *joiners], key=lambda generation: -generation.left_tokens)
        clients = {generation.client for generation in together}
        room = self.capacity_tokens - self.limits.rules.client_tokens * len(clients)
        held = 0
        for number, generation in enumerate(together, 1):
            held += generation.prompt_tokens + max(generation.generated_tokens, 1)
            if held + (generation.left_tokens - 1) * number > room:
                return False
        return True

    def _free_slots(self) -> int:
        slots = self.limits.slots
        return len(self._queue) + 1 if slots is None else slots - len(self._running)

    def _execute(self) -> Step:
        decoding = sum(1 for g in self._running if not g.prefill_left_tokens)
        stalled = self.limits.rules.prefill_stalls and decoding < len(self._running)
        if stalled:
            decoding = 0
        resident = sum(g.prompt_tokens + g.generated_tokens - g.prefill_left_tokens for g in self._running)
        # At least one, or a batch as large as the budget would never finish a prompt that has begun.
        budget = left = max(self.limits.prefill_budget_tokens - decoding, 1)
        floor_seconds = 0.0
        ready: list[Generation] = []
        prefilled: list[Generation] = []
        for generation in self._running:
            if generation.step_seconds > floor_seconds:
                floor_seconds = generation.step_seconds
            if generation.prefill_left_tokens:
                floor_seconds = max(floor_seconds, generation.prefill_seconds)
                chunk = min(generation.prefill_left_tokens, left)
                left -= chunk
                generation.prefill_left_tokens -= chunk
                if generation.prefill_left_tokens:
                    continue
                if not generation.generated_tokens:
                    prefilled.append(generation)
            elif stalled:
                continue
            ready.append(generation)
        seconds = self.profile.step_seconds(decoding, resident, budget - left)
        step = Step(max(seconds, floor_seconds), prefilled=prefilled)
        self._emit(ready, step)
        return step

    def _emit(self, ready: list[Generation], step: Step) -> None:
        if self._may_fail and any(self._fails(generation) for generation in ready):
            step.failed = [g for g in self._running if g.state is GenerationState.RUNNING]
            for generation in step.failed:
                generation.state = GenerationState.FAILED
            step.prefilled = []
            return
        for generation in ready:
            end = generation.piece_end_tokens
            if generation.end_at is not None and generation.end_at < end:
                end = generation.end_at
            first = generation.generated_tokens + 1
            if generation.tokens_per_step == 1 and first <= end:
                generation.generated_tokens = first
                step.tokens.append((generation, first))
            else:
                generation.generated_tokens = min(generation.generated_tokens + generation.tokens_per_step, end)
                step.tokens.extend((generation, number) for number in range(first, generation.generated_tokens + 1))
            if generation.generated_tokens == end:
                self._end_piece(generation, step)

    @staticmethod
    def _fails(generation: Generation) -> bool:
        last = generation.generated_tokens + generation.tokens_per_step
        return generation.fail_at is not None and last >= generation.fail_at

    def _end_piece(self, generation: Generation, step: Step) -> None:
        made = generation.generated_tokens
        by_length = made == generation.piece_end_tokens
        if by_length and made < generation.wanted_tokens and made != generation.end_at and self._may_go_on(generation):
            generation.state = GenerationState.WAITING
            self._requeue.append(generation)
            return
        reached_length = by_length and made >= generation.wanted_tokens and self.limits.rules.length_first
        ended_itself = made == generation.end_at and not reached_length
        generation.state = GenerationState.FINISHED
        step.finished.append((generation, generation.end_reason if ended_itself else FinishReason.LENGTH))

    def _may_go_on(self, generation: Generation) -> bool:
        """Whether a next piece would pass validation; if not, the output silently ends here."""
        so_far = generation.prompt_tokens + generation.generated_tokens
        if so_far > self.limits.max_input_tokens:
            return False
        return generation.max_new_tokens is None or so_far + self.limits.piece_tokens <= self.limits.max_total_tokens

    def check(self) -> None:
        """Raises AssertionError if the books do not balance; for tests."""
        held = sum(g.held_tokens for g in self._running)
        assert self.kv_used_tokens == held, (self.kv_used_tokens, held)
        assert 0 <= self.kv_used_tokens <= self.capacity_tokens, self
        assert self.limits.slots is None or self.running <= self.limits.slots, self
        dead = sum(1 for g in self._queue if g.state is GenerationState.CANCELLED)
        assert dead == self._dead_in_queue, (dead, self._dead_in_queue)
        numbers = [g.number for g in chain(self._queue, self._running, self._requeue)]
        assert len(numbers) - len(self._requeue) == len(set(numbers)), "a generation is in two places"
