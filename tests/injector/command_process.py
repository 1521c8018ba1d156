"""`python -m fairqueue_operator` as a process of its own: its lines, which are JSON, and its end."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from injector.conftest import PATIENCE_SECONDS


class CommandProcess:
    """One command with these arguments, for the cluster of that kubeconfig, as the pod of that name."""

    def __init__(self, kubeconfig: Path, pod: str, *arguments: str) -> None:
        self.arguments = [*arguments]
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "POD_NAME": pod}
        self.lines: list[dict[str, Any]] = []

    async def begin(self) -> None:
        """Starts it, and reads what it says from then on."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fairqueue_operator", *self.arguments,
            env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def said(self, message: str) -> list[dict[str, Any]]:
        """Its lines with that message."""
        return [line for line in self.lines if line["message"] == message]

    async def ended(self) -> tuple[int, str]:
        """Its exit code, and what it said on standard error."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            error = await self.process.stderr.read()
            await self._reading
            return await self.process.wait(), error.decode()
