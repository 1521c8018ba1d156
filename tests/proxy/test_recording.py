"""A recording by itself: the order of its rows, what is in them, and a file that can't be written.

What of real requests is recorded is in `test_recorded_requests`.
"""

import asyncio
import errno
import logging
import os
import stat
import threading
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_proxy import recording as recording_module
from fairqueue_proxy import whole_lines
from fairqueue_proxy.engines import Call
from fairqueue_proxy.identity import NOBODY
from fairqueue_proxy.job import Job
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.recording import InOrder, Recording, open_recording
from fairqueue_proxy.scheduler import Request
from proxy.calls import call
from proxy.conftest import Until
from proxy.desk import Desk
from proxy.traces import HEADER, Row, column, rows_of

KEY = b"k" * 32


class KeptFile(BytesIO):
    """Its content can be looked at when it has been closed. It has room for so many bytes."""

    def __init__(self, room_bytes: int = 1 << 20) -> None:
        super().__init__()
        self.room_bytes = room_bytes
        self.kept = b""

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        left = self.room_bytes - self.tell()
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data[:left])

    def close(self) -> None:
        if not self.closed:
            self.kept = self.getvalue()
        super().close()

    @property
    def text(self) -> str:
        return (self.kept if self.closed else self.getvalue()).decode()


class Tape:
    """A recording of requests that a test makes up."""

    def __init__(self, *, room_bytes: int = 1 << 20, key: bytes = KEY) -> None:
        self.desk = Desk("alice", "bob", places=1000)
        self.file = KeptFile(room_bytes)
        self.recording = Recording(self.file, "trace.csv", key)

    def come(self, tenant: str = "alice", *, after_seconds: float = 1.0, identity: str | None = None) -> Job:
        self.desk.clock.now_seconds += after_seconds
        job = Job("", self.desk.tenants[tenant], self.desk.clock(), identity=identity)
        self.recording.begin(job)
        return job

    def size(self, job: Job, *, prompt: int = 5, output: int = 0, call: Call | None = None) -> None:
        job.call = call
        job.request = Request(
            job.tenant.node, prompt_tokens=prompt, prompt_exact=True, max_output_tokens=9, output_tokens=output
        )

    def go(self, job: Job, outcome: Outcome = Outcome.COMPLETED) -> None:
        job.outcome = outcome
        self.recording.end(job)

    async def rows(self) -> list[Row]:
        """All of them, when the recording is over."""
        self.recording.start()
        await self.recording.close()
        return rows_of(self.file.text)


@given(st.lists(st.tuples(st.sampled_from(["come", "go", "take"]), st.integers(0, 9)), min_size=20, max_size=60))
def test_lines_come_by_arrival_each_as_soon_as_no_earlier_request_is_under_way(moves: list[tuple[str, int]]) -> None:
    desk, order, under_way, taken, arrived = Desk("alice"), InOrder(), dict[int, Job](), list[str](), 0
    for move, which in moves:
        if move == "come":
            under_way[arrived] = Job("", desk.tenants["alice"], 0.0)
            order.begin(under_way[arrived])
            arrived += 1
        elif move == "go" and under_way:
            number = list(under_way)[which % len(under_way)]
            order.end(under_way.pop(number), str(number))
        elif move == "take":
            taken += order.take()
            assert len(taken) == min(under_way, default=arrived)
        assert order.under_way == list(under_way.values())
        assert len(taken) + order.held + len(under_way) == arrived
    for number, job in under_way.items():
        order.end(job, str(number))
    assert taken + order.take() == [str(number) for number in range(arrived)]


def test_a_request_ends_once_and_one_that_never_began_not_at_all() -> None:
    tape, order = Tape(), InOrder()
    first, other = tape.come(), tape.come()
    order.begin(first)
    for job in (other, first, first):
        order.end(job, "x")
    assert (order.take(), repr(order)) == (["x"], "<InOrder 0 under way, 0 held>")


