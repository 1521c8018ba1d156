"""Records what really came as a trace (`trace_columns`): when, whose, how long, how it ended. Never content.

A row is known when its request has ended, and a trace goes by arrival: rows are kept here until all that came before
them are known, too. `begin` and `end` are called on the event loop and touch no file. What is due is written once a
second, in a thread, so that no stream waits for a disk, and in whole lines. A file that can't be written ends the
recording and nothing else.
"""

import logging
import os
import stat
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.pseudonyms import Pseudonyms
from fairqueue_proxy.trace_columns import COLUMNS
from fairqueue_proxy.whole_lines import Flushing, LineFile, in_thread

MOST_TOKENS = 1_000_000
"""Whoever reads traces takes no longer ones."""

MOST_HELD = 20_000
"""So many rows may wait for an earlier request to end: four megabytes."""

MOST_UNWRITTEN = 100_000
"""So many rows may wait in all: a disk that hangs must not fill the memory."""

_HEADER: Final = ",".join(COLUMNS) + "\n"

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Row:
    """None: its request is under way."""

    line: str | None = None


class InOrder:
    """Lines in the order in which their requests came, whatever the order in which these end."""

    def __init__(self) -> None:
        self._rows: deque[_Row] = deque()
        self._under_way: dict[Job, _Row] = {}

    def __repr__(self) -> str:
        return f"<InOrder {len(self._under_way)} under way, {self.held} held>"

    @property
    def held(self) -> int:
        """Lines that nobody has taken yet."""
        return len(self._rows) - len(self._under_way)

    @property
    def under_way(self) -> list[Job]:
        """In order of arrival."""
        return list(self._under_way)

    def begin(self, job: Job) -> None:
        """It has come."""
        row = self._under_way[job] = _Row()
        self._rows.append(row)

    def end(self, job: Job, line: str) -> None:
        """It has ended; an empty line leaves no trace. Once only: it is not under way any more."""
        row = self._under_way.pop(job, None)
        if row is not None:
            row.line = line

    def take(self) -> list[str]:
        """The lines that no earlier request is under way before; each once."""
        rows, lines = self._rows, []
        while rows and (line := rows[0].line) is not None:
            lines.append(line)
            rows.popleft()
        return lines


class Recording:
    """One trace, in an open file without a buffer of its own. `key` makes the pseudonyms of users."""

    def __init__(self, file: BinaryIO, name: str, key: bytes) -> None:
        self._file = LineFile(file)
        self._name = name
        self._pseudonyms = Pseudonyms(key)
        self._rows = InOrder()
        self._first_at: float | None = None
        self._over = False
        self._flushing = Flushing(self._write)

    def __repr__(self) -> str:
        return f"<Recording {self._name}, {self._rows!r}>"

    def start(self) -> None:
        """Begins to write; before that the file stays empty."""
        self._flushing.start()

    def begin(self, job: Job) -> None:
        """A metered request of a tenant has come."""
        if self._over:
            return
        if self._first_at is None:
            self._first_at = job.received_at
        self._rows.begin(job)
        if self._rows.held > MOST_UNWRITTEN:
            self._give_up("too much waits to be written")

    def end(self, job: Job) -> None:
        """All is known of it."""
        if not self._over:
            self._rows.end(job, self._line(job))

    async def close(self) -> None:
        """Writes what is left, and of what is still under way what is known so far."""
        try:
            await self._flushing.stop(self._write_all)
        except TimeoutError:
            self._give_up("the disk does not answer")
            return
        self._over = True
        self._file.close()

    async def _write_all(self) -> None:
        for job in self._rows.under_way:
            self.end(job)
        await self._write()

    async def _write(self) -> None:
        lines = self._due()
        if not self._file.size_bytes:
            lines.insert(0, _HEADER)
        data = "".join(lines).encode()
        if self._over or not data:
            return
        try:
            await in_thread(partial(self._file.append, data))
        except OSError as error:
            self._give_up(error.strerror or str(error))

    def _due(self) -> list[str]:
        lines = self._rows.take()
        if self._rows.held > MOST_HELD:
            for job in self._rows.under_way:
                # One that does not end is written as it is now, so that the others need not wait for it.
                self.end(job)
                lines += self._rows.take()
                if self._rows.held <= MOST_HELD:
                    break
        return lines

    def _give_up(self, why: str) -> None:
        if self._over:
            return
        self._over, self._rows = True, InOrder()
        log.error("the recording in %s has ended: %s; requests are served as before", self._name, why)

    def _line(self, job: Job) -> str:
        if job.outcome is Outcome.UNAUTHENTICATED:
            # Its tenant was removed while its body came: it is nobody's.
            return ""
        request, call = job.request, job.call
        prompt, output, cached, most = 0, 0, 0, ""
        if request is not None:
            prompt, output = request.prompt_tokens, request.output_tokens
            cached = min(request.cached_tokens, prompt)
        elif call is not None:
            prompt = call.prompt_tokens or 0
        if call is not None and call.max_tokens is not None:
            # As the counts are: of all its sequences.
            sequences = request.sequences if request is not None else call.sequences
            most = str(_bounded(call.max_tokens * sequences, least=1))
        seconds = job.received_at - (self._first_at or 0.0)
        outcome = job.outcome.value if job.outcome is not None else ""
        # The names of tenants need no quotes: they are DNS labels.
        return (
            f"{seconds:.6f},{job.tenant.name},{_bounded(prompt, least=1)},{_bounded(output)},{most},"
            f"{self._pseudonyms.of(job)},{_bounded(cached) or ''},{outcome}\n"
        )


def _bounded(tokens: int, *, least: int = 0) -> int:
    return max(least, min(tokens, MOST_TOKENS))


def open_recording(path: Path) -> Recording:
    """A recording in a new or an empty file, which others may not read.

    Raises:
        ValueError: there can't be one; the message says why.
    """
    try:
        # Non-blocking: a pipe that nobody reads must be refused, not waited for.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise ValueError(f"can't be written: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        os.close(descriptor)
        raise ValueError("is not empty" if stat.S_ISREG(status.st_mode) else "is no regular file")
    return Recording(open(descriptor, "ab", buffering=0), str(path), os.urandom(32))
