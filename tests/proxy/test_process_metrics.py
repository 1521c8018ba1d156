"""What the proxy says of its own process is what the kernel says of it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairqueue_proxy.process_metrics import PROCESS_FAMILIES, process_parts

ASK = "from fairqueue_proxy.process_metrics import process_parts; print(''.join(process_parts()))"


def values(text: str) -> dict[str, float]:
    return {it.name: it.value for family in text_string_to_metric_families(text) for it in family.samples}


def test_each_is_shown_with_its_kind_and_meaning_and_nothing_else() -> None:
    found = list(text_string_to_metric_families("".join(process_parts())))
    assert [(f"{it.name}_total" if it.type == "counter" else it.name, it.type, it.documentation) for it in found] == [
        (it.name, it.kind.value, it.text) for it in PROCESS_FAMILIES
    ]


def test_cpu_and_memory_grow_with_what_the_process_uses() -> None:
    before = values("".join(process_parts()))
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    ballast = bytearray(b"x" * (64 << 20))
    after = values("".join(process_parts()))
    assert after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"] >= 0.05
    assert after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"] > len(ballast) / 2


def test_each_open_file_counts() -> None:
    before = values("".join(process_parts()))["process_open_fds"]
    pipes = [os.pipe() for _ in range(50)]
    after = values("".join(process_parts()))["process_open_fds"]
    for end in [end for pipe in pipes for end in pipe]:
        os.close(end)
    assert after - before == 100
    assert before == pytest.approx(len(os.listdir("/proc/self/fd")), abs=2)


def test_the_start_is_when_the_process_started_and_does_not_move() -> None:
    before = time.time()
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    # Ticks of the kernel's are hundredths of a second.
    assert before - 0.02 <= values(done.stdout)["process_start_time_seconds"] <= time.time()
    starts = {values("".join(process_parts()))["process_start_time_seconds"] for _ in range(3)}
    assert len(starts) == 1


def test_a_kernel_that_does_not_tell_how_many_files_are_open_has_them_counted_with_a_break_after_each(
    tmp_path: Path,
) -> None:
    """Folders below /proc have size 0 but for this one, since Linux 6.2."""
    for name in ("stat", "statm"):
        shutil.copy(f"/proc/self/{name}", tmp_path / name)
    (tmp_path / "fd").symlink_to("/proc/sys/kernel")
    assert (tmp_path / "fd").stat().st_size == 0
    parts = list(process_parts(tmp_path))
    entries = len(os.listdir("/proc/sys/kernel"))
    assert parts.count("") == entries > 10
    assert values("".join(parts))["process_open_fds"] == entries


def test_where_there_is_no_proc_cpu_time_is_shown_all_the_same(tmp_path: Path) -> None:
    assert values("".join(process_parts(tmp_path / "none"))).keys() == {"process_cpu_seconds_total"}
