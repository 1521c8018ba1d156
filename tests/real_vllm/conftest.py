"""What the tests against a real vLLM share. Only `make test-vllm` collects them.

One server at a time for each kind of model, each with a tap and a proxy in front of it. All tests run on one loop.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from real_vllm.bench import Bench, bench_of


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write what was seen to tests/data/vllm")


@pytest.fixture(scope="session")
def recording(request: pytest.FixtureRequest) -> bool:
    """Whether what was seen is to be kept."""
    return bool(request.config.getoption("--record", default=False))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A model that writes."""
    async with bench_of("generate", tmp_path_factory.mktemp("generate")) as running:
        yield running
