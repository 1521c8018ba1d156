"""Lines on their way to a disk, without any stream that waits for it: what a recording and the usage log share.

The event loop touches no file. Once a second it hands lines to a thread, which writes them whole: a disk that is full
in the middle of a line leaves no part of it.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, TypeVar

FLUSH_SECONDS = 1.0

LAST_FLUSH_SECONDS = 5.0
"""So long the end of the process waits for a disk that does not answer."""

_Result = TypeVar("_Result")


class LineFile:
    """Whole lines in an open file without a buffer of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = 0
        # No: at its end is a part of a line that could not be taken away.
        self.is_whole = True

    @property
    def is_linked(self) -> bool:
        """It has a name: nobody has deleted it."""
        return os.fstat(self._file.fileno()).st_nlink > 0

    def append(self, lines: bytes, *, sync: bool = False) -> None:
        """Writes lines; with `sync` they are on the disk when it returns.

        Raises:
            OSError: not all are; `size_bytes` says how many of them, from the first on.
        """
        kept = len(lines)
        failed: OSError | None = None
        try:
            self._write(lines)
        except _Cut as cut:
            kept, failed = lines.rfind(b"\n", 0, cut.written) + 1, cut.error
            self._cut_back(kept)
        try:
            if sync and kept:
                os.fsync(self._file.fileno())
        except OSError as error:
            # Nobody can tell what of it the disk has.
            kept, failed = 0, error
            self._cut_back(kept)
        self.size_bytes += kept
        if failed is not None:
            raise failed

    def close(self) -> None:
        """All is written, or nothing more can be."""
        with suppress(OSError):
            self._file.close()

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:
            raise _Cut(written, error) from None

    def _cut_back(self, kept: int) -> None:
        try:
            self._file.truncate(self.size_bytes + kept)
        except OSError:
            self.is_whole = False


class _Cut(Exception):
    """Not all of it could be written."""

    def __init__(self, written: int, error: OSError) -> None:
        super().__init__()
        self.written = written
        self.error = error


class Flushing:
    """Has `flush` called once a second, until it is stopped."""

    def __init__(self, flush: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._flush = flush
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The first call is at once."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ends it, and then has `last` called, if it was ever started.

        Raises:
            TimeoutError: the disk does not answer.
        """
        if self._task is None:
            return
        self._stopping.set()
        async with asyncio.timeout(LAST_FLUSH_SECONDS):
            await self._task
            await last()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self._flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._stopping.wait()


async def in_thread(function: Callable[[], _Result]) -> _Result:
    """As `asyncio.to_thread`; but the end of the process does not wait for the thread: a disk may never answer.

    Raises:
        OSError: there can be no thread; and whatever the function raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def tell(how: Callable[[], None]) -> None:
        if not done.done():
            how()

    def run() -> None:
        try:
            how = partial(done.set_result, function())
        except Exception as error:
            how = partial(done.set_exception, error)
        # The loop may be gone.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, how)

    try:
        threading.Thread(target=run, name="disk", daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, f"no thread to write in: {error}") from None
    return await done
