"""Disks that are full, or fail, or do not answer: real files whose writes a test decides on."""

import errno
import io
import os
import threading
from pathlib import Path
from typing import BinaryIO, cast


class Disk:
    """Has room for so many bytes. `open` is for `UsageFiles`."""

    def __init__(self, room_bytes: int = 1 << 30) -> None:
        self.room_bytes = room_bytes
        self.truncates = True
        self.syncs = True
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()
        # A pipe can't be synced.
        self.pipe, self._other_end = os.pipe()

    def open(self, path: Path) -> BinaryIO:
        with open(path, "xb"):
            pass
        return cast(BinaryIO, _File(path, self))

    def close(self) -> None:
        os.close(self.pipe)
        os.close(self._other_end)


class _File(io.FileIO):
    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path, "ab")
        self._disk = disk

    def write(self, data: bytes) -> int:  # type: ignore[override]
        disk = self._disk
        disk.asked.set()
        assert disk.answers.wait(10)
        some = data[: disk.room_bytes]
        if not some:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        disk.room_bytes -= len(some)
        return super().write(some)

    def truncate(self, size: int | None = None) -> int:
        if not self._disk.truncates:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        before = os.fstat(super().fileno()).st_size
        after = super().truncate(size)
        self._disk.room_bytes += before - after
        return after

    def fileno(self) -> int:
        return super().fileno() if self._disk.syncs else self._disk.pipe
