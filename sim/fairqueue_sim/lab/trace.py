"""Traces: who asked for how much and when. Read from and written to CSV (`fairqueue_proxy.trace_columns`)."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from fairqueue_proxy.trace_columns import COLUMNS, OPTIONAL, REQUIRED

COMPLETED, CLIENT_GONE = "completed", "client_gone"
MOST_SECONDS = 1_000_000_000
"""Thirty years; a date in seconds is more."""

__all__ = ["Arrival", "TraceError", "read_trace", "write_trace"]


class TraceError(ValueError):
    """A trace that can't be used. The message is one line: the file, the line, what is allowed."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request. `output_tokens` is what it really makes, which no scheduler is told; `max_tokens` what it asks for.

    `outcome` is how it ended where it was recorded, one of the proxy's outcomes. `client_gone`: its client hangs up
    when it has seen that much, and nobody gets to know how long it would have become.
    """

    seconds: float
    tenant: str
    prompt_tokens: int
    output_tokens: int
    max_tokens: int | None = None
    user: str | None = None
    cached_tokens: int = 0
    outcome: str | None = None

    @property
    def allowed_tokens(self) -> int | None:
        """`max_tokens`, but no less than what it really makes: some engines make more than they are asked for."""
        return None if self.max_tokens is None else max(self.max_tokens, self.output_tokens)

    @property
    def hangs_up(self) -> bool:
        """Whether its client leaves before it has ended by itself."""
        return self.outcome == CLIENT_GONE

    @property
    def service(self) -> int:
        """Its cost with the paper's weights, 1 for a prompt token and 2 for an output token."""
        return self.prompt_tokens + 2 * self.output_tokens


def read_trace(path: Path) -> list[Arrival]:
    """All requests of a trace file; raises TraceError.

    One that was not completed and has made no output would have made some: it is given the mean output of its tenant's
    (else of all) other requests, at most its `max_tokens`. One that was completed without any made none, as
    embeddings do.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            arrivals = list(_arrivals(file, str(path)))
    except OSError as error:
        raise TraceError(f"{path}: can't be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: is no CSV text in UTF-8: {error}") from None
    if not arrivals:
        raise TraceError(f"{path}: has no requests: one line for each is needed below the header")
    return _with_outputs(arrivals, path)


def write_trace(file: TextIO, arrivals: Iterable[Arrival]) -> None:
    """Writes a trace that `read_trace` reads back as it was."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for it in arrivals:
        most = "" if it.max_tokens is None else it.max_tokens
        row = (repr(it.seconds), it.tenant, it.prompt_tokens, it.output_tokens, most)
        writer.writerow((*row, it.user or "", it.cached_tokens or "", it.outcome or ""))


def _arrivals(file: TextIO, name: str) -> Iterable[Arrival]:
    rows = csv.reader(file, strict=True)
    header = next(rows, [])
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise TraceError(f"{name}:1: column {missing[0]} is missing: the header must have {','.join(REQUIRED)}")
    unknown = [column for column in header if column not in COLUMNS]
    if unknown:
        raise TraceError(f"{name}:1: unknown column {unknown[0]!r}: optional ones are {','.join(OPTIONAL)}")
    twice = [column for column in header if header.count(column) > 1]
    if twice:
        raise TraceError(f"{name}:1: column {twice[0]} is there twice: leave one")
    before = 0.0
    for row in rows:
        if not row:
            continue
        place = f"{name}:{rows.line_num}"
        if len(row) != len(header):
            raise TraceError(f"{place}: has {len(row)} fields, the header has {len(header)}")
        arrival = _arrival(place, dict(zip(header, row, strict=True)))
        if arrival.seconds < before:
            raise TraceError(
                f"{place}: arrival_seconds {arrival.seconds:g} is before {before:g} of the line above: sort by arrival"
            )
        before = arrival.seconds
        yield arrival


def _arrival(place: str, row: dict[str, str]) -> Arrival:
    most = row.get("max_tokens") or None
    tenant = row["tenant"]
    if not tenant:
        raise TraceError(f"{place}: tenant is empty: a name is needed")
    return Arrival(
        seconds=_seconds(place, row["arrival_seconds"]),
        tenant=tenant,
        prompt_tokens=_count(place, "prompt_tokens", row["prompt_tokens"], 1),
        output_tokens=_count(place, "output_tokens", row["output_tokens"], 0),
        max_tokens=None if most is None else _count(place, "max_tokens", most, 1),
        user=row.get("user") or None,
        cached_tokens=_count(place, "cached_tokens", row.get("cached_tokens") or "0", 0),
        outcome=row.get("outcome") or None,
    )


def _seconds(place: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if seconds > MOST_SECONDS:
        raise TraceError(f"{place}: arrival_seconds must be at most {MOST_SECONDS}: count from the first request on")
    if not seconds >= 0:
        raise TraceError(f"{place}: arrival_seconds must be a number of seconds, 0 or more, not {text!r}")
    return seconds


def _count(place: str, column: str, text: str, least: int) -> int:
    # A million is more than any context, and keeps sums far from what a float holds exactly.
    if not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= 1_000_000 and len(text) <= 7):
        raise TraceError(f"{place}: {column} must be a whole number from {least} to 1000000, not {text!r}")
    return int(text)


def _with_outputs(arrivals: Sequence[Arrival], path: Path) -> list[Arrival]:
    made: dict[str, list[int]] = {}
    for arrival in arrivals:
        if arrival.output_tokens:
            made.setdefault(arrival.tenant, []).append(arrival.output_tokens)
    everybody = [tokens for outputs in made.values() for tokens in outputs]
    filled = []
    for arrival in arrivals:
        if not arrival.output_tokens and arrival.outcome != COMPLETED:
            outputs = made.get(arrival.tenant, everybody)
            if not outputs:
                raise TraceError(f"{path}: no request has output_tokens: lengths of outputs are needed")
            mean = max(round(sum(outputs) / len(outputs)), 1)
            most = mean if arrival.max_tokens is None else arrival.max_tokens
            # What it would have made, and so without a client that leaves before.
            outcome = None if arrival.hangs_up else arrival.outcome
            arrival = replace(arrival, output_tokens=min(mean, most), outcome=outcome)
        filled.append(arrival)
    return filled
