"""Lines of a log, written by turns of the event loop."""

import asyncio
import logging
import os
from collections.abc import Iterator

import pytest

from fairqueue_api.json_lines import JsonLines
from fairqueue_proxy.lines_at_once import LinesAtOnce


class Pipe:
    """A logger whose lines go through a pipe."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        self._reader = os.fdopen(reading, "rb", buffering=0)
        self.handler = LinesAtOnce(self.writing)
        self.log = logging.Logger("lines")
        self.log.addHandler(self.handler)
        os.set_blocking(reading, False)

    def read(self) -> bytes:
        """What was written so far."""
        return self._reader.read() or b""

    def close(self) -> None:
        """Nobody reads any more."""
        self._reader.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    one.close()
    os.close(one.writing)


async def test_lines_of_one_turn_are_written_together_at_its_end(pipe: Pipe) -> None:
    pipe.log.info("one")
    pipe.log.info("two")
    assert pipe.read() == b""
    await asyncio.sleep(0)
    assert pipe.read() == b"one\ntwo\n"
    pipe.log.info("three")
    await asyncio.sleep(0)
    assert pipe.read() == b"three\n"


def test_without_a_loop_a_line_is_written_at_once(pipe: Pipe) -> None:
    pipe.log.info("one")
    assert pipe.read() == b"one\n"


async def test_what_is_kept_when_all_ends_is_written(pipe: Pipe) -> None:
    pipe.log.info("one")
    pipe.handler.flush()
    assert pipe.read() == b"one\n"


def test_what_can_not_be_written_is_lost_and_nobody_hears_of_it(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    pipe.handler.setFormatter(JsonLines())
    pipe.log.info("a path", extra={"fields": {"route": "GET /\udcff"}})
    assert pipe.read() == b""
    pipe.close()
    pipe.log.info("to nobody")
