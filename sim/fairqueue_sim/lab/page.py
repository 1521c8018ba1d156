"""A comparison as one HTML file: what was simulated, the figures in plain words, the picture, each tenant, the JSON.

Nothing is loaded from elsewhere and nothing runs in it. All texts are escaped: names come from anybody's trace. The
same input gives the same bytes.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from fairqueue_sim.lab.curves import requests_of, telling_tenants
from fairqueue_sim.lab.experiment import Run
from fairqueue_sim.lab.pictures import READING_HELP, png, svg
from fairqueue_sim.lab.plain_words import format_count, format_seconds, printable, scheduler_in_words
from fairqueue_sim.lab.result import Result, RunResult, TenantResult, TtftSeconds
from fairqueue_sim.lab.workloads import Workload
from fairqueue_sim.profiles import load_profile, profile_names

__all__ = ["write_page"]

# A larger SVG is slow to show and to scroll.
LARGEST_SVG_BYTES = 1_000_000
# More weights than these are told by the tables only.
MOST_WEIGHTS_IN_WORDS = 12
ABSENT = "\N{EN DASH}"
_Runs = Sequence[tuple[str, Run]]


def write_page(path: Path, workload: Workload, machine: str, runs: _Runs, *, seed: int | None = None) -> None:
    """Writes the report. `machine` is the name of the model profile, `seed` that of the workload where it has one.

    Raises OSError.
    """
    results = [(title, run.result) for title, run in runs]
    result = Result(workload.name, machine, tuple(result for _, result in results))
    template = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    parts = {
        "name": _safe(workload.name),
        "what": _what(workload, machine, seed),
        "schedulers": _schedulers(results),
        "figures": _figures(results),
        "meanings": _meanings(),
        "picture": _picture(workload, runs),
        "help": "".join(f"<dt>{escape(title)}</dt><dd>{escape(text)}</dd>" for title, text in READING_HELP),
        "tenants": "\n".join(_tenants(title, run) for title, run in results),
        "json": escape(result.to_json().decode()),
    }
    path.write_bytes(template.substitute(parts).encode())


def _safe(name: str) -> str:
    return escape(printable(name))


def _what(workload: Workload, machine: str, seed: int | None) -> str:
    """The facts of the simulation, as a list of terms and what they are."""
    asked = sum(arrival.prompt_tokens for arrival in workload.arrivals)
    made = sum(arrival.output_tokens for arrival in workload.arrivals)
    last = max((arrival.seconds for arrival in workload.arrivals), default=0.0)
    requests = format_count(len(workload.arrivals), "request")
    facts = [
        ("Workload", _safe(workload.name)),
        ("Requests", f"{requests} within {format_seconds(last)}, {asked:,} tokens of prompts, {made:,} of outputs"),
        ("Tenants", _tenants_in_words(workload)),
        ("Weights", _weights_in_words(workload)),
        ("Machine", _machine_in_words(machine)),
        ("Seed", f"{seed}: the same seed gives the same requests" if seed is not None else ""),
        ("Judged", f"the first {format_seconds(workload.seconds)}; what is left then is worked off"),
    ]
    return "".join(f"<dt>{term}</dt><dd>{fact}</dd>" for term, fact in facts if fact)


def _tenants_in_words(workload: Workload) -> str:
    tenants, requests = telling_tenants(workload), requests_of(workload)
    count = f"{len(workload.tenants):,}"
    if len(tenants) < 2:
        return count
    most, least = (f"{_safe(it)} ({format_count(requests[it], 'request')})" for it in (tenants[0], tenants[-1]))
    return f"{count}: {most} asks for most, {least} for least"


def _weights_in_words(workload: Workload) -> str:
    own = [(tenant, workload.weights[tenant]) for tenant in workload.tenants if workload.weights.get(tenant, 1) != 1]
    if not own:
        return "all alike: everybody is entitled to the same"
    if len(own) > MOST_WEIGHTS_IN_WORDS:
        return f"{len(own):,} tenants have another weight than 1: see the tables of tenants"
    listed = ", ".join(f"{_safe(tenant)} {weight}" for tenant, weight in own)
    return f"{listed}; who is not named has 1. A weight of 2 is entitled to twice as much"


def _machine_in_words(machine: str) -> str:
    if machine not in profile_names():
        return _safe(machine)
    return f"{_safe(machine)}: {escape(load_profile(machine).description)}"


def _schedulers(results: Sequence[tuple[str, RunResult]]) -> str:
    described = []
    for title, result in results:
        words = scheduler_in_words(result.scheduler)
        described.append(f"<strong>{_safe(title)}</strong>" + (f" ({escape(words)})" if words else ""))
    return ", ".join(described)


@dataclass(frozen=True, slots=True)
class _Column:
    """A figure of a run: its heading, what it means, and its text."""

    heading: str
    meaning: str
    of: Callable[[RunResult], str]


def _difference(run: RunResult) -> str:
    it = run.service_difference
    return ABSENT if it is None else f"{it.avg:,.1f} (at most {it.max:,.1f})"


def _jain(run: RunResult) -> str:
    return ABSENT if run.jain_index is None else f"{run.jain_index:.3f}"


def _light(run: RunResult) -> str:
    if run.light_tenants is None or run.light_tenants.ttft_seconds.mean is None:
        return ABSENT
    ttft = run.light_tenants.ttft_seconds
    return f"{format_seconds(ttft.mean)} (p99 {format_seconds(ttft.p99)})"


def _gap(run: RunResult) -> str:
    if run.gap is None:
        return ABSENT
    text = f"{run.gap.max:,.0f} of {run.gap.bound:,.0f}"
    return f"{text}, broken {format_count(run.gap.violations, 'time')}" if run.gap.violations else text


def _refused(run: RunResult) -> str:
    total = sum(run.refusals.values())
    reasons = ", ".join(f"{_safe(reason)} {count:,}" for reason, count in run.refusals.items())
    return f"{total:,} ({reasons})" if reasons else "0"


_COLUMNS = (
    _Column(
        "Unfairness",
        "The service difference of the VTC paper, in cost units per second: how much less than the best served tenant "
        "the others got although they wanted more, looked at minute by minute (more often if all is short); the mean "
        "and the largest. Less is fairer.",
        _difference,
    ),
    _Column(
        "Evenness",
        "Jain's index among the tenants that always have something waiting: 1 means that all get the same, 0.5 "
        "among two that one gets everything. A dash: there were no two such tenants at any time.",
        _jain,
    ),
    _Column(
        "Tokens per second",
        "What the engine got done, tokens of prompts and outputs, until the last reply. More is better: fairness "
        "should not cost speed.",
        lambda run: f"{run.throughput_tokens_per_second:,.0f}",
    ),
    _Column(
        "Wait of light tenants",
        "How long those who ask for little (each at most a twenty-fifth of all requests) wait for their first token, "
        "on average; p99: of a hundred, one waits longer. Shorter is better. A dash: all tenants are light, or none.",
        _light,
    ),
    _Column(
        "Gap and promise",
        "How far apart the counters of waiting tenants ever were, and how far the scheduler promises that they may be, "
        "in cost units. A dash: this scheduler promises nothing.",
        _gap,
    ),
    _Column("Refused", "Requests that were turned away instead of being queued, and why.", _refused),
)


def _figures(results: Sequence[tuple[str, RunResult]]) -> str:
    """The table of figures, a row for each scheduler."""
    rows = [
        _row([_safe(title), *(column.of(result) for column in _COLUMNS)], heads=["row", *[None] * len(_COLUMNS)])
        for title, result in results
    ]
    return _table("Figures of each scheduler", ["Scheduler", *(column.heading for column in _COLUMNS)], rows)


def _meanings() -> str:
    return "".join(f"<dt>{escape(it.heading)}</dt><dd>{escape(it.meaning)}</dd>" for it in _COLUMNS)


_TENANT_HEADINGS = (
    *("Tenant", "Weight", "Requests", "Completed", "Refused", "Prompt tokens", "Output tokens", "Cost units"),
    *("Mean wait", "Half wait at most", "Nine of ten at most", "Longest wait"),
)


def _tenants(title: str, run: RunResult) -> str:
    """The tenants of one run, folded away."""
    rows = [_row(_tenant(it), heads=["row", *[None] * (len(_TENANT_HEADINGS) - 1)]) for it in run.tenants]
    caption = f"Tenants with {_safe(title)}; waits are for the first token"
    table = _table(caption, _TENANT_HEADINGS, rows)
    return f"<details><summary>{_safe(title)}: {format_count(len(rows), 'tenant')}</summary>\n{table}\n</details>"


def _tenant(it: TenantResult) -> list[str]:
    counts = (it.requests, it.completed, it.refused, it.prompt_tokens, it.output_tokens, it.service)
    return [_safe(it.name), f"{it.weight:g}", *(f"{count:,}" for count in counts), *_waits(it.ttft_seconds)]


def _waits(ttft: TtftSeconds) -> list[str]:
    shown = (ttft.mean, ttft.p50, ttft.p90, ttft.max)
    return [ABSENT if seconds is None else format_seconds(seconds) for seconds in shown]


def _table(caption: str, headings: Sequence[str], rows: Sequence[str]) -> str:
    """A table from safe texts. It scrolls by itself where it is wider than the screen, with the keyboard too."""
    head = _row([escape(heading) for heading in headings], heads=["col"] * len(headings))
    body = "\n".join(rows)
    return (
        f'<div class="wide" role="region" aria-label="{caption}" tabindex="0"><table>\n<caption>{caption}</caption>\n'
        f"<thead>\n{head}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _row(cells: Sequence[str], heads: Sequence[str | None]) -> str:
    """A row of safe texts; `heads` says of which kind the headings among them are."""
    marked = (
        f"<td>{cell}</td>" if scope is None else f'<th scope="{scope}">{cell}</th>'
        for cell, scope in zip(cells, heads, strict=True)
    )
    return f"<tr>{''.join(marked)}</tr>"


def _picture(workload: Workload, runs: _Runs) -> str:
    titles = ", ".join(_safe(title) for title, _ in runs)
    label = f"Service, speed and waits of tenants over time, side by side for {titles}. The figures are in the tables."
    drawn = svg(workload, runs)
    if len(drawn) > LARGEST_SVG_BYTES:
        return f'<img alt="{label}" src="data:image/png;base64,{b64encode(png(workload, runs)).decode()}">'
    return _inline(drawn.decode(), label)


def _inline(drawn: str, label: str) -> str:
    """The SVG without what only a file of its own needs."""
    element = drawn[drawn.index("<svg") :]
    opening, rest = element.split(">", 1)
    opening = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{label}">{rest.strip()}'
