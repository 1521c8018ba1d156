"""A log handler that writes what is logged in one turn of the event loop with one system call, at the turn's end.

For the loop's thread only. What can't be written is lost; whoever logs never hears of it.
"""

import asyncio
import contextlib
import logging
import os


class LinesAtOnce(logging.Handler):
    """Writes to a descriptor; at once where no event loop runs."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the line until the end of the turn."""
        try:
            self._lines.append(self.format(record))
        except Exception:
            # As of a path that is no text.
            self.handleError(record)
            return
        if len(self._lines) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:
            self.flush()

    def flush(self) -> None:
        """Writes what was kept."""
        if self._lines:
            text = "\n".join(self._lines) + "\n"
            self._lines.clear()
            with contextlib.suppress(OSError):
                os.write(self._descriptor, text.encode())
