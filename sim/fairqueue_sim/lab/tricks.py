"""Tenants that try to take more than their share by fooling the prediction, in simulations.

Each trick is played by one tenant beside two honest ones that always have something waiting, and once more by a twin
that asks for as much work without the trick: what the honest tenants are served must be the same.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import cycle
from random import Random
from statistics import mean

from msgspec import structs

from fairqueue_api import AnonymousSettings, Document
from fairqueue_proxy.tenants import ANONYMOUS
from fairqueue_sim.lab.engines import LabEngine, RulesName
from fairqueue_sim.lab.marks import line
from fairqueue_sim.lab.metrics import Series
from fairqueue_sim.lab.outside import Outside
from fairqueue_sim.lab.policies import open_policy
from fairqueue_sim.lab.simulation import Clock, simulate
from fairqueue_sim.lab.trace import CLIENT_GONE, Arrival
from fairqueue_sim.profiles import load_profile

__all__ = [
    "HONEST",
    "PROCESSES",
    "PROFILE",
    "RULES",
    "SECONDS",
    "TRICKS",
    "WARM_UP_SECONDS",
    "Figure",
    "Play",
    "Trick",
    "crowd",
    "figure_of",
    "figures",
    "tricks_table",
]

PROFILE = "a10g-llama2-7b"
RULES: tuple[RulesName, ...] = ("tgi", "vllm")
HONEST, CHEAT = ("honest-1", "honest-2"), "cheat"
SECONDS, WARM_UP_SECONDS, SEEDS = 630.0, 30.0, 2
# By then all has ended that was under way at the end of what is judged.
DRAIN_SECONDS = 40.0
# What each asks for: more than its third of any of these engines.
COST_A_SECOND = 700.0
PROCESSES = 2
SHORT_TOKENS, LONG_TOKENS, ALLOWED_TOKENS, HUGE_TOKENS = 16, 512, 512, 3500
HUNG_UP_AT_TOKENS = 400
# Enough to teach a mean of five anything.
LESSON = 6
MOST_LOST, MOST_LOST_UNITS = 0.02, 2.0

Play = Callable[[int], Sequence[Arrival]]


@dataclass(frozen=True, slots=True)
class Trick:
    """What the cheat sends and what its twin does, for a seed; `document` changes the policy, for both.

    `by_memory`: what it costs the others is room in an engine that sets memory aside for all that is allowed. No order
    can give that back.
    """

    name: str
    cheat: Play
    twin: Play
    document: Callable[[Document], Document] = lambda document: document
    by_memory: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """Cost units per second that each honest tenant is served, with the trick and with the twin."""

    trick: str
    rules: RulesName
    with_trick: tuple[float, ...]
    with_twin: tuple[float, ...]

    @property
    def worst(self) -> tuple[float, float]:
        """Of the honest tenant for whom it makes the largest difference: what it is served, with trick and twin."""
        pairs = zip(self.with_trick, self.with_twin, strict=True)
        return max(pairs, key=lambda pair: abs(pair[0] - pair[1]))

    @property
    def harmless(self) -> bool:
        """Within 2 % or 2 units per second."""
        trick, twin = self.worst
        return abs(trick - twin) <= max(MOST_LOST * twin, MOST_LOST_UNITS)


def requests(tenant: str, seed: int, outputs: Iterator[int]) -> list[Arrival]:
    """Requests with these outputs until the time is over, in a steady stream of work."""
    source = Random(f"{tenant}/{seed}")
    at, made = source.random(), []
    while at < SECONDS:
        prompt, output = source.randint(100, 300), next(outputs)
        made.append(Arrival(at, tenant, prompt, output, max_tokens=ALLOWED_TOKENS))
        at += made[-1].service / COST_A_SECOND
    return made


def _drawn(source: Random) -> Iterator[int]:
    while True:
        yield source.randint(SHORT_TOKENS, LONG_TOKENS)


def _shuffled(block: Sequence[int], source: Random) -> Iterator[int]:
    while True:
        # Many blocks at once: else they would hardly be mixed.
        mixed = list(block) * 8
        source.shuffle(mixed)
        yield from mixed


def _usual(tenant: str, seed: int) -> list[Arrival]:
    return requests(tenant, seed, _drawn(Random(f"outputs/{tenant}/{seed}")))


def _one_after_the_other(name: str, block: Sequence[int]) -> Trick:
    return Trick(
        name,
        lambda seed: requests(CHEAT, seed, cycle(block)),
        lambda seed: requests(CHEAT, seed, _shuffled(block, Random(seed))),
    )


def _taught(seed: int) -> list[Arrival]:
    """Has shown short outputs, and from then on asks for longer ones."""
    made = requests(CHEAT, seed, cycle([HUNG_UP_AT_TOKENS]))
    return [replace(it, output_tokens=1) for it in made[:LESSON]] + made[LESSON:]


def _hangs_up(seed: int) -> list[Arrival]:
    """Never again shows the whole of an output."""
    made = _taught(seed)
    return made[:LESSON] + [replace(it, outcome=CLIENT_GONE) for it in made[LESSON:]]


def _allowed(tokens: Callable[[Arrival], int | None]) -> Play:
    return lambda seed: [replace(it, max_tokens=tokens(it)) for it in _usual(CHEAT, seed)]


def _as_users(tenant: str, users: int) -> Play:
    def play(seed: int) -> list[Arrival]:
        made = enumerate(_usual(CHEAT, seed))
        return [replace(it, tenant=tenant, user=f"user-{number % users}") for number, it in made]

    return play


def _fair_within(document: Document) -> Document:
    tenants = (structs.replace(it, fair_within="User" if it.name == CHEAT else "None") for it in document.tenants)
    return structs.replace(document, tenants=tuple(tenants))


def _welcoming(document: Document) -> Document:
    """The cheat is no tenant: each of its names is an identity of the anonymous."""
    tenants = tuple(it for it in document.tenants if it.name != CHEAT)
    anonymous = AnonymousSettings(weight=1, per_identity=True, limits=tenants[0].limits)
    identity = structs.replace(document.identity, on_unidentified="Anonymous")
    return structs.replace(document, tenants=tenants, anonymous=anonymous, identity=identity)


TRICKS: tuple[Trick, ...] = (
    _one_after_the_other("long after short", [SHORT_TOKENS] * LESSON + [LONG_TOKENS] * 20),
    _one_after_the_other("short after long", [LONG_TOKENS] * LESSON + [SHORT_TOKENS] * 20),
    Trick("hanging up", _hangs_up, _taught),
    Trick("huge `max_tokens`, beside none", _allowed(lambda _: HUGE_TOKENS), _allowed(lambda _: None)),
    Trick(
        "huge `max_tokens`, beside the exact length",
        _allowed(lambda _: HUGE_TOKENS),
        _allowed(lambda it: it.output_tokens),
        by_memory=True,
    ),
    Trick("200 users below a tenant", _as_users(CHEAT, 200), _as_users(CHEAT, 1), _fair_within),
    Trick("200 identities without a tenant", _as_users(ANONYMOUS, 200), _as_users(ANONYMOUS, 1), _welcoming),
)


def crowd(play: Play, seed: int) -> list[Arrival]:
    """All that comes: of two honest tenants, and of this one."""
    arrivals = [it for tenant in HONEST for it in _usual(tenant, seed)] + list(play(seed))
    return sorted(arrivals, key=lambda arrival: arrival.seconds)


def served(arrivals: Sequence[Arrival], trick: Trick, rules: RulesName, seed: int) -> list[float]:
    """Cost units per second that each honest tenant is served by the product."""
    engine, clock = LabEngine(load_profile(PROFILE), rules), Clock()
    policy, batch = trick.document(open_policy(engine.kind, [*HONEST, CHEAT], {})), engine.batch()
    front = Outside(policy, engine.report(), batch, clock, seed)
    course = simulate(arrivals, batch, front, clock, until=SECONDS + DRAIN_SECONDS)
    series = Series(course.fates, [*HONEST, CHEAT, ANONYMOUS], {})
    return list(series.service(WARM_UP_SECONDS, SECONDS)[: len(HONEST)] / (SECONDS - WARM_UP_SECONDS))


def figure_of(trick: Trick, rules: RulesName, seeds: int = SEEDS) -> Figure:
    """One trick in front of one engine: the means of several seeds."""
    cheated, honestly = (
        tuple(map(mean, zip(*(served(crowd(play, seed), trick, rules, seed) for seed in range(seeds)), strict=True)))
        for play in (trick.cheat, trick.twin)
    )
    return Figure(trick.name, rules, cheated, honestly)


def _figure(number: int, rules: RulesName) -> Figure:
    return figure_of(TRICKS[number], rules)


def figures(pool: Executor) -> list[Figure]:
    """All tricks in front of all engines."""
    numbers = [number for number in range(len(TRICKS)) for _ in RULES]
    return list(pool.map(_figure, numbers, RULES * len(TRICKS)))


def tricks_table(pool: Executor) -> str:
    """The figures as they stand in the page."""
    head = "| trick | engine's rules | with the twin | with the trick | difference | within 2 % or 2 |"
    lines = [head, "| --- | --- | ---: | ---: | ---: | ---: |"]
    for it in figures(pool):
        trick, twin = it.worst
        cells = (
            it.trick,
            f"`{it.rules}`",
            f"{twin:.1f}",
            f"{trick:.1f}",
            f"{trick - twin:+.1f} ({100 * (trick / twin - 1):+.1f} %)",
            "yes" if it.harmless else "no",
        )
        lines.append(line(cells))
    return "\n".join(lines)
