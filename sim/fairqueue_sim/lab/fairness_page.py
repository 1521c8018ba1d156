"""Writes the figures and pictures of `docs/fairness.md` anew from the code: `make lab`.

What stands between two marks in the page is replaced; everything else is written by hand. The figures are those of one
seed and no clock, so that a test can hold the page to them.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean

from fairqueue_sim.lab.engines import LabEngine
from fairqueue_sim.lab.experiment import PRODUCT, Experiment, Run, run_scheduler
from fairqueue_sim.lab.marks import line, replaced, table
from fairqueue_sim.lab.pictures import draw
from fairqueue_sim.lab.published import PUBLISHED, Published
from fairqueue_sim.lab.result import RunResult
from fairqueue_sim.lab.workloads import load_workload, workload_names
from fairqueue_sim.profiles import load_profile

__all__ = ["figures_of", "goals_table", "published_figures", "published_line", "run", "write_page"]

SHOWN = ("fcfs", "vtc", "vtc-predict", PRODUCT)
DRAWN = ("fcfs", "vtc", PRODUCT)
ALL = ("fcfs", "rpm:20", "lcf", "round-robin", "drr", "vtc", "vtc-predict", "vtc-oracle", PRODUCT)
IN_FULL = ("overload", "arena", "noisy_neighbour")
SEEDS_OF_ERRORS = range(20)
PROCESSES = 2


def run(workload: str, scheduler: str, seed: int = 0) -> Run:
    """A workload on its own machine."""
    loaded = load_workload(workload)
    profile = load_profile(loaded.profile)
    return run_scheduler(Experiment(loaded, LabEngine(profile, profile.rules), seed), scheduler)


def figures_of(workload: str, pictures: Path | None = None) -> str:
    """The section of one workload. With `pictures` its picture is drawn into that folder.

    Raises:
        ValueError: counters were further apart than is promised.
    """
    schedulers = ALL if workload in IN_FULL else SHOWN
    runs = [(scheduler, run(workload, scheduler)) for scheduler in schedulers]
    for scheduler, it in runs:
        if it.result.gap is not None and it.result.gap.violations:
            raise ValueError(f"{workload}, {scheduler}: the gap is above its bound: {it.result.gap}")
    loaded = load_workload(workload)
    if pictures is not None:
        draw(loaded, [(name, it) for name, it in runs if name in DRAWN], pictures / f"{workload}.png")
    lines = [
        f"### {workload}",
        "",
        f"{loaded.words} {len(loaded.arrivals):,} requests on `{loaded.profile}`.",
        "",
        table(
            ("scheduler", "tokens/s", "difference, mean", "largest", "Jain", "light tenants wait", "gap / bound"),
            [_row(name, it.result) for name, it in runs],
        ),
        "",
        f"![{workload}: service so far, service rate and time to first token](pictures/{workload}.png)",
    ]
    return "\n".join(lines)


def _row(scheduler: str, result: RunResult) -> tuple[str, ...]:
    difference, light, gap = result.service_difference, result.light_tenants, result.gap
    refused = sum(result.refusals.values())
    return (
        f"`{scheduler}`" + (f" (refuses {refused})" if refused else ""),
        f"{result.throughput_tokens_per_second:.0f}",
        "" if difference is None else f"{difference.avg:.1f}",
        "" if difference is None else f"{difference.max:.1f}",
        "" if result.jain_index is None else f"{result.jain_index:.3f}",
        "" if light is None or light.ttft_seconds.mean is None else f"{light.ttft_seconds.mean:.1f} s",
        "" if gap is None or not gap.bound else f"{gap.max / gap.bound:.2f}",
    )


def published_figures(published: Published) -> tuple[float, float]:
    """Average service difference and tokens per second, as the lab has them; errors are drawn several times."""
    seeds = SEEDS_OF_ERRORS if ":" in published.scheduler else range(1)
    results = [run(published.workload, published.scheduler, seed).result for seed in seeds]
    differences = [result.service_difference.avg for result in results if result.service_difference is not None]
    return mean(differences), mean(result.throughput_tokens_per_second for result in results)


def published_line(published: Published, difference: float, tokens: float) -> str:
    """Its line in the page."""
    return line(_published_row(published, difference, tokens))


def _published_row(published: Published, difference: float, tokens: float) -> tuple[str, ...]:
    return (
        published.source,
        published.workload,
        f"`{published.scheduler}`",
        f"{published.avg_difference:.2f}",
        f"{difference:.2f}",
        f"{published.tokens_per_second:.0f}",
        f"{tokens:.0f}",
    )


def goals() -> list[tuple[str, str, str]]:
    """What the product is to reach with one configuration for all: the goal, the figure, whether it is met."""
    overload, weighted = run("overload", PRODUCT), run("weighted", PRODUCT)
    shift, arena = run("dist_shift", PRODUCT), run("arena", PRODUCT)
    arena_vtc, arena_fcfs = run("arena", "vtc"), run("arena", "fcfs")
    short_long, short_long_fcfs = run("poisson_short_long", PRODUCT), run("poisson_short_long", "fcfs")
    shares = weighted.series.service(30, 780, per_weight=False)
    shares = shares / shares.sum() * 10
    half = shift.series.service(450, 510)
    kept = short_long.result.throughput_tokens_per_second / short_long_fcfs.result.throughput_tokens_per_second
    waits = [_light(it) for it in (arena, arena_vtc, arena_fcfs)]
    differences = [_avg(it) for it in (arena, arena_vtc)]
    weights = ":".join(f"{share:.3f}" for share in shares)
    return [
        _goal("overload: mean difference at most 5", f"{_avg(overload):.2f}", _avg(overload) <= 5),
        _goal(
            "weighted: shares within 1 % of 1:2:3:4",
            weights,
            all(abs(share / weight - 1) <= 0.01 for weight, share in enumerate(shares, 1)),
        ),
        _goal(
            "dist_shift: 50 ± 1 % each at 480 s",
            f"{100 * half[0] / half.sum():.1f} %",
            abs(float(half[0] / half.sum()) - 0.5) <= 0.01,
        ),
        _goal("poisson_short_long: mean difference at most 6", f"{_avg(short_long):.2f}", _avg(short_long) <= 6),
        _goal("… at 98 % of the tokens/s of first come, first served", f"{100 * kept:.1f} %", kept >= 0.98),
        _goal(
            "arena: mean difference below that of `vtc`",
            f"{differences[0]:.0f} to {differences[1]:.0f}",
            differences[0] < differences[1],
        ),
        _goal(
            "… light tenants wait less than with `vtc`",
            f"{waits[0]:.2f} s to {waits[1]:.2f} s",
            waits[0] < waits[1],
        ),
        _goal(
            "… and at most a fifteenth of what they wait first come, first served",
            f"{waits[0]:.2f} s to {waits[2]:.1f} s",
            waits[0] <= waits[2] / 15,
        ),
    ]


def goals_table() -> str:
    """The goals as they stand in the page."""
    return table(("goal", "figure", "met"), goals())


def _avg(it: Run) -> float:
    return it.result.service_difference.avg if it.result.service_difference is not None else 0.0


def _light(it: Run) -> float:
    light = it.result.light_tenants
    return (light.ttft_seconds.mean or 0.0) if light is not None else 0.0


def _goal(goal: str, figure: str, met: bool) -> tuple[str, str, str]:
    return goal, figure, "yes" if met else "not yet"


def sections(pictures: Path | None = None) -> Iterator[tuple[str, Callable[[ProcessPoolExecutor], str]]]:
    """What is generated, by the name of its marks."""

    def published(pool: ProcessPoolExecutor) -> str:
        head = ("of", "workload", "scheduler", "difference there", "here", "tokens/s there", "here")
        figures = pool.map(published_figures, PUBLISHED)
        rows = [_published_row(it, *figure) for it, figure in zip(PUBLISHED, figures, strict=True)]
        return table(head, rows)

    def reached(_pool: ProcessPoolExecutor) -> str:
        return goals_table()

    def workloads(pool: ProcessPoolExecutor) -> str:
        names = workload_names()
        return "\n\n".join(pool.map(figures_of, names, [pictures] * len(names)))

    yield "published", published
    yield "goals", reached
    yield "workloads", workloads


def write_page(page: Path, pictures: Path) -> None:
    """Replaces what is generated in the page; raises ValueError if a mark is missing."""
    text = page.read_text(encoding="utf-8")
    pictures.mkdir(exist_ok=True)
    with ProcessPoolExecutor(PROCESSES) as pool:
        for name, make in sections(pictures):
            print(f"{name} ...", file=sys.stderr)
            text = replaced(text, name, make(pool))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_page(Path(sys.argv[1]), Path(sys.argv[1]).parent / "pictures")
