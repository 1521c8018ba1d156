"""A thread for what may take a disk's time: what it returns and raises, and that nobody waits for it at the end."""

import asyncio
import subprocess
import sys
import threading

import pytest

from fairqueue_proxy.whole_lines import Flushing, in_thread

HANGING = """
import asyncio, contextlib, time
from fairqueue_proxy.whole_lines import in_thread
async def main():
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_thread(lambda: time.sleep(600))
asyncio.run(main())
print("gone")
"""


def broken() -> None:
    raise OSError(5, "Input/output error")


async def test_what_a_function_returns_or_raises_comes_back() -> None:
    here = threading.get_ident()
    assert await in_thread(threading.get_ident) != here
    with pytest.raises(OSError, match="Input/output error"):
        await in_thread(broken)


async def test_others_are_let_in_meanwhile() -> None:
    let_in = threading.Event()
    asyncio.get_running_loop().call_soon(let_in.set)
    assert await in_thread(lambda: let_in.wait(10))


async def test_where_there_can_be_no_thread_it_is_as_if_the_disk_had_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="no thread to write in: can't start new thread"):
        await in_thread(lambda: None)


def test_a_process_ends_though_a_disk_does_not_answer() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "gone\n", "")


async def test_what_was_never_started_is_not_ended_with_a_last_flush() -> None:
    async def flush() -> None:
        raise AssertionError("it was")

    await Flushing(flush).stop(flush)
