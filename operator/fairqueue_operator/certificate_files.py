"""Serves a certificate that somebody else keeps in a directory, such as cert-manager by a mounted Secret.

Read again every few seconds: kubelet changes such files behind a symbolic link, which no watch of the file sees. What
cannot be used is logged, and the last certificate goes on being served. The `caBundle` is that somebody's too.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from . import log_lines
from .certificates import CERTIFICATE, KEY, CertificateError
from .serving_context import ServingContext

INTERVAL_SECONDS: Final = 5.0


class CertificateFiles:
    """`tls.crt` and `tls.key` of one directory."""

    def __init__(self, directory: Path, serving: ServingContext) -> None:
        self._directory = directory
        self._serving = serving
        self._said = ""

    async def run(self, pause: Callable[[float], Awaitable[None]]) -> None:
        """Looks now and then, for ever."""
        while True:
            self.look()
            await pause(INTERVAL_SECONDS)

    def look(self) -> None:
        """Takes up what is in the directory, if it is new and can be served."""
        try:
            chain, key = ((self._directory / name).read_bytes() for name in (CERTIFICATE, KEY))
            if self._serving.load(chain, key):
                log_lines.info("certificate loaded", directory=str(self._directory))
            self._said = ""
        except (OSError, CertificateError) as error:
            what = error.strerror if isinstance(error, OSError) else str(error)
            if what != self._said:
                log_lines.warning("certificate not loaded", directory=str(self._directory), error=what)
            self._said = what or ""
