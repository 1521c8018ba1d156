"""What `fairqueue serve` does: build, serve, wait, drain; and where its documents come from."""

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fairqueue_api import Document, ParsedDocument, PolicyError, parse_document
from fairqueue_api.address import Address
from fairqueue_api.told import Told
from fairqueue_cli.event_loop import run_on_fast_loop, until_told
from fairqueue_cli.rendering import Rendering
from fairqueue_proxy.document_watch import DocumentWatch
from fairqueue_proxy.fingerprint import Fingerprint, fingerprint
from fairqueue_proxy.proxy import CannotListen, Proxy
from fairqueue_proxy.request_log import configure

if TYPE_CHECKING:
    from fairqueue_proxy.recording import Recording
    from fairqueue_proxy.usage_log import UsageLog

_NO_LIMIT_BYTES: Final = 1 << 60

log = logging.getLogger("fairqueue")


@dataclass(frozen=True, slots=True)
class Source:
    """Where documents come from: what to watch, how to load it, and what to start with.

    `seen` is None when that is not what is in `paths`.
    """

    paths: list[Path]
    load: Callable[[], Document]
    first: Document | None
    warnings: list[str]
    seen: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class ToldOfPod:
    """What only who started the proxy knows: the engine's kind while there is no document, how long after SIGTERM it is
    killed, and how many requests the engine was started to run at once."""

    engine_kind: str | None
    grace_seconds: int | None
    batch_limit: int | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What the proxy writes down: the last good document for the next start, a trace, what each request was charged."""

    last_good: Path | None
    recording: "Recording | None"
    usage_log: "UsageLog | None"


def policy_source(paths: list[Path], rendering: Rendering, seen: Fingerprint) -> Source:
    """A policy file and the folder of its keys, if it has any, of which the first `rendering` has begun; `seen` was
    taken before that.

    Raises:
        ValueError: that one can't be used.
    """

    def load() -> Document:
        rendered = Rendering(*paths).result()
        for warning in rendered.warnings:
            log.warning(warning)
        return rendered.document

    first = rendering.result()
    return Source(paths, load, first.document, first.warnings, seen)


def config_source(path: Path, last_good: Path | None) -> Source:
    """A rendered document, or the last good one, or none yet."""

    def read() -> ParsedDocument:
        try:
            return parse_document(path.read_bytes())
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from None

    def load() -> Document:
        parsed = read()
        for warning in _unknown_fields(path, parsed):
            log.warning(warning)
        return parsed.document

    seen = fingerprint([path])
    try:
        parsed = read()
        return Source([path], load, parsed.document, _unknown_fields(path, parsed), seen)
    except (PolicyError, ValueError) as error:
        warnings = [str(error)]
    if last_good is None:
        return Source([path], load, None, warnings)
    try:
        return Source([path], load, parse_document(last_good.read_bytes()).document, warnings)
    except (PolicyError, OSError) as error:
        return Source([path], load, None, [*warnings, f"{last_good}: {error}"])


def _unknown_fields(path: Path, parsed: ParsedDocument) -> list[str]:
    fields = ", ".join(parsed.unknown_fields)
    return [f"{path}: fields that this version does not know: {fields}"] if fields else []


def serve(source: Source, engine: Address, addresses: Mapping[str, Address], told: ToldOfPod, *, keeps: Kept) -> int:
    """Serves until told to go. `addresses` are for clients, admin and local, in this order, by the option and text that
    each was given as. Exit code 2: one of them can't be had."""
    configure()
    for warning in source.warnings:
        log.warning(warning)
    try:
        return run_on_fast_loop(_serve(source, engine, list(addresses.values()), told, keeps))
    except CannotListen as error:
        where = next(given for given, each in addresses.items() if each is error.address)
        print(f"fairqueue serve: {where}: {error}: choose another address", file=sys.stderr)
        return 2


async def _serve(source: Source, engine: Address, addresses: list[Address], told: ToldOfPod, keeps: Kept) -> int:
    proxy = Proxy(
        source.first,
        engine,
        engine_kind=told.engine_kind,
        grace_seconds=told.grace_seconds,
        batch_limit=told.batch_limit,
        memory_limit_bytes=_memory_limit_bytes(),
        recording=keeps.recording,
        usage_log=keeps.usage_log,
    )
    watch = DocumentWatch(source.paths, source.load, proxy.apply, remember=keeps.last_good, counts=proxy.reloads)
    if source.first is not None and source.seen is not None:
        watch.in_force(source.first, source.seen)
    watching: asyncio.Task[None] | None = None
    signals = Told()
    signals.listen_to_signals()
    try:
        data, admin, local = await proxy.start(*addresses)
        watching = asyncio.create_task(watch.run())
        print(
            f"fairqueue: clients on {data.host}:{data.port}, metrics and health on {admin.host}:{admin.port}, "
            f"drain and queue on {local.host}:{local.port}, engine {engine.host}:{engine.port}",
            file=sys.stderr,
            flush=True,
        )
        # What is there now stays: it need not be looked at in each collection.
        gc.collect()
        gc.freeze()
        gc.enable()
        await until_told(signals, proxy.finish)
    finally:
        if watching is not None:
            watching.cancel()
        await proxy.stop()
    return 0


def _memory_limit_bytes() -> int | None:
    """What the kernel lets this container have (cgroup v2, else v1); None without a limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limit = int(Path(path).read_text())
            return limit if limit < _NO_LIMIT_BYTES else None
    return None
