"""Where documents come from: files that are rewritten, swapped, spoiled, taken away, and what is kept of them.

Real files; each look is the test's to make, but for the one test of the clockwork.
"""

import asyncio
import json
import logging
import os
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fairqueue_api import Document, SecretDirectory, load_policy, parse_document, render
from fairqueue_proxy import document_watch
from fairqueue_proxy.document_watch import DocumentWatch
from fairqueue_proxy.fingerprint import fingerprint
from proxy.conftest import StartProxy, Until
from proxy.samples import sample
from proxy.scripted_engine import ScriptedEngine
from proxy_stack import document_of, write_policy

Make = Callable[[int], Document]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A document that differs by a tenant's weight."""

    @cache
    def made(weight: int) -> Document:
        folder = tmp_path / f"weight-{weight}"
        # Two digits: all versions are equally long.
        return document_of(folder, tenants=[{"name": "alice", "weight": weight}])

    return made


class Watched:
    """A file, the watch on it, and what it has brought into force."""

    def __init__(self, path: Path, *, remember: Path | None = None) -> None:
        self.path = path
        self.applied: list[Document] = []
        self.loaded = 0
        self.watch = DocumentWatch([path], self._load, self.applied.append, remember=remember)

    def _load(self) -> Document:
        self.loaded += 1
        return parse_document(self.path.read_bytes()).document

    def problem(self) -> str | None:
        return self.watch.counts.problem

    @property
    def counts(self) -> tuple[int, int]:
        """Applied, failed."""
        return self.watch.counts.applied, self.watch.counts.failures

    def begin(self, document: Document) -> None:
        """With what is there now, and this document in force."""
        self.watch.in_force(document, fingerprint([self.path]))

    def write(self, content: bytes) -> None:
        """Beside it, then in its place, as whoever is careful writes."""
        beside = self.path.with_suffix(".beside")
        beside.write_bytes(content)
        beside.replace(self.path)

    def look(self) -> list[int]:
        """The weights of all that was applied so far."""
        asyncio.run(self.watch.look())
        return [document.tenants[0].weight for document in self.applied]


@pytest.fixture
def watched(tmp_path: Path, make: Make) -> Watched:
    """One whose first document is in force."""
    each = Watched(tmp_path / "document.json")
    each.write(make(10).to_json())
    each.begin(make(10))
    return each


def test_what_has_not_changed_is_not_even_read(watched: Watched) -> None:
    assert watched.look() == watched.look() == []
    assert (watched.loaded, watched.counts) == (0, (0, 0))


def test_what_changes_while_the_first_document_is_being_loaded_is_not_missed(tmp_path: Path, make: Make) -> None:
    each = Watched(tmp_path / "document.json")
    each.write(make(10).to_json())
    seen = fingerprint([each.path])
    each.write(make(11).to_json())
    each.watch.in_force(make(10), seen)
    assert each.look() == [11]


def test_each_version_comes_into_force_once(watched: Watched, make: Make) -> None:
    for weight in (11, 12):
        watched.write(make(weight).to_json())
        assert watched.look() == watched.look() == list(range(11, weight + 1))
    assert watched.counts == (2, 0)
    assert watched.applied[-1] == make(12)


def test_a_file_rewritten_in_place_is_seen_too(watched: Watched, make: Make) -> None:
    before = watched.path.stat()
    watched.path.write_bytes(make(11).to_json())
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    after = watched.path.stat()
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)
    assert watched.look() == [11]


def test_a_file_put_in_its_place_is_seen_even_with_its_times_and_size(watched: Watched, make: Make) -> None:
    before = watched.path.stat()
    watched.write(make(11).to_json())
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watched.look() == [11]


