"""The files of a usage log: which there are, what is in each, and what happens on disks that are full or fail."""

import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy import usage_files as usage_files_module
from fairqueue_proxy.usage_files import UsageFiles, Written
from proxy.disks import Disk

STARTED = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
NAME = "usage-llm-0-20260304T050607.000089Z.jsonl"

Make = Callable[..., UsageFiles]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[UsageFiles] = []

    def make(host: str = "llm-0", most_bytes: int = 100, most_finished: int = 3, **given: Any) -> UsageFiles:
        files = UsageFiles(tmp_path, host, STARTED, most_bytes=most_bytes, most_finished=most_finished, **given)
        made.append(files)
        return files

    yield make
    for files in made:
        files.finish()


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.close()


def line(number: int, size_bytes: int = 10) -> bytes:
    return b"%0*d\n" % (size_bytes - 1, number)


def some(first: int, last: int) -> list[bytes]:
    return [line(number) for number in range(first, last + 1)]


def found(folder: Path) -> dict[str, list[int]]:
    """The numbers in each file; every line is whole."""
    texts = {path.name: path.read_text() for path in sorted(folder.iterdir())}
    assert all(text.endswith("\n") for text in texts.values() if text)
    return {name: [int(word) for word in text.split()] for name, text in texts.items()}


def test_nothing_is_in_the_folder_before_there_is_a_line(tmp_path: Path, make: Make) -> None:
    files = make()
    assert (files.append([]), files.finish()) == (Written(), Written())
    assert found(tmp_path) == {}


def test_lines_go_to_one_file_which_is_finished_when_it_has_no_room_for_the_next(tmp_path: Path, make: Make) -> None:
    files = make()
    assert files.append(some(1, 9)) == Written(9)
    assert found(tmp_path) == {NAME: list(range(1, 10))}
    assert files.append(some(10, 25)) == Written(16)
    assert found(tmp_path) == {
        f"{NAME}.1": list(range(1, 11)),
        f"{NAME}.2": list(range(11, 21)),
        NAME: list(range(21, 26)),
    }
    assert files.finish() == Written()
    assert found(tmp_path).keys() == {f"{NAME}.{number}" for number in (1, 2, 3)}
    assert files.append(some(26, 26)) == Written(1)
    assert found(tmp_path)[NAME] == [26]


def test_a_line_longer_than_a_file_may_be_has_one_of_its_own(tmp_path: Path, make: Make) -> None:
    files = make()
    assert files.append([line(1), line(2, 200), line(3)]) == Written(3)
    assert found(tmp_path) == {f"{NAME}.1": [1], f"{NAME}.2": [2], NAME: [3]}


