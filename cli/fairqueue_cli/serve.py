"""`fairqueue serve`: parse, build, serve, wait, drain."""

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fairqueue_api import Document, ParsedDocument, PolicyError, SecretDirectory, parse_document, render
from fairqueue_proxy.document_watch import DocumentWatch, Fingerprint, fingerprint
from fairqueue_proxy.proxy import Address, CannotListen, Proxy
from fairqueue_proxy.request_log import configure

HELP = """Run the proxy in front of one model server.

example:
  fairqueue serve --policy policy.yaml --secrets ./secrets --engine http://127.0.0.1:8000

Clients send their key as `Authorization: Bearer KEY`; keys are read from DIR/<secret>/<key> as the policy names
them. Policy and keys are watched: a change comes into force at once, one that can't be used is logged and counted.
SIGTERM or Ctrl-C finishes what was taken (for at most the policy's drain.timeout); a second one ends at once."""

ENGINE_KINDS: Final = ("TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI")
_NO_LIMIT_BYTES: Final = 1 << 60

DOCUMENT: Final = "document.json"
"""The rendered document's name in the folder that `--config` names."""

log = logging.getLogger("fairqueue")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue serve`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--policy", type=Path, metavar="FILE", help="the FairnessPolicy to serve by")
    what.add_argument(
        "--config", type=Path, metavar="DIR", help=f"in a pod: where the rendered {DOCUMENT} is, or will be"
    )
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="where the API keys are: DIR/<secret>/<key>")
    parser.add_argument("--engine", required=True, metavar="URL", help="the model server, http://HOST:PORT")
    parser.add_argument(
        "--engine-kind", choices=ENGINE_KINDS, metavar="KIND", help=f"with --config: {', '.join(ENGINE_KINDS)}"
    )
    parser.add_argument(
        "--last-good", type=Path, metavar="FILE", help="keep the last good document here, and start with it in need"
    )
    parser.add_argument("--listen", default="0.0.0.0:8080", metavar="HOST:PORT", help="for clients (%(default)s)")
    parser.add_argument(
        "--admin", default="0.0.0.0:9820", metavar="HOST:PORT", help="metrics, health and readiness (%(default)s)"
    )
    parser.add_argument(
        "--local", default="127.0.0.1:9821", metavar="HOST:PORT", help="drain and queue; loopback only (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Serves until told to go. Exit code 2: bad input, in one line on standard error."""
    given = {"--listen": args.listen, "--admin": args.admin, "--local": args.local}
    try:
        addresses = [_address(text, option) for option, text in given.items()]
        if addresses[2].host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"--local {args.local}: must be on loopback, e.g. 127.0.0.1:9821")
        engine = _engine(args.engine)
        if args.config is not None and args.engine_kind is None:
            raise ValueError(f"--config needs --engine-kind, one of {', '.join(ENGINE_KINDS)}")
        source = _policy_source(args) if args.policy is not None else _config_source(args)
    except (PolicyError, ValueError) as error:
        print(f"fairqueue serve: {error}", file=sys.stderr)
        return 2
    configure()
    for warning in source.warnings:
        log.warning(warning)
    try:
        return _loop_runner()(_serve(source, engine, args, addresses))
    except CannotListen as error:
        option = next(option for option, each in zip(given, addresses, strict=True) if each is error.address)
        print(f"fairqueue serve: {option} {given[option]}: {error}: choose another address", file=sys.stderr)
        return 2


@dataclass(frozen=True, slots=True)
class _Source:
    """Where documents come from: what to watch, how to load it, and what to start with.

    `seen` is None when that is not what is in `paths`.
    """

    paths: list[Path]
    load: Callable[[], Document]
    first: Document | None
    warnings: list[str]
    seen: Fingerprint | None = None


def _policy_source(args: argparse.Namespace) -> _Source:
    # A sidecar starts on a rendered document and never pays for this import.
    from fairqueue_api import load_policy, policy_warnings

    secrets = SecretDirectory(args.secrets) if args.secrets is not None else None

    def load() -> Document:
        return render(load_policy(args.policy), secrets)

    paths = [args.policy] if args.secrets is None else [args.policy, args.secrets]
    seen = fingerprint(paths)
    policy = load_policy(args.policy)
    warnings = [str(warning) for warning in policy_warnings(policy, str(args.policy))]
    return _Source(paths, load, render(policy, secrets), warnings, seen)


def _config_source(args: argparse.Namespace) -> _Source:
    path = args.config / DOCUMENT

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
        return _Source([path], load, parsed.document, _unknown_fields(path, parsed), seen)
    except (PolicyError, ValueError) as error:
        warnings = [str(error)]
    if args.last_good is None:
        return _Source([path], load, None, warnings)
    try:
        return _Source([path], load, parse_document(args.last_good.read_bytes()).document, warnings)
    except (PolicyError, OSError) as error:
        return _Source([path], load, None, [*warnings, f"{args.last_good}: {error}"])


def _unknown_fields(path: Path, parsed: ParsedDocument) -> list[str]:
    fields = ", ".join(parsed.unknown_fields)
    return [f"{path}: fields that this version does not know: {fields}"] if fields else []


def _loop_runner() -> Callable[..., int]:
    try:
        import uvloop
    except ImportError:  # pragma: no cover - on systems without uvloop
        return asyncio.run
    return uvloop.run


async def _serve(source: _Source, engine: Address, args: argparse.Namespace, addresses: list[Address]) -> int:
    proxy = Proxy(source.first, engine, engine_kind=args.engine_kind, memory_limit_bytes=_memory_limit_bytes())
    watch = DocumentWatch(source.paths, source.load, proxy.apply, remember=args.last_good, counts=proxy.reloads)
    if source.first is not None and source.seen is not None:
        watch.in_force(source.first, source.seen)
    watching: asyncio.Task[None] | None = None
    told = asyncio.Event()
    now = asyncio.Event()

    def go() -> None:
        (now if told.is_set() else told).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, go)
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
        await told.wait()
        finished = asyncio.create_task(proxy.finish())
        at_once = asyncio.create_task(now.wait())
        await asyncio.wait({finished, at_once}, return_when=asyncio.FIRST_COMPLETED)
        for task in (finished, at_once):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
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


def _address(text: str, option: str) -> Address:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{option} {text}: must be HOST:PORT, e.g. 127.0.0.1:8080")
    return Address(host.strip("[]") or "0.0.0.0", int(port))


def _engine(url: str) -> Address:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"--engine {url}: must be http://HOST:PORT without a path, e.g. http://127.0.0.1:8000")
    return Address(parts.hostname, port or 80)
