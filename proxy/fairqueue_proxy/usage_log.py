"""The usage log: what each request was charged, one line of JSON for each, to bill by (`usage_line`, `docs/usage.md`).

A line is written when its request has ended, by whatever end, if it was charged anything: who is refused costs nothing,
and must not be able to fill the disk. `end` is called on the event loop and touches no file. Unlike a recording, the
log never ends: what can't be written waits in memory, up to a bound, and what is lost is counted and told.
"""

import errno
import logging
import os
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from fairqueue_api import Document
from fairqueue_proxy.job import Job
from fairqueue_proxy.pseudonyms import Pseudonyms
from fairqueue_proxy.usage_files import UsageFiles, Written
from fairqueue_proxy.usage_line import usage_line
from fairqueue_proxy.whole_lines import Flushing, in_thread

MOST_WAITING_BYTES: Final = 16 * 1024 * 1024
"""So much may wait for a disk that is full or hangs: some 40,000 lines."""
ANSWER_SECONDS: Final = 10.0
"""A disk that takes longer is said to hang."""

log = logging.getLogger(__name__)


class UsageLog:
    """`key` makes the pseudonyms of users, `now` is a wall clock, `monotonic` one that never jumps."""

    def __init__(
        self,
        files: UsageFiles,
        key: bytes,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._pseudonyms = Pseudonyms(key)
        self._now = now
        self._monotonic = monotonic
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        # No line that waits is older; of no meaning while none does.
        self._waiting_since = 0.0
        self.written_lines = 0
        self.lost_lines = 0
        # What has been said of the present trouble, and what it has cost so far.
        self._failing, self._losing = "", False
        self._lost_in_trouble = 0
        self._flushing = Flushing(self._flush)

    def __repr__(self) -> str:
        return f"<UsageLog {self._files.path}, {len(self._lines)} waiting, {self.lost_lines} lost>"

    @property
    def waiting_seconds(self) -> float:
        """How long lines have been waiting to be written: a second or two, unless the disk is in trouble."""
        return self._monotonic() - self._waiting_since if self._lines else 0.0

    def start(self) -> None:
        """Begins to write."""
        self._flushing.start()

    def end(self, job: Job, document: Document) -> None:
        """A metered request has ended, and all is known of it; `document` was in force when it came."""
        line = usage_line(job, document, self._pseudonyms.of(job), self._now())
        if not line:
            return
        if self._waiting_bytes + len(line) > MOST_WAITING_BYTES:
            self._lose(1)
            return
        if not self._lines:
            self._waiting_since = self._monotonic()
        self._lines.append(line)
        self._waiting_bytes += len(line)
        if not self._failing and self.waiting_seconds > ANSWER_SECONDS:
            self._tell_trouble("is not written: the disk does not answer")

    async def close(self) -> None:
        """Writes what is left, and finishes the file."""
        try:
            await self._flushing.stop(self._finish)
        except TimeoutError:
            log.error("the disk of the usage log in %s does not answer", self._folder)
        if self._lines:
            log.error("%d lines of the usage log in %s are lost", len(self._lines), self._folder)
            self.lost_lines += len(self._lines)
            self._lines.clear()

    async def _flush(self) -> None:
        if not self._lines:
            return
        began = self._monotonic()
        written = await _told(partial(self._files.append, list(self._lines)))
        for _ in range(written.lines):
            self._waiting_bytes -= len(self._lines.popleft())
        self.written_lines += written.lines
        self._tell_deleted(written)
        if written.error:
            self._tell_error(written)
        elif self._failing or self._losing:
            lost, self._lost_in_trouble = self._lost_in_trouble, 0
            log.warning("the usage log in %s is written again; %d lines are lost", self._folder, lost)
            self._failing, self._losing = "", False
        if not written.error:
            # What is left came meanwhile.
            self._waiting_since = began

    async def _finish(self) -> None:
        await self._flush()
        finished = await _told(self._files.finish)
        self._tell_deleted(finished)
        if finished.error:
            self._tell_error(finished)

    def _tell_deleted(self, written: Written) -> None:
        for name, lines in written.deleted:
            self.lost_lines += lines
            log.warning("the usage log in %s has too many files: %s is deleted, %d lines", self._folder, name, lines)

    def _tell_error(self, written: Written) -> None:
        self._tell_trouble(f"can't be written: {written.error}")

    def _tell_trouble(self, why: str) -> None:
        if self._failing != why:
            self._failing = why
            log.error("the usage log in %s %s; its lines wait, requests are served as before", self._folder, why)

    def _lose(self, lines: int) -> None:
        self.lost_lines += lines
        self._lost_in_trouble += lines
        if not self._losing:
            self._losing = True
            log.error("the usage log in %s loses lines: too many wait to be written", self._folder)

    @property
    def _folder(self) -> Path:
        return self._files.path.parent


async def _told(write: Callable[[], Written]) -> Written:
    try:
        return await in_thread(write)
    except OSError as error:
        return Written(error=error.strerror or str(error))
    except Exception as error:
        # A defect ends no log.
        return Written(error=repr(error))


def open_usage_log(folder: Path, *, most_bytes: int, most_files: int) -> UsageLog:
    """A usage log of this process. Nothing is in the folder before there is a line to write.

    Raises:
        ValueError: nothing can be written there; the message says why.
    """
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        # A disk may be full at any time: that ends no log, and begins it.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise ValueError(f"can't be written: {error.strerror}") from None
    files = UsageFiles(folder, socket.gethostname(), datetime.now(UTC), most_bytes=most_bytes, most_finished=most_files)
    return UsageLog(files, os.urandom(32))
