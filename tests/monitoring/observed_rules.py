"""A real Prometheus with all rules at factor 60, and an Alertmanager that it tells."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fairqueue_monitoring.made_files import rule_files, write
from fairqueue_monitoring.rule_files import Rules
from monitoring.alert_watch import LOOK_SECONDS, AlertWatch
from monitoring.prometheus_server import Server, alertmanager, prometheus

FACTOR = 60
INTERVAL = "500ms"
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Observed:
    """Both servers, and who looks at them."""

    prometheus: Server
    alertmanager: Server
    watch: AlertWatch


@asynccontextmanager
async def observed(folder: Path, targets: Mapping[str, Sequence[str]]) -> AsyncIterator[Observed]:
    """Watches `targets`, host:port by job. Each of them was read when the block begins, and nothing fires."""
    files = write(rule_files(Rules(FACTOR), folder))
    async with (
        alertmanager(folder / "alertmanager") as told,
        prometheus(folder / "prometheus", targets, files, interval=INTERVAL, alertmanager=told) as server,
    ):
        await _all_read(server, sum(map(len, targets.values())))
        yield Observed(server, told, AlertWatch(server, told))


async def _all_read(server: Server, targets: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        # It finds its targets some seconds after it begins: until then they are absent, which is an alert.
        while len(await server.query("up == 1")) < targets or await server.firing():
            await asyncio.sleep(LOOK_SECONDS)
