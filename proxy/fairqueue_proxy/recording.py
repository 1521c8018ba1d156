"""Records what really came as a trace (`trace_columns`): when, whose, how long, how it ended. Never content.

A row is known when its request has ended, and a trace goes by arrival: rows are kept here until all that came before
them are known, too. `begin` and `end` are called on the event loop and touch no file. What is due is written once a
second, in a thread, so that no stream waits for a disk, and in whole lines. A file that can't be written ends the
recording and nothing else.
"""

import asyncio
import hashlib
import logging
import os
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from fairqueue_proxy.identity import NOBODY
from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.trace_columns import COLUMNS

WRITE_SECONDS = 1.0

MOST_TOKENS = 1_000_000
"""Whoever reads traces takes no longer ones."""

MOST_HELD = 20_000
"""So many rows may wait for an earlier request to end: four megabytes."""

MOST_UNWRITTEN = 100_000
"""So many rows may wait in all: a disk that hangs must not fill the memory."""

_HEADER: Final = ",".join(COLUMNS) + "\n"
_PSEUDONYM_BYTES: Final = 6

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
    """One trace, in an open file without a buffer of its own. `key` makes the pseudonyms of users: with another one
    they are others."""

    def __init__(self, file: BinaryIO, name: str, key: bytes) -> None:
        self._file = file
        self._name = name
        self._keyed = hashlib.blake2b(key=key, digest_size=_PSEUDONYM_BYTES)
        self._rows = InOrder()
        self._first_at: float | None = None
        self._size_bytes = 0
        self._over = False
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Recording {self._name}, {self._rows!r}>"

    def start(self) -> None:
        """Begins to write; before that the file stays empty."""
        self._task = asyncio.get_running_loop().create_task(self._run())

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
        if self._task is not None:
            self._closing.set()
            await self._task
            for job in self._rows.under_way:
                self.end(job)
            await self._write()
        self._over = True
        with suppress(OSError):
            self._file.close()

    async def _run(self) -> None:
        while not self._closing.is_set():
            await self._write()
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._closing.wait()

    async def _write(self) -> None:
        lines = self._due()
        if not self._size_bytes:
            lines.insert(0, _HEADER)
        data = "".join(lines).encode()
        if self._over or not data:
            return
        try:
            await asyncio.to_thread(self._append, data)
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

    def _append(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            whole = data.rfind(b"\n", 0, written) + 1
            with suppress(OSError):
                self._file.truncate(self._size_bytes + whole)
            raise
        self._size_bytes += len(data)

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
            f"{self._pseudonym(job)},{_bounded(cached) or ''},{outcome}\n"
        )

    def _pseudonym(self, job: Job) -> str:
        """Who below the tenant sent it; the same name below another tenant is somebody else."""
        member = job.identity or (job.call.user if job.call is not None else None)
        if member is None or member == NOBODY:
            return ""
        hashed = self._keyed.copy()
        hashed.update(f"{job.tenant.name}\n{member}".encode())
        return hashed.hexdigest()


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
