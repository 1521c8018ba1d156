"""The files of one process's usage log: one that is written, and those that are finished. All of it runs in a thread.

Lines go to `usage-HOST-START.jsonl`. A file that has no room for the next line is renamed to
`usage-HOST-START.jsonl.1`, `.2` and so on: it is finished, and whoever collects may take it away. No file is ever
opened again, so that what a crash has cut is never written on.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from fairqueue_proxy.whole_lines import LineFile

MOST_AT_ONCE_BYTES: Final = 1 << 20
"""More is written in several steps: what makes them one would hold up the event loop."""


def open_new(path: Path) -> BinaryIO:
    """A file that was not there, which its owner's group may read. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    return open(os.open(path, flags, 0o640), "ab", buffering=0)


@dataclass(slots=True)
class Written:
    """What became of lines: how many of them, from the first on, are on the disk; why the others are not; and which
    finished files, of how many lines, were deleted though nobody had collected them."""

    lines: int = 0
    error: str = ""
    deleted: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    file: LineFile
    lines: int = 0


class UsageFiles:
    """Of a process that was started at `started`. No file has more than `most_bytes`, but for one with a single line;
    no more than `most_finished` are kept."""

    def __init__(
        self,
        folder: Path,
        host: str,
        started: datetime,
        *,
        most_bytes: int,
        most_finished: int,
        open_file: Callable[[Path], BinaryIO] = open_new,
    ) -> None:
        host = re.sub(r"[^A-Za-z0-9.-]", "_", host)
        self.path = folder / f"usage-{host}-{started:%Y%m%dT%H%M%S.%fZ}.jsonl"
        self._most_bytes = most_bytes
        self._most_finished = most_finished
        self._open_file = open_file
        self._open: _Open | None = None
        self._finished: deque[tuple[Path, int]] = deque()
        self._number = 0

    def append(self, lines: Sequence[bytes]) -> Written:
        """Writes lines; those that it says are written are on the disk."""
        result = Written()
        try:
            while result.lines < len(lines):
                self._append_some(lines, result)
        except OSError as error:
            result.error = error.strerror or str(error)
        return result

    def finish(self) -> Written:
        """Closes and renames what is open, if anything is."""
        result = Written()
        try:
            if self._open is not None:
                self._finish(self._open, result)
        except OSError as error:
            result.error = error.strerror or str(error)
        return result

    def _append_some(self, lines: Sequence[bytes], result: Written) -> None:
        """Writes as many lines as there is room for, or makes room."""
        current = self._open
        if current is not None and not current.file.is_linked:
            # Somebody has taken away the one that is written: more in it would be seen by nobody.
            current.file.close()
            current = self._open = None
        if current is None:
            current = self._open = _Open(LineFile(self._open_file(self.path)))
            _sync_folder(self.path.parent)
        file = current.file
        some = _as_many_as_fit(lines, result.lines, min(self._most_bytes - file.size_bytes, MOST_AT_ONCE_BYTES))
        if not some and not file.size_bytes:
            some = lines[result.lines : result.lines + 1]
        if not some or not file.is_whole:
            self._finish(current, result)
            return
        data, before = b"".join(some), file.size_bytes
        try:
            file.append(data, sync=True)
        finally:
            written = data.count(b"\n", 0, file.size_bytes - before)
            current.lines += written
            result.lines += written

    def _finish(self, current: _Open, result: Written) -> None:
        path = self.path.with_name(f"{self.path.name}.{self._number + 1}")
        # Before it is closed: as long as it can't be renamed, it stays the one that is written. Who has taken it away
        # has collected it.
        with suppress(FileNotFoundError):
            self.path.rename(path)
            self._finished.append((path, current.lines))
        self._number += 1
        self._open = None
        current.file.close()
        _sync_folder(path.parent)
        self._delete_oldest(result)

    def _delete_oldest(self, result: Written) -> None:
        """As many as are too many, of those that nobody has collected yet."""
        self._finished = deque(each for each in self._finished if each[0].exists())
        while len(self._finished) > self._most_finished:
            path, lines = self._finished.popleft()
            with suppress(FileNotFoundError):
                path.unlink()
                result.deleted.append((path.name, lines))


def _as_many_as_fit(lines: Sequence[bytes], first: int, room_bytes: int) -> Sequence[bytes]:
    end = first
    while end < len(lines) and len(lines[end]) <= room_bytes:
        room_bytes -= len(lines[end])
        end += 1
    return lines[first:end]


def _sync_folder(folder: Path) -> None:
    """Has the names in it on the disk, too; some file systems can't."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
