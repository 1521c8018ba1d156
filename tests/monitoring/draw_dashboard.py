"""Draws docs/dashboard.png: two minutes of three tenants at one real proxy in front of a simulated engine,
as the dashboard shows them.

    python tests/monitoring/draw_dashboard.py
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from fairqueue_monitoring.picture import Drawing, Span, draw, read
from monitoring.fleet import Ask, Lane, Plan, lane
from monitoring.prometheus_server import prometheus

PICTURE: Final = Path(__file__).parents[2] / "docs" / "dashboard.png"
SECONDS: Final = 120.0
INTERVAL, RATE_INTERVAL = "500ms", "5s"
PLAN: Final = Plan("llm", "vllm", slots=16, tenants=("batch", "chat", {"name": "reports", "weight": 2}))
_WORDS: Final = "word " * 60
# Requests that all last as long would begin and end together.
_LENGTHS: Final = (20, 40, 60, 80, 100, 120)

Act = Callable[[Lane], Awaitable[None]]


async def _chat(at: Lane) -> None:
    at.crowd.join("chat", 4, Ask(_WORDS, output_tokens=40, pause_seconds=1.0))


async def _batch(at: Lane) -> None:
    _flood(at, "batch", 4)


async def _reports(at: Lane) -> None:
    _flood(at, "reports", 2)


def _flood(at: Lane, tenant: str, clients: int) -> None:
    for tokens in _LENGTHS:
        at.crowd.join(tenant, clients, Ask(_WORDS, output_tokens=tokens))


async def _reports_leave(at: Lane) -> None:
    await at.crowd.leave("reports")


ACTS: Final[Mapping[float, tuple[str, Act]]] = {
    0.0: ("4 chat users", _chat),
    15.0: ("batch floods: 24 requests at a time", _batch),
    50.0: ("reports comes, weight 2: 12 at a time", _reports),
    90.0: ("reports goes", _reports_leave),
}


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            lane(folder, PLAN) as at,
            prometheus(folder / "prometheus", {"fairqueue-proxy": [at.instance]}, interval=INTERVAL) as server,
        ):
            start = time.time()
            for seconds, (_, act) in ACTS.items():
                await asyncio.sleep(start + seconds - time.time())
                await act(at)
            await asyncio.sleep(start + SECONDS - time.time())
            span = Span(start, start + SECONDS, 1.0, RATE_INTERVAL)
            panels = await asyncio.to_thread(read, server.url, span)
    draw(Drawing(panels, SECONDS, span.step, {at: words for at, (words, _) in ACTS.items()}), PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    asyncio.run(main())
