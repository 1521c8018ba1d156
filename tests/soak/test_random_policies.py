"""Policies that never rest, requests that come, run and leave in any order: in every group the gap is within its bound.

The proxy's tree without the proxy, some thousand times as fast; the soak beside it has the sockets."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rounds import Rounds

from fairqueue_proxy.scheduler import MICRO, Prediction, Request, Scheduler
from fairqueue_proxy.tenants import Tenants

STEPS = 1500
MEMBERS = (None, "ann", "ben")
MOST_QUEUED = 60


@dataclass(slots=True)
class Storm:
    """One proxy's scheduler under random policies; everything is drawn from the seed. Who looks at the gap may change
    what is told of it later, so some look at every step and some seldom (`looks`: the part of the steps)."""

    seed: int
    source: random.Random
    rounds: Rounds
    looks: float
    scheduler: Scheduler
    tenants: Tenants
    queued: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    members: dict[Request, str | None] = field(default_factory=dict)
    room: int = 0
    reloads: int = 0
    served: int = 0

    @classmethod
    def of(cls, seed: int, folder: Path) -> "Storm":
        source = random.Random(seed)
        folder.mkdir()
        rounds = Rounds(folder, source, folder / "document.json")
        scheduler = Scheduler(prediction=source.choice(list(Prediction)), clock=lambda: 0.0)
        return cls(seed, source, rounds, source.choice((1.0, 0.3, 0.08)), scheduler, Tenants(scheduler))

    def run(self) -> None:
        self.reload()
        steps = [self.arrive, self.start, self.leave, self.proceed, self.reload, self.open_or_close]
        for _ in range(STEPS):
            (step,) = self.source.choices(steps, (25, 25, 5, 40, 3, 2))
            step()
            if self.source.random() < self.looks:
                self.check_gaps(step.__name__)
        self.scheduler.check()

    def check_gaps(self, after: str) -> None:
        for name, node in {"": self.scheduler.root, **self.tenants.groups}.items():
            gap = self.scheduler.gap(node)
            seen = (self.seed, after, name, gap, list(node.children.values()))
            assert gap.gap <= gap.bound * (1 + 1e-9), seen
            # What stands of old weights only ever widens it.
            assert gap.bound >= node.peak_worst / (node.lightest * MICRO), seen

    def reload(self) -> None:
        document = self.rounds.draw().document
        self.tenants.apply(document, sorted(self.queued, key=lambda it: it.arrival), self.members.__getitem__)
        self.reloads += 1

    def open_or_close(self) -> None:
        self.room = self.source.choice((0, 1, 2, 3, 8, 16))

    def arrive(self) -> None:
        if len(self.queued) < MOST_QUEUED:
            tenant = self.source.choice(list(self.tenants.by_name.values()))
            member = self.source.choice(MEMBERS)
            leaf = tenant.leaf(self.scheduler, member)
            request = Request(leaf, self.source.randint(1, 40), self.source.choice((1, 10, 60, 400)))
            self.members[request] = member
            self.scheduler.enqueue(request)
            self.queued.append(request)

    def start(self) -> None:
        request = self.scheduler.dispatch(lambda _request: self.scheduler.root.in_flight < self.room)
        if request is not None:
            self.queued.remove(request)
            self.running.append(request)

    def leave(self) -> None:
        if self.queued:
            self.scheduler.cancel(self.queued.pop(self.source.randrange(len(self.queued))))

    def proceed(self) -> None:
        """A request in the engine: it is taken or given back, goes on by some tokens, or ends."""
        if not self.running:
            return
        request = self.source.choice(self.running)
        if not request.confirmed:
            if self.source.random() < 0.05:
                self.running.remove(request)
                self.scheduler.requeue(request)
                self.queued.append(request)
            else:
                # Estimates are too long or too short.
                error = self.source.choice((-5, 0, 10, 200))
                self.scheduler.prompt(request, max(request.prompt_tokens + error, 1))
        elif self.source.random() < 0.7 and request.output_tokens < request.max_output_tokens:
            more = self.source.choice((1, 20, 400))
            tokens = min(request.output_tokens + more, request.max_output_tokens)
            self.scheduler.output(request, tokens, exact=True)
        else:
            self.running.remove(request)
            self.scheduler.finish(request)
            self.served += 1


@pytest.mark.parametrize("seeds", [range(25), pytest.param(range(25, 600), marks=pytest.mark.long)])
def test_the_gap_is_within_its_bound_whatever_policies_come(tmp_path: Path, seeds: range) -> None:
    reloads = served = 0
    for seed in seeds:
        storm = Storm.of(seed, tmp_path / str(seed))
        storm.run()
        reloads += storm.reloads
        served += storm.served
    assert min(reloads, served) > 20 * len(seeds)