def test_the_same_content_written_again_is_no_news(watched: Watched, make: Make) -> None:
    watched.write(make(10).to_json())
    watched.path.touch()
    assert watched.look() == []
    assert watched.counts == (0, 0)


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda content: content[:-20], "is not JSON"),
    "empty": (lambda content: b"", "is not JSON"),
    "a newer schema": (lambda content: content.replace(b'"schema":1', b'"schema":2'), "schema: is not 1"),
    "a value nobody knows": (lambda content: content.replace(b'"Enforce"', b'"Enforced"'), "mode: has a value"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_version_is_counted_and_told_of_and_the_last_good_one_stays(
    watched: Watched, make: Make, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, words = BROKEN[case]
    watched.write(spoil(make(11).to_json()))
    assert watched.look() == watched.look() == []
    assert watched.counts == (0, 1)
    assert words in (watched.problem() or "")
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("ERROR", None)
    assert words in record.getMessage()
    watched.write(make(12).to_json())
    assert watched.look() == [12]
    assert (watched.counts, watched.problem()) == ((1, 1), None)


def test_after_a_broken_version_the_one_in_force_may_come_back(watched: Watched, make: Make) -> None:
    watched.write(b"{")
    watched.look()
    watched.write(make(10).to_json())
    assert watched.look() == []
    assert (watched.counts, watched.problem()) == ((0, 1), None)


def test_a_file_that_vanishes_is_a_failure_and_its_return_is_none(watched: Watched, make: Make) -> None:
    watched.path.unlink()
    assert watched.look() == watched.look() == []
    assert watched.counts == (0, 1)
    assert "document.json" in (watched.problem() or "")
    watched.write(make(10).to_json())
    assert watched.look() == []
    assert (watched.counts, watched.problem()) == ((0, 1), None)


def test_a_version_that_breaks_on_its_way_into_force_is_counted_and_the_one_before_can_be_brought_back(
    tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    each = Watched(tmp_path / "document.json")
    applied = each.applied

    def apply(document: Document) -> None:
        if document.tenants[0].weight == 11:
            raise KeyError("a fault of ours")
        applied.append(document)

    each.watch = DocumentWatch([each.path], each._load, apply)
    each.write(make(10).to_json())
    assert each.look() == [10]
    each.write(make(11).to_json())
    assert each.look() == [10]
    assert each.counts == (1, 1)
    assert make(11).revision[:12] in (each.problem() or "")
    assert [record.exc_info is not None for record in caplog.records] == [True]
    # Nobody knows how much of the other is in force.
    each.write(make(10).to_json())
    assert each.look() == [10, 10]
    assert each.problem() is None


def test_what_kubernetes_mounts_is_seen_when_its_link_is_swapped(tmp_path: Path, make: Make) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()

    def publish(version: str, content: bytes) -> None:
        """As the kubelet does: a folder of its own for each version, and a link to it, renamed into place."""
        old = [path for path in folder.glob("..20*")]
        (folder / version).mkdir()
        (folder / version / "document.json").write_bytes(content)
        (folder / "..data_tmp").symlink_to(version)
        (folder / "..data_tmp").rename(folder / "..data")
        for path in old:
            (path / "document.json").unlink()
            path.rmdir()

    publish("..2026_01_01", make(10).to_json())
    (folder / "document.json").symlink_to("..data/document.json")
    each = Watched(folder / "document.json")
    assert each.look() == [10]
    publish("..2026_01_02", make(11).to_json())
    assert each.look() == each.look() == [10, 11]
    publish("..2026_01_03", make(11).to_json())
    assert each.look() == [10, 11]
    publish("..2026_01_04", b"")
    assert each.look() == [10, 11]
    assert each.counts == (2, 1)


def test_a_folder_of_secrets_is_watched_with_all_that_is_below_it(tmp_path: Path) -> None:
    path, secrets = write_policy(tmp_path / "policy", tenants=[{"name": "alice"}, {"name": "bob"}])
    applied: list[Document] = []

    def load() -> Document:
        return render(load_policy(path), SecretDirectory(secrets))

    watch = DocumentWatch([path, secrets], load, applied.append)

    def look() -> None:
        asyncio.run(watch.look())

    first = load()
    watch.in_force(first, fingerprint([path, secrets]))
    look()
    assert applied == []
    (secrets / "keys" / "alice").write_text("another-key")
    look()
    (document,) = applied
    assert [a == b for a, b in zip(first.tenants, document.tenants, strict=True)] == [False, True]
    # Of a key that is missing the policy can't be rendered; one that nobody names is nobody's.
    (secrets / "keys" / "bob").unlink()
    look()
    assert "keys/bob" in (watch.counts.problem or "")
    (secrets / "keys" / "bob").write_text("key-of-bob")
    (secrets / "keys" / "nobody").write_text("unused")
    look()
    assert (len(applied), watch.counts.applied, watch.counts.failures) == (1, 1, 1)
    assert watch.counts.problem is None
    for secret in ("another-key", "key-of"):
        assert secret not in repr(watch.counts)


def test_the_last_good_document_is_kept_for_nobody_else_to_read(tmp_path: Path, make: Make) -> None:
    remember = tmp_path / "kept" / "last-good.json"
    remember.parent.mkdir()
    each = Watched(tmp_path / "document.json", remember=remember)
    each.begin(make(10))
    assert remember.read_bytes() == make(10).to_json()
    assert stat.S_IMODE(remember.stat().st_mode) == 0o600
    with remember.open("rb") as reader:
        each.write(make(11).to_json())
        assert each.look() == [11]
        # Who reads it has one or the other, whole.
        assert reader.read() == make(10).to_json()
    assert parse_document(remember.read_bytes()).document == make(11)
    assert stat.S_IMODE(remember.stat().st_mode) == 0o600
    each.write(b"{")
    each.look()
    assert remember.read_bytes() == make(11).to_json()
    assert [path.name for path in remember.parent.iterdir()] == ["last-good.json"]


def _full_disk(path: Path) -> None:
    path.with_name(f".{path.name}.new").symlink_to("/dev/full")


def _no_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def _folder_in_its_place(path: Path) -> None:
    path.unlink(missing_ok=True)
    (path / "occupied").mkdir(parents=True)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(_full_disk, "No space left", id="disk full"),
        pytest.param(_no_folder, "No such file", id="no folder"),
        pytest.param(_folder_in_its_place, "Is a directory", id="a folder in its place"),
    ],
)
def test_a_document_that_can_not_be_kept_is_in_force_all_the_same(
    tmp_path: Path, make: Make, spoil: Callable[[Path], None], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    remember = tmp_path / "kept" / "last-good.json"
    remember.parent.mkdir()
    each = Watched(tmp_path / "document.json", remember=remember)
    each.begin(make(10))
    spoil(remember)
    each.write(make(11).to_json())
    assert each.look() == [11]
    assert (each.counts, each.problem()) == ((1, 0), None)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelname == "WARNING"
    assert words in record.getMessage()
    if spoil is _full_disk:
        assert remember.read_bytes() == make(10).to_json()


def test_more_files_than_anybody_has_are_not_all_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairqueue_proxy.fingerprint.MOST_FILES", 3)
    for number in range(5):
        (tmp_path / f"file-{number}").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    found = [Path(name).name for name, *_ in fingerprint([tmp_path])]
    assert found == ["file-0", "file-1", "file-2"]


async def test_a_running_proxy_shows_the_problem_and_goes_on_by_the_last_good_document(
    start_proxy: StartProxy,
    scripted: ScriptedEngine,
    tmp_path: Path,
    make: Make,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(document_watch, "LOOK_SECONDS", 0.01)
    stack = await start_proxy(scripted.port)
    proxy, path = stack.proxy, tmp_path / "document.json"
    assert proxy is not None

    def load() -> Document:
        return parse_document(path.read_bytes()).document

    async def config() -> dict[str, Any]:
        return dict(json.loads((await stack.get(stack.admin, "/-/config"))[1]))

    path.write_bytes(make(10).to_json())
    watch = DocumentWatch([path], load, proxy.apply, counts=proxy.reloads)
    running = asyncio.create_task(watch.run())
    await until(lambda: proxy.reloads.applied == 1)
    assert await config() == {
        "policy": "default/test", "revision": make(10).revision, "schemas": [1], "problem": None,
    }  # fmt: skip
    path.write_bytes(b"no document")
    await until(lambda: proxy.reloads.failures == 1)
    told = await config()
    assert told["revision"] == make(10).revision
    assert "is not JSON" in told["problem"]
    text = await stack.metrics()
    assert sample(text, "config_reload_failures_total") == 1
    assert sample(text, "tenant_weight", tenant="alice") == 10
    path.write_bytes(make(11).to_json())
    await until(lambda: proxy.reloads.applied == 2)
    assert (await config())["problem"] is None
    assert sample(await stack.metrics(), "tenant_weight", tenant="alice") == 11
    running.cancel()
    assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], asyncio.CancelledError)
