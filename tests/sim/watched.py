"""A truth log on which a test can wait."""

import asyncio
from collections.abc import Callable

from fairqueue_sim import Outcome, RequestTruth, TruthLog

PATIENCE_SECONDS = 10.0


class WatchedTruth(TruthLog):
    """Wakes those who wait for it at every event."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def arrived(self, request_id: str | None, path: str) -> RequestTruth:
        request = super().arrived(request_id, path)
        self._changed.set()
        return request

    def made(self, request: RequestTruth) -> None:
        super().made(request)
        self._changed.set()

    def ended(self, request: RequestTruth, outcome: Outcome) -> None:
        super().ended(request, outcome)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when the condition holds; it is looked at after each event."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_ended(self, number: int = 1) -> RequestTruth:
        """Waits for the end of the request with that running number."""
        await self.until(lambda: len(self.requests) >= number and self.requests[number - 1].outcome is not None)
        return self.requests[number - 1]