async def test_the_header_is_first_and_arrivals_count_from_the_first_one() -> None:
    tape = Tape()
    first, second = tape.come("bob"), tape.come("alice", after_seconds=0.25)
    third = tape.come("bob", after_seconds=100)
    tape.size(second, prompt=7, output=3)
    for job in (third, second, first):
        tape.go(job)
    await tape.rows()
    assert tape.file.text == (
        f"{HEADER}0.000000,bob,1,0,,,,completed\n0.250000,alice,7,3,,,,completed\n100.250000,bob,1,0,,,,completed\n"
    )


async def test_what_is_under_way_at_the_end_is_written_as_far_as_it_has_come_without_an_outcome() -> None:
    tape = Tape()
    first, second = tape.come(), tape.come()
    tape.size(first, output=2)
    tape.go(second)
    assert column(await tape.rows(), "output_tokens", "outcome") == [("2", ""), ("0", "completed")]
    # Too late, and no harm.
    tape.go(first)
    tape.come()


async def test_a_request_that_does_not_end_holds_back_no_more_than_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    monkeypatch.setattr(recording_module, "MOST_HELD", 10)
    tape = Tape()
    tape.recording.start()
    endless = [tape.come() for _ in range(3)]
    for _ in range(10):
        tape.go(tape.come())
    await until(lambda: tape.file.text == HEADER)
    await asyncio.sleep(0.02)
    assert tape.file.text == HEADER
    tape.go(tape.come())
    await until(lambda: len(tape.file.text.splitlines()) == 1 + 3 + 11)
    tape.go(tape.come())
    for job in endless:
        tape.go(job)
    await tape.recording.close()
    assert column(rows_of(tape.file.text), "outcome") == [("",)] * 3 + [("completed",)] * 12


