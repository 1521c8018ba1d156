"""What the tests of clients share: for each kind of engine one simulator with proxies in front of it."""

import logging
from collections.abc import Callable, Iterator

import pytest

from clients.background import Background
from clients.calls import stop_programs
from clients.cases import KINDS
from clients.doors import Doors, Lines
from fairqueue_proxy import waiting
from fairqueue_sim import EngineKind, running_engine

COMMENT_SECONDS = 0.02

OpenDoors = Callable[[EngineKind], Doors]


@pytest.fixture(scope="session", autouse=True)
def _programs() -> Iterator[None]:
    """An end to the programs that call the clients."""
    yield
    stop_programs()


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    """The loop of engines and proxies."""
    with Background() as running:
        yield running


@pytest.fixture(scope="module")
def log() -> Iterator[Lines]:
    """What the proxies log of requests."""
    lines, logger = Lines(), logging.getLogger("fairqueue.requests")
    before = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(before)


@pytest.fixture(scope="module")
def doors(background: Background, log: Lines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoors]:
    """An engine of a kind and the proxies in front of it. Comments come often."""
    opened: dict[EngineKind, Doors] = {}

    def doors_of(kind: EngineKind) -> Doors:
        if kind not in opened:
            engine = background.enter(running_engine(kind))
            opened[kind] = Doors(background, tmp_path_factory.mktemp(kind), KINDS[kind], engine.port, log)
        return opened[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "COMMENT_SECONDS", COMMENT_SECONDS)
        yield doors_of
