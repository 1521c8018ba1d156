"""Failures of commands and of waiting quote what was said, and one command at a time works on the node."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from one_node.commands import finish, run
from one_node.errors import NodeError
from one_node.only_one import only_one
from one_node.processes import process_of
from one_node.waiting import last_lines, until

E2E = Path(__file__).resolve().parents[2] / "e2e"


def test_the_output_of_a_command_is_returned() -> None:
    assert run(["echo", "hello"]) == "hello\n"


def test_a_failure_says_what_to_do_first_and_quotes_the_end_of_what_was_said() -> None:
    code = "import sys; [print(it, file=sys.stderr) for it in range(100)]; sys.exit(3)"
    for call in (
        lambda: run([sys.executable, "-c", code], what_to_do="try again"),
        lambda: finish([sys.executable, "-c", code], "counting", what_to_do="try again"),
    ):
        with pytest.raises(NodeError) as caught:
            call()
        first, *quoted = str(caught.value).splitlines()
        assert first.endswith("failed (exit code 3): try again")
        assert quoted[-1] == "  | 99"
        assert len(quoted) == 12


def test_waiting_ends_when_what_is_waited_for_is_there() -> None:
    answers = iter([False, False, True])
    until(lambda: next(answers), "a sign", {}, timeout_seconds=10)


def test_waiting_for_a_process_that_has_ended_says_why_from_its_log(tmp_path: Path) -> None:
    log = tmp_path / "thing.log"
    log.write_text("starting\nport is taken\n")
    with subprocess.Popen(["sleep", "600"]) as thing:
        process = process_of(thing.pid)
        thing.kill()
    assert process
    with pytest.raises(NodeError, match=r"(?s)thing has ended.*\| port is taken"):
        until(lambda: False, "a sign", {"thing": (process, log)}, timeout_seconds=10)


def test_waiting_in_vain_quotes_every_log(tmp_path: Path) -> None:
    mine = process_of(os.getpid())
    assert mine
    for name in ("one", "other"):
        (tmp_path / name).write_text(f"this is {name}\n")
    with pytest.raises(NodeError, match=r"(?s)no sign of a miracle.*this is one.*this is other"):
        until(
            lambda: False,
            "a miracle",
            {it: (mine, tmp_path / it) for it in ("one", "other")},
            timeout_seconds=0,
        )


def test_a_log_that_is_not_there_has_no_last_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none.log") == ""


def test_one_waits_for_the_other_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"\0fairqueue-test-{os.getpid()}"
    entered = threading.Event()

    def second() -> None:
        with only_one(name):
            entered.set()

    with only_one(name):
        waiter = threading.Thread(target=second)
        waiter.start()
        assert not entered.wait(0.3)
    waiter.join(10)
    assert entered.is_set()
    assert "waiting for another command" in capsys.readouterr().err


def test_the_lock_is_free_when_its_holder_was_killed() -> None:
    name = f"\0fairqueue-test-{os.getpid()}"
    code = """
import sys, time
from one_node.only_one import only_one
with only_one("\\0" + sys.argv[1]):
    print("in", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, name[1:]],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(E2E)},
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"in\n"
        with socket.socket(socket.AF_UNIX) as lock, pytest.raises(OSError, match="in use"):
            lock.bind(name)
        holder.kill()
    with only_one(name):
        pass


@pytest.mark.parametrize("command", ["up", "down", "status", "kubeconfig", "load", "base-image"])
def test_every_command_has_a_help_with_an_example(command: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(E2E)}
    asked = [sys.executable, "-m", "one_node", command, "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, env=environment, check=True)
    assert "example: " in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_without_root_one_line_says_so_and_the_exit_code_is_not_zero() -> None:
    code = """
import os, sys
from one_node.__main__ import main
os.setuid(65534)
sys.argv[1:] = ["up"]
sys.exit(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(E2E)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "needs root" in line
