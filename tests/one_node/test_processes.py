"""A pid alone is nobody: only with its start time is it a process of ours, to be ended or waited for."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from one_node.processes import Process, Records, child_of, is_alive, kill, process_of, running_from, wait_for_end


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def stat_line(state: str, name: str = "sleep") -> str:
    fields = [state, *(str(it) for it in range(4, 22)), "987654", "23"]
    return f"4711 ({name}) {' '.join(fields)}\n"


@pytest.mark.parametrize("name", ["sleep", "a b", "a) S 1 (b"])
def test_the_start_time_is_found_whatever_the_programs_name_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711" / "stat").write_text(stat_line("S", name))
    assert process_of(4711, tmp_path) == Process(4711, 987654)


def test_what_has_ended_and_was_not_collected_is_no_process(tmp_path: Path) -> None:
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711" / "stat").write_text(stat_line("Z"))
    assert process_of(4711, tmp_path) is None
    assert process_of(4712, tmp_path) is None


def test_a_process_is_alive_until_it_is_killed(child: subprocess.Popen[bytes]) -> None:
    process = process_of(child.pid)
    assert process
    assert is_alive(process)
    kill(process)
    assert not is_alive(process)
    assert child.wait() == -signal.SIGKILL


def test_a_pid_that_another_process_has_now_is_neither_alive_nor_killed(child: subprocess.Popen[bytes]) -> None:
    process = process_of(child.pid)
    assert process
    earlier = replace(process, started_ticks=process.started_ticks - 1)
    assert not is_alive(earlier)
    kill(earlier)
    wait_for_end(earlier)
    assert is_alive(process)


def test_to_kill_what_is_gone_is_no_error(child: subprocess.Popen[bytes]) -> None:
    process = process_of(child.pid)
    assert process
    child.kill()
    child.wait()
    kill(process)
    wait_for_end(process)


def test_the_child_of_a_launcher_is_found() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 600; true"]) as launcher:
        child = child_of(launcher.pid)
        assert child
        kill(child)
    assert launcher.returncode == 0


def test_a_launcher_that_ends_at_once_has_no_child() -> None:
    with subprocess.Popen(["true"]) as launcher:
        assert child_of(launcher.pid) is None


def test_a_program_that_runs_is_found_by_its_folder(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "sleep"
    program.parent.mkdir()
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o700)
    with subprocess.Popen([program, "600"]) as process:
        assert [it.pid for it in running_from(tmp_path / "bin")] == [process.pid]
        program.unlink()
        assert [it.pid for it in running_from(tmp_path / "bin")] == [process.pid]
        assert running_from(tmp_path / "elsewhere") == []
        process.kill()


def test_records_keep_the_order_and_the_latest_of_each_name(tmp_path: Path) -> None:
    records = Records(tmp_path / "processes.json")
    assert records.read() == {}
    for name, process in (("b", Process(2, 20)), ("a", Process(1, 10)), ("b", Process(3, 30))):
        records.add(name, process)
    assert list(Records(tmp_path / "processes.json").read().items()) == [("b", Process(3, 30)), ("a", Process(1, 10))]
    assert os.listdir(tmp_path) == ["processes.json"]


def test_our_own_start_time_stays_the_same() -> None:
    mine = process_of(os.getpid())
    assert mine == process_of(os.getpid())
    code = f"from one_node.processes import *; print(is_alive(Process({os.getpid()}, {mine and mine.started_ticks})))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "e2e")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "True\n"