async def test_rows_are_written_while_requests_come_and_not_only_at_the_end(
    monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    assert whole_lines.FLUSH_SECONDS <= 1.0
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    tape = Tape()
    tape.recording.start()
    for number in range(1, 4):
        tape.go(tape.come())
        await until(lambda: len(rows_of(tape.file.text or HEADER)) == number)  # noqa: B023 (awaited at once)
    await tape.recording.close()


async def test_before_it_is_started_the_file_stays_empty() -> None:
    """A proxy that can't listen leaves nothing behind that its next start would refuse."""
    tape = Tape()
    await tape.recording.close()
    assert tape.file.text == ""
    assert tape.file.closed


@pytest.mark.parametrize(
    ("most", "written"), [(None, ""), (0, "1"), (20, "20"), (10**12, "1000000")], ids=["none", "zero", "some", "huge"]
)
async def test_a_limit_is_written_as_readers_take_it(most: int | None, written: str) -> None:
    tape = Tape()
    job = tape.come()
    tape.size(job, prompt=2_000_000, output=3_000_000, call=call(max_tokens=most))
    tape.go(job)
    (row,) = await tape.rows()
    assert (row["prompt_tokens"], row["output_tokens"], row["max_tokens"]) == ("1000000", "1000000", written)


async def pseudonyms(*members: tuple[str, str], key: bytes = KEY) -> list[str]:
    """Of these users of these tenants."""
    tape = Tape(key=key)
    for tenant, user in members:
        job = tape.come(tenant)
        tape.size(job, call=call(user=user))
        tape.go(job)
    return [row["user"] for row in await tape.rows()]


async def test_a_user_has_one_pseudonym_in_a_recording_and_another_in_the_next() -> None:
    ann = "ann@example.com"
    names = await pseudonyms(("alice", ann), ("alice", "ben"), ("alice", ann))
    assert names[0] == names[2] != names[1]
    for name in names:
        assert len(name) == 12
        int(name, 16)
    assert names[0] not in await pseudonyms(("alice", ann), key=b"other")


async def test_one_name_below_two_tenants_is_two_users() -> None:
    one, other = await pseudonyms(("alice", "ann"), ("bob", "ann"))
    assert one != other


async def test_an_identity_goes_before_the_bodys_user_and_nobody_is_nobody() -> None:
    tape = Tape()
    for identity in ("gateway/ann", NOBODY, None):
        job = tape.come(identity=identity)
        tape.size(job, call=call(user="ben"))
        tape.go(job)
    ann, nobody, ben = (row["user"] for row in await tape.rows())
    assert [ann, ben] == await pseudonyms(("alice", "gateway/ann"), ("alice", "ben"))
    assert nobody == ""


@pytest.mark.parametrize("room_bytes", [0, 10, 200, 250], ids=str)
async def test_a_full_disk_ends_the_recording_with_whole_lines_and_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, until: Until, room_bytes: int
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    tape = Tape(room_bytes=room_bytes)
    for _ in range(10):
        tape.go(tape.come())
    left = tape.come()
    tape.recording.start()
    await until(lambda: bool(caplog.records))
    # There is room again, but a trace with a hole would be none.
    tape.file.room_bytes = 1 << 20
    tape.go(left)
    tape.go(tape.come())
    await asyncio.sleep(0.02)
    await tape.recording.close()
    whole = HEADER + "".join(f"{number}.000000,alice,1,0,,,,completed\n" for number in range(10))
    assert tape.file.text == whole[: whole.rfind("\n", 0, room_bytes) + 1]
    (line,) = caplog.records
    assert (line.levelno, line.getMessage()) == (
        logging.ERROR,
        "the recording in trace.csv has ended: No space left on device; requests are served as before",
    )


class HangingFile(KeptFile):
    """A disk that does not answer until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.writing, self.answers = threading.Event(), threading.Event()

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        self.writing.set()
        assert self.answers.wait(10)
        return super().write(data)


async def test_a_disk_that_hangs_stops_nobody_and_does_not_fill_the_memory(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(recording_module, "MOST_UNWRITTEN", 100)
    tape = Tape()
    tape.file = file = HangingFile()
    tape.recording = recording = Recording(file, "trace.csv", KEY)
    recording.start()
    # The loop is free while the file is not.
    await until(file.writing.is_set)
    for _ in range(101):
        tape.go(tape.come())
    assert not caplog.records
    tape.come()
    assert [line.getMessage() for line in caplog.records] == [
        "the recording in trace.csv has ended: too much waits to be written; requests are served as before"
    ]
    assert repr(recording) == "<Recording trace.csv, <InOrder 0 under way, 0 held>>"
    file.answers.set()
    await recording.close()
    assert file.text == HEADER


async def test_an_open_recording_is_in_a_new_file_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    for _ in range(2):
        recording = open_recording(path)
        await recording.close()
        # Nothing was recorded: it may be tried again.
        assert path.read_bytes() == b""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    recording = open_recording(path)
    recording.start()
    await recording.close()
    assert path.read_text() == HEADER


def test_what_is_in_a_file_already_stays_there(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("precious")
    with pytest.raises(ValueError, match="is not empty"):
        open_recording(path)
    assert path.read_text() == "precious"


def test_what_cannot_be_a_trace_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in {
        ".": "can't be written: Is a directory",
        "none/trace.csv": "can't be written: No such file or directory",
        "pipe": "can't be written: No such device or address",
        "/dev/null": "is no regular file",
    }.items():
        with pytest.raises(ValueError, match=f"^{why}$"):
            open_recording(tmp_path / name)


async def test_two_recordings_have_different_keys(tmp_path: Path) -> None:
    names = set()
    for name in ("one", "two"):
        tape = Tape()
        tape.recording = recording = open_recording(tmp_path / name)
        tape.go(tape.come(identity="ann"))
        recording.start()
        await recording.close()
        names |= {row["user"] for row in rows_of((tmp_path / name).read_text())}
    assert len(names) == 2


async def test_a_disk_that_does_not_answer_does_not_keep_the_proxy_from_going(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(whole_lines, "LAST_FLUSH_SECONDS", 0.02)
    tape = Tape()
    tape.file = file = HangingFile()
    tape.recording = recording = Recording(file, "trace.csv", KEY)
    recording.start()
    await until(file.writing.is_set)
    await recording.close()
    assert [line.getMessage() for line in caplog.records] == [
        "the recording in trace.csv has ended: the disk does not answer; requests are served as before"
    ]
    file.answers.set()
