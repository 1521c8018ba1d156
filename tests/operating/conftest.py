"""An API server on a real socket, and the operator's calls to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairqueue_operator.cluster import connect
from fairqueue_operator.operator_cluster import OperatorCluster
from operating.storing_api_server import StoringApiServer


@pytest.fixture
async def server() -> AsyncIterator[StoringApiServer]:
    server = StoringApiServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def cluster(
    server: StoringApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OperatorCluster]:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    transport = await connect("fairqueue-operator")
    yield OperatorCluster(transport)
    await transport.close()
