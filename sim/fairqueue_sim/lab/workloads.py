"""Workloads by name: those of the VTC paper, request for request as its artifact made them, and some of our own.

The paper's come from numpy's old generator with seed 42 (section 5.2 of "Fairness in Serving Large Language Models",
OSDI '24, and its artifact); another seed gives other arrivals of the same kind. As there, a request's `max_tokens` is
the length of its output. In ours it is not told, as with most clients.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fairqueue_sim.lab.trace import Arrival

__all__ = ["DEFAULT_SEED", "UnknownWorkloadError", "Workload", "arena", "load_workload", "workload_names"]

DEFAULT_SEED = 42
A10G, A100_35K, A100_65K = "a10g-llama2-7b", "a100-llama2-13b", "a100-llama2-13b-65k"


class UnknownWorkloadError(LookupError):
    """There is no workload of that name; the message lists those that exist."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in order of arrival. Figures are of the first `seconds`; what comes later is drained.

    `weights` are of tenants whose weight is not 1, `profile` is the machine that it was made for, `words` say what
    happens in it.
    """

    name: str
    arrivals: Sequence[Arrival]
    seconds: float
    weights: dict[str, int] = field(default_factory=dict)
    profile: str = A10G
    words: str = ""

    @property
    def tenants(self) -> list[str]:
        """All names, in order of weight and first arrival where the name says nothing."""
        return sorted({arrival.tenant for arrival in self.arrivals}, key=_natural)


def _natural(name: str) -> tuple[str, int, str, str]:
    head = name.rstrip("0123456789")
    # Not as a number: Python refuses those of thousands of digits.
    number = name[len(head) :].lstrip("0")
    return head, len(number), number, name


def _paper(seconds: float, tenant: int, lengths: tuple[int, int]) -> Arrival:
    return Arrival(float(seconds), f"client-{tenant + 1}", int(lengths[0]), int(lengths[1]), max_tokens=int(lengths[1]))


def _evenly(
    random: np.random.RandomState,
    rates: Sequence[float],
    seconds: float,
    length: int,
    *,
    on_off: float | None = None,
    start: float = 0.0,
) -> Iterator[Arrival]:
    """Evenly spaced with a random phase; the first client is silent in every other `on_off` seconds."""
    for tenant, rate in enumerate(rates):
        at = start + random.rand() * 1 / rate
        for _ in range(int(rate * seconds)):
            at += 1 / rate
            if on_off is None or tenant or not int(at // on_off) & 1:
                yield _paper(at, tenant, (length, length))


def _uniform(
    rates: Sequence[float], seconds: float, length: int = 256, on_off: float | None = None
) -> Callable[[np.random.RandomState], list[Arrival]]:
    return lambda random: list(_evenly(random, rates, seconds, length, on_off=on_off))


def _increase(_random: np.random.RandomState) -> list[Arrival]:
    arrivals = [_paper(number / 0.5, 0, (256, 256)) for number in range(1, 301)]
    at = 0.0
    for _ in range(int(0.5 * (0.2 + 2) * 600)):
        at += 1 / (0.2 + (2 - 0.2) * at / 600)
        arrivals.append(_paper(at, 1, (256, 256)))
    return arrivals


def _dist_shift(random: np.random.RandomState) -> list[Arrival]:
    phases = [((0.5, 2.0), 60.0), ((1.0, 1.0), None), ((0.5, 1.5), None)]
    arrivals: list[Arrival] = []
    for number, (rates, on_off) in enumerate(phases):
        arrivals += _evenly(random, rates, 300, 256, on_off=on_off, start=300.0 * number)
    return arrivals


# For each of two clients, prompt and output of so many requests.
_Lengths = Callable[[np.random.RandomState, int], tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]]]


def _poisson(
    rates: tuple[float, float],
    lengths: _Lengths,
    on_off: float | None = None,
) -> Callable[[np.random.RandomState], list[Arrival]]:
    """One Poisson process whose requests are of the one or the other client by chance."""

    def generate(random: np.random.RandomState) -> list[Arrival]:
        total = sum(rates)
        count = int(total * 600)
        second = (random.rand(count) > rates[0] / total).astype(int)
        of_each = lengths(random, count)
        at, arrivals = 0.0, []
        for number, gap in enumerate(random.gamma(1.0, 1 / total, count)):
            at += gap
            tenant = int(second[number])
            if on_off is None or tenant or not int(at // on_off) & 1:
                arrivals.append(_paper(at, tenant, of_each[tenant][number]))
        return arrivals

    return generate


def _fixed(first: tuple[int, int], second: tuple[int, int]) -> _Lengths:
    return lambda _random, count: ([first] * count, [second] * count)


def _mixed(random: np.random.RandomState, count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    inputs, outputs = random.randint(16, 512, count), random.randint(16, 512, count)
    lengths = [(int(prompt), int(output)) for prompt, output in zip(inputs, outputs, strict=True)]
    return lengths, lengths


# How many requests each of the arena's tenants sends of 1,500: heavy-tailed, as in the paper's trace of LMSYS's arena.
_ARENA = (296, 262, 199, 120, 67, 66, 56, 46, 44, 43, 40, 36, 31, 26, 25, 23, 22, 22, 19, 19, 12, 11, 7, 3, 2, 2, 1)


def arena(random: np.random.RandomState, *, counts: Sequence[int] = _ARENA, seconds: float = 600.0) -> list[Arrival]:
    """Tenants of very different size at random times, with lengths spread as in conversations: prompts of 2 to 1,021
    tokens (mean 136), outputs of 2 to 977 (mean 256), which are longer with some tenants than with others."""
    arrivals = []
    for tenant, count in enumerate(counts, 1):
        verbosity = random.lognormal(0.0, 0.35)
        prompts = np.clip(random.lognormal(math.log(92), 0.95, count), 2, 1021)
        outputs = np.clip(random.lognormal(math.log(172), 0.85, count) * verbosity, 2, 977)
        for at, prompt, output in zip(random.uniform(0, seconds, count), prompts, outputs, strict=True):
            arrivals.append(Arrival(float(at), f"tenant-{tenant}", int(prompt), int(output)))
    return arrivals


def _noisy_neighbour(random: np.random.RandomState) -> list[Arrival]:
    arrivals = []
    for tenant, rate in (("noisy", 2.5), *((f"quiet-{number}", 0.05) for number in range(1, 9))):
        at = random.exponential(1 / rate)
        while at < 600:
            prompt, output = random.randint(32, 512), random.randint(32, 512)
            arrivals.append(Arrival(float(at), tenant, int(prompt), int(output)))
            at += random.exponential(1 / rate)
    return arrivals


@dataclass(frozen=True, slots=True)
class _Recipe:
    words: str
    generate: Callable[[np.random.RandomState], list[Arrival]]
    seconds: float = 600.0
    weights: tuple[int, ...] = ()
    profile: str = A10G


def _s4(rates: tuple[float, float], length: int, profile: str) -> _Recipe:
    words = f"Two floods, one twice the other, with prompts and outputs of {length} tokens on a larger machine."
    return _Recipe(words, _uniform(rates, 600, length), profile=profile)


_EIGHT = (0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6)
_RECIPES = {
    "overload": _Recipe(
        "Two clients that both want more than their half, one twice as much as the other, for six minutes (figure 3).",
        _uniform((1.5, 3), 360),
    ),
    "overload_600": _Recipe("The same for ten minutes, as it was run for table 5.", _uniform((1.5, 3), 600)),
    "overload_multi": _Recipe(
        "Eight clients that all want more than their share, five of them half as much again as the other three "
        "(figure 19, table 6).",
        _uniform(_EIGHT, 360),
    ),
    "weighted": _Recipe(
        "Four clients with weights 1, 2, 3 and 4 that all want more than their share (figure 16).",
        _uniform((0.8, 0.8, 1.2, 1.6), 360),
        360,
        weights=(1, 2, 3, 4),
    ),
    "proportional": _Recipe(
        "Two clients want less than their third, the last one wants all that is left (figure 4).",
        _uniform((0.25, 0.5, 1.5), 600),
    ),
    "on_off_less": _Recipe(
        "One client is there every other minute and wants less than its half, the other is always there (figure 5).",
        _uniform((0.5, 2), 600, on_off=60),
    ),
    "on_off_overload": _Recipe(
        "One client is there every other minute, but wants more than its half even so (figure 6).",
        _uniform((2, 3), 600, on_off=60),
    ),
    "poisson_short_long": _Recipe(
        "Many short requests of one client, few long ones of the other, at random times (figure 7).",
        _poisson((8, 1.5), _fixed((64, 64), (256, 256))),
    ),
    "poisson_short_long_2": _Recipe(
        "Long prompts with short outputs of one client, short prompts with long outputs of the other (figure 8).",
        _poisson((8, 1.5), _fixed((512, 32), (32, 512))),
    ),
    "poisson_on_off_overload": _Recipe(
        "Random lengths at random times; one client is there every other minute.", _poisson((0.5, 2), _mixed, on_off=60)
    ),
    "increase": _Recipe(
        "One client wants less than its half all the time, the other more and more (figure 9).", _increase
    ),
    "dist_shift": _Recipe(
        "Three parts of five minutes: on and off beside a flood; both as much; both, but unequal (figure 10).",
        _dist_shift,
        900,
    ),
    "ablation_lshare": _Recipe("Two clients, of whom one wants four times as much.", _uniform((0.2, 0.8), 300), 300),
    "overload_s4_35000_256": _s4((3, 6), 256, A100_35K),
    "overload_s4_35000_512": _s4((1.5, 3), 512, A100_35K),
    "overload_s4_35000_768": _s4((1, 2), 768, A100_35K),
    "overload_s4_65000_256": _s4((4, 8), 256, A100_65K),
    "overload_s4_65000_512": _s4((2, 4), 512, A100_65K),
    "overload_s4_65000_768": _s4((1.5, 3), 768, A100_65K),
    "arena": _Recipe(
        "27 tenants of very different size with requests like conversations, after what is published of the paper's "
        "real trace.",
        arena,
    ),
    "noisy_neighbour": _Recipe("One tenant sends fifty times as much as each of eight quiet ones.", _noisy_neighbour),
}


def workload_names() -> list[str]:
    """The names that `load_workload` knows."""
    return list(_RECIPES)


def load_workload(name: str, seed: int = DEFAULT_SEED, requests: int | None = None) -> Workload:
    """The workload of that name (hyphens and underscores are the same), cut after the first `requests`.

    Raises:
        UnknownWorkloadError: there is none of that name.
    """
    recipe = _RECIPES.get(name.replace("-", "_"))
    if recipe is None:
        raise UnknownWorkloadError(f"there is no such workload: take one of {', '.join(workload_names())}")
    arrivals = sorted(recipe.generate(np.random.RandomState(seed)), key=lambda arrival: arrival.seconds)
    weights = {f"client-{number}": weight for number, weight in enumerate(recipe.weights, 1)}
    workload = Workload(name.replace("-", "_"), arrivals, recipe.seconds, weights, recipe.profile, recipe.words)
    if requests is not None and requests < len(arrivals):
        workload = replace(workload, arrivals=arrivals[:requests], seconds=arrivals[requests - 1].seconds)
    return workload