@given(
    sizes=st.lists(st.lists(st.integers(2, 40), max_size=20), max_size=8),
    most_bytes=st.integers(1, 120),
    at_once=st.integers(10, 200),
)
def test_all_lines_are_there_once_and_in_order_however_they_come(
    sizes: list[list[int]], most_bytes: int, at_once: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(usage_files_module, "MOST_AT_ONCE_BYTES", at_once)
        files = UsageFiles(Path(folder), "host", STARTED, most_bytes=most_bytes, most_finished=1000)
        wanted: list[bytes] = []
        for batch in sizes:
            lines = [b"x" * (size - 1) + b"\n" for size in batch]
            wanted += lines
            assert files.append(lines) == Written(len(lines))
        files.finish()
        paths = sorted(Path(folder).iterdir(), key=lambda path: int(path.suffix[1:]))
        contents = [path.read_bytes() for path in paths]
        assert b"".join(contents) == b"".join(wanted)
        assert all(content.endswith(b"\n") for content in contents)
        assert all(len(content) <= most_bytes or content.count(b"\n") == 1 for content in contents)


def test_after_the_open_file_was_taken_away_lines_go_to_a_new_one(tmp_path: Path, make: Make) -> None:
    files = make()
    files.append(some(1, 2))
    (tmp_path / NAME).unlink()
    assert files.append(some(3, 4)) == Written(2)
    assert found(tmp_path) == {NAME: [3, 4]}


def test_the_oldest_finished_file_is_deleted_and_told_of_unless_somebody_has_collected_it(
    tmp_path: Path, make: Make
) -> None:
    files = make(most_finished=2)
    assert files.append(some(1, 40)) == Written(40, deleted=[(f"{NAME}.1", 10)])
    (tmp_path / f"{NAME}.3").rename(tmp_path / "taken")
    assert files.append(some(41, 50)) == Written(10)
    assert files.append(some(51, 60)) == Written(10, deleted=[(f"{NAME}.2", 10)])
    (tmp_path / f"{NAME}.4").unlink()
    (tmp_path / f"{NAME}.5").unlink()
    assert files.append(some(61, 80)) == Written(20)
    assert found(tmp_path).keys() == {"taken", NAME, f"{NAME}.6", f"{NAME}.7"}


def test_a_file_of_another_process_is_left_alone(tmp_path: Path, make: Make) -> None:
    cut = '{"tenant": "al'
    (tmp_path / NAME).write_text(cut)
    assert make().append([line(1)]) == Written(0, "File exists")
    assert (tmp_path / NAME).read_text() == cut
    others = make(host="llm-1", most_finished=1)
    assert others.append(some(1, 30)) == Written(30, deleted=[(f"{NAME}.1".replace("llm-0", "llm-1"), 10)])
    assert (tmp_path / NAME).read_text() == cut


def test_the_name_of_a_host_is_one_of_a_file(tmp_path: Path, make: Make) -> None:
    make(host="../a b.example").append([line(1)])
    assert found(tmp_path).keys() == {NAME.replace("llm-0", ".._a_b.example")}


def test_others_than_the_owners_group_may_not_read_it(tmp_path: Path, make: Make) -> None:
    make().append([line(1)])
    mode = stat.S_IMODE((tmp_path / NAME).stat().st_mode)
    assert mode & 0o600 == 0o600
    assert mode & 0o137 == 0


def test_a_folder_that_goes_and_comes_back_is_written_to_again(tmp_path: Path, make: Make) -> None:
    files = make()
    away = tmp_path.with_name("away")
    tmp_path.rename(away)
    assert files.append([line(1)]) == Written(0, "No such file or directory")
    away.rename(tmp_path)
    assert files.append([line(1)]) == Written(1)


@pytest.mark.parametrize("room_bytes", [0, 9, 10, 35, 49])
def test_on_a_full_disk_are_as_many_lines_as_fit_and_when_there_is_room_again_the_others(
    tmp_path: Path, make: Make, disk: Disk, room_bytes: int
) -> None:
    files = make(open_file=disk.open)
    disk.room_bytes = room_bytes
    fit = room_bytes // 10
    assert files.append(some(1, 5)) == Written(fit, "No space left on device")
    assert found(tmp_path) == {NAME: list(range(1, fit + 1))}
    disk.room_bytes = 1000
    assert files.append(some(fit + 1, 12)) == Written(12 - fit)
    assert found(tmp_path) == {f"{NAME}.1": list(range(1, 11)), NAME: [11, 12]}


def test_what_is_not_on_the_disk_for_sure_is_written_again(tmp_path: Path, make: Make, disk: Disk) -> None:
    """Once: what was in the file already is taken out first."""
    files = make(open_file=disk.open)
    files.append(some(1, 2))
    disk.syncs = False
    assert files.append(some(3, 5)) == Written(0, "Invalid argument")
    disk.syncs = True
    assert files.append(some(3, 5)) == Written(3)
    assert found(tmp_path) == {NAME: [1, 2, 3, 4, 5]}


def test_a_line_that_is_cut_for_good_is_the_last_of_its_file(tmp_path: Path, make: Make, disk: Disk) -> None:
    files = make(open_file=disk.open)
    disk.room_bytes, disk.truncates = 25, False
    assert files.append(some(1, 4)) == Written(2, "No space left on device")
    disk.room_bytes, disk.truncates = 1000, True
    assert files.append(some(3, 4)) == Written(2)
    assert (tmp_path / f"{NAME}.1").read_bytes() == line(1) + line(2) + line(3)[:5]
    assert (tmp_path / NAME).read_bytes() == line(3) + line(4)
