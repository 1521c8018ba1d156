"""A usage log by itself: what a line has, which requests have one, and a disk that is full or does not answer.

What of real requests is in it is in `test_usage_of_requests`, its files are in `test_usage_files`.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fairqueue_api import Document
from fairqueue_proxy import usage_log as usage_log_module
from fairqueue_proxy import whole_lines
from fairqueue_proxy.job import Job
from fairqueue_proxy.metering import Usage
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.scheduler import Cost
from fairqueue_proxy.usage_files import UsageFiles
from fairqueue_proxy.usage_log import UsageLog, open_usage_log
from proxy.calls import call
from proxy.conftest import Until
from proxy.desk import Desk
from proxy.disks import Disk
from proxy.usage import Line, usage_files, usage_lines
from proxy_stack import document_of

AT = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
KEY = b"k" * 32


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.close()


class Ledger:
    """A usage log of requests that a test makes up."""

    def __init__(self, folder: Path, document: Document, disk: Disk, key: bytes = KEY) -> None:
        self.folder = folder
        self.desk = Desk("alice", "bob", places=1000)
        self._document = document
        self.files = UsageFiles(folder, "host", AT, most_bytes=1 << 20, most_finished=10, open_file=disk.open)
        self.seconds = 100.0
        self.log = UsageLog(self.files, key, AT.timestamp, lambda: self.seconds)

    def serve(self, job: Job, *, prompt: int = 5, cached: int = 0, output: int = 3) -> None:
        """The engine does so much for it."""
        usage = Usage(
            prompt_tokens=prompt,
            cached_tokens=cached,
            output_tokens=output,
            counted_tokens=output,
            exact=True,
            final=True,
        )
        self.desk.dispatcher.settle(job, usage, complete=True)

    def end(self, job: Job, outcome: Outcome = Outcome.COMPLETED) -> None:
        job.outcome = outcome
        self.log.end(job, self._document)

    def one(self, name: str = "", tenant: str = "alice") -> None:
        """A request of eleven units."""
        job = self.desk.submit(tenant, name)
        self.serve(job)
        self.end(job)

    async def lines(self) -> list[Line]:
        """All of them, when the log is over."""
        self.log.start()
        await self.log.close()
        return usage_lines(self.folder)


@pytest.fixture
def document(tmp_path: Path) -> Document:
    return document_of(tmp_path / "policy", tenants=[{"name": "alice"}, {"name": "bob"}])


@pytest.fixture
def ledger(tmp_path: Path, document: Document, disk: Disk) -> Ledger:
    folder = tmp_path / "usage"
    folder.mkdir()
    return Ledger(folder, document, disk)


async def test_a_line_says_whose_what_and_how_much(ledger: Ledger, document: Document) -> None:
    job = ledger.desk.submit("alice", "id-1")
    job.route = "POST /v1/chat/completions"
    job.call = call(model="llama", user="ann@example.com")
    ledger.serve(job, prompt=30, cached=10, output=7)
    ledger.end(job)
    (line,) = await ledger.lines()
    user = line.pop("user")
    assert list(line.items()) == [
        ("time", "2026-03-04T05:06:07.890Z"),
        ("request_id", "id-1"),
        ("policy", "default/test"),
        ("revision", document.revision),
        ("tenant", "alice"),
        ("route", "POST /v1/chat/completions"),
        ("model", "llama"),
        ("outcome", "completed"),
        # Disjoint.
        ("input_tokens", 20),
        ("cached_input_tokens", 10),
        ("output_tokens", 7),
        ("cost", 44),
    ]
    assert len(user) == 12
    int(user, 16)


async def test_what_is_not_known_is_left_out(ledger: Ledger) -> None:
    ledger.one("id-1")
    (line,) = await ledger.lines()
    assert "user" not in line
    assert "model" not in line


async def test_a_cost_with_a_fraction_has_all_its_digits(ledger: Ledger) -> None:
    ledger.desk.dispatcher.scheduler.cost = Cost(input_token=1, output_token=2, cached_input_percent=7)
    job = ledger.desk.submit("alice")
    ledger.serve(job, prompt=10, cached=9, output=1)
    ledger.end(job)
    (line,) = await ledger.lines()
    assert line["cost"] == 1 + 0.63 + 2


async def test_who_was_charged_nothing_has_no_line(ledger: Ledger) -> None:
    """Whoever is refused costs nothing, and must not be able to fill the disk."""
    ledger.end(ledger.desk.receiving("alice"), Outcome.TOO_LARGE)
    refused = ledger.desk.submit("alice")
    ledger.desk.dispatcher.drop(refused)
    ledger.end(refused, Outcome.ENGINE_ERROR)
    assert await ledger.lines() == []
    assert usage_files(ledger.folder) == []


@pytest.mark.parametrize("outcome", [Outcome.CLIENT_GONE, Outcome.ENGINE_ERROR, Outcome.DRAINING])
async def test_who_was_charged_has_a_line_however_it_ended(ledger: Ledger, outcome: Outcome) -> None:
    job = ledger.desk.submit("alice")
    ledger.serve(job, output=1)
    ledger.end(job, outcome)
    (line,) = await ledger.lines()
    assert (line["outcome"], line["input_tokens"], line["output_tokens"], line["cost"]) == (outcome.value, 5, 1, 7)


async def test_tokens_that_cost_nothing_have_a_line(ledger: Ledger) -> None:
    ledger.desk.dispatcher.scheduler.cost = Cost(input_token=0, output_token=0)
    ledger.one()
    (line,) = await ledger.lines()
    assert (line["input_tokens"], line["output_tokens"], line["cost"]) == (5, 3, 0)


async def test_users_are_the_same_within_a_process_and_others_in_the_next(
    ledger: Ledger, tmp_path: Path, document: Document, disk: Disk
) -> None:
    (tmp_path / "next").mkdir()
    users = []
    for each in (ledger, Ledger(tmp_path / "next", document, disk, key=b"other")):
        for user in ("ann", "ben", "ann"):
            job = each.desk.submit("alice")
            job.call = call(user=user)
            each.serve(job)
            each.end(job)
        users += [line["user"] for line in await each.lines()]
    assert users[0] == users[2]
    assert len(set(users)) == 4


async def test_a_path_that_is_no_text_or_too_long_does_not_spoil_a_line(ledger: Ledger) -> None:
    for route in ('POST /v1/"\udcff\n', "POST /v1/" + "x" * 5000):
        job = ledger.desk.submit("alice")
        job.route = route
        ledger.serve(job)
        ledger.end(job)
    odd, long = await ledger.lines()
    assert odd["route"] == 'POST /v1/"\\udcff\n'
    assert len(long["route"]) == 200


async def test_lines_are_written_while_requests_come_and_the_file_is_finished_at_the_end(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    ledger.log.start()
    for number in range(1, 4):
        ledger.one()
        await until(lambda: len(usage_lines(ledger.folder)) == number)  # noqa: B023 (awaited at once)
        await until(lambda: ledger.log.written_lines == number)  # noqa: B023
    assert [path.suffix for path in usage_files(ledger.folder)] == [".jsonl"]
    ledger.one()
    await ledger.log.close()
    assert [path.suffix for path in usage_files(ledger.folder)] == [".1"]
    assert len(usage_lines(ledger.folder)) == ledger.log.written_lines == 4
    assert repr(ledger.log) == f"<UsageLog {ledger.files.path}, 0 waiting, 0 lost>"


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(line.levelno, line.getMessage()) for line in caplog.records]


async def test_a_full_disk_is_told_once_ends_nothing_and_costs_no_line_that_there_is_memory_for(
    ledger: Ledger, disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    ledger.one("first")
    ledger.log.start()
    await until(lambda: ledger.log.written_lines == 1)
    disk.room_bytes = 0
    for number in range(5):
        ledger.one(f"{number}")
    await until(lambda: bool(caplog.records))
    ledger.one("last")
    await asyncio.sleep(0.03)
    assert ledger.log.written_lines == 1
    disk.room_bytes = 1 << 20
    await until(lambda: ledger.log.written_lines == 7)
    await ledger.log.close()
    assert [line["request_id"] for line in usage_lines(ledger.folder)] == ["first", *"01234", "last"]
    assert ledger.log.lost_lines == 0
    where = f"the usage log in {ledger.folder}"
    assert said(caplog) == [
        (
            logging.ERROR,
            f"{where} can't be written: No space left on device; its lines wait, requests are served as before",
        ),
        (logging.WARNING, f"{where} is written again; 0 lines are lost"),
    ]


async def test_it_tells_how_long_lines_have_been_waiting_for_the_disk(
    ledger: Ledger, disk: Disk, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    disk.answers.clear()
    ledger.seconds = 110.0
    assert ledger.log.waiting_seconds == 0.0
    ledger.one()
    ledger.seconds = 112.0
    ledger.log.start()
    await until(disk.asked.is_set)
    ledger.seconds = 115.0
    ledger.one()
    assert ledger.log.waiting_seconds == 5.0
    disk.room_bytes = 0
    disk.answers.set()
    await asyncio.sleep(0.03)
    assert (ledger.log.written_lines, ledger.log.waiting_seconds) == (0, 5.0)
    disk.room_bytes = 1 << 20
    await until(lambda: ledger.log.written_lines == 2)
    assert ledger.log.waiting_seconds == 0.0
    await ledger.log.close()


async def test_a_disk_that_does_not_answer_for_long_is_told_once(
    ledger: Ledger, disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    disk.answers.clear()
    ledger.one()
    ledger.log.start()
    await until(disk.asked.is_set)
    ledger.seconds = 110.0
    ledger.one()
    assert said(caplog) == []
    ledger.seconds = 110.1
    ledger.one()
    ledger.one()
    disk.answers.set()
    await until(lambda: ledger.log.written_lines == 4)
    await ledger.log.close()
    where = f"the usage log in {ledger.folder}"
    assert said(caplog) == [
        (
            logging.ERROR,
            f"{where} is not written: the disk does not answer; its lines wait, requests are served as before",
        ),
        (logging.WARNING, f"{where} is written again; 0 lines are lost"),
    ]


async def test_lines_that_come_while_others_are_written_wait_from_then_on(
    ledger: Ledger, disk: Disk, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 3600.0)
    disk.answers.clear()
    ledger.one()
    ledger.seconds = 103.0
    ledger.log.start()
    await until(disk.asked.is_set)
    ledger.one()
    disk.answers.set()
    await until(lambda: ledger.log.written_lines == 1)
    ledger.seconds = 104.0
    assert ledger.log.waiting_seconds == 1.0
    await ledger.log.close()


async def test_a_disk_that_hangs_stops_nobody_does_not_fill_the_memory_and_what_it_costs_is_counted(
    ledger: Ledger, disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(whole_lines, "FLUSH_SECONDS", 0.005)
    disk.answers.clear()
    ledger.one("000")
    size_bytes = len(ledger.log._lines[0])
    monkeypatch.setattr(usage_log_module, "MOST_WAITING_BYTES", 10 * size_bytes)
    ledger.log.start()
    # The loop is free while the disk is not.
    await until(disk.asked.is_set)
    for number in range(1, 10):
        ledger.one(f"{number:03}")
    assert said(caplog) == []
    for number in range(10, 14):
        ledger.one(f"{number:03}")
    assert ledger.log.lost_lines == 4
    disk.answers.set()
    await until(lambda: ledger.log.written_lines == 10)
    ledger.one("014")
    await ledger.log.close()
    names = [line["request_id"] for line in usage_lines(ledger.folder)]
    assert names == [f"{number:03}" for number in (*range(10), 14)]
    assert (ledger.log.written_lines, ledger.log.lost_lines) == (11, 4)
    where = f"the usage log in {ledger.folder}"
    assert said(caplog) == [
        (logging.ERROR, f"{where} loses lines: too many wait to be written"),
        (logging.WARNING, f"{where} is written again; 4 lines are lost"),
    ]


async def test_what_cannot_be_written_at_the_end_is_counted_and_told(
    ledger: Ledger, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.room_bytes = 0
    for _ in range(3):
        ledger.one()
    assert await ledger.lines() == []
    assert ledger.log.lost_lines == 3
    assert said(caplog)[-1] == (logging.ERROR, f"3 lines of the usage log in {ledger.folder} are lost")


async def test_a_disk_that_does_not_answer_does_not_keep_the_proxy_from_going(
    ledger: Ledger, disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(whole_lines, "LAST_FLUSH_SECONDS", 0.02)
    disk.answers.clear()
    ledger.one()
    ledger.log.start()
    await until(disk.asked.is_set)
    await ledger.log.close()
    assert [text for _, text in said(caplog)] == [
        f"the disk of the usage log in {ledger.folder} does not answer",
        f"1 lines of the usage log in {ledger.folder} are lost",
    ]
    disk.answers.set()
    await until(lambda: "disk" not in [thread.name for thread in threading.enumerate()])
    ledger.files.finish()


async def test_a_finished_file_that_is_deleted_uncollected_is_told_with_its_lines(
    tmp_path: Path, document: Document, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_usage_log(tmp_path, most_bytes=1, most_files=2)
    desk = Desk("alice", places=10)
    log.start()
    for _ in range(4):
        job = desk.submit("alice")
        desk.finish(job)
        log.end(job, document)
    await log.close()
    first = log._files.path.name + ".1"
    second = log._files.path.name + ".2"
    assert said(caplog) == [
        (logging.WARNING, f"the usage log in {tmp_path} has too many files: {name} is deleted, 1 lines")
        for name in (first, second)
    ]
    assert (log.written_lines, log.lost_lines) == (4, 2)
    assert len(usage_lines(tmp_path)) == 2


async def test_an_open_log_has_no_file_before_its_first_line(tmp_path: Path) -> None:
    log = open_usage_log(tmp_path, most_bytes=1 << 20, most_files=1)
    log.start()
    await log.close()
    assert is_empty(tmp_path)


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, why in {"none": "No such file or directory", "file": "Not a directory"}.items():
        with pytest.raises(ValueError, match=f"^can't be written: {why}"):
            open_usage_log(tmp_path / name, most_bytes=1, most_files=1)


def test_a_line_is_json_in_utf_8(ledger: Ledger) -> None:
    job = ledger.desk.submit("alice")
    job.call = call(model="größer")
    ledger.serve(job)
    ledger.end(job)
    (data,) = ledger.log._lines
    assert data.endswith(b"\n")
    assert "größer".encode() in data
    assert json.loads(data)["model"] == "größer"
