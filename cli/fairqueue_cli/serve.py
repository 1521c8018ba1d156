"""`fairqueue serve`: parse, build, serve, wait, drain."""

import argparse
import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from fairqueue_api import Document, PolicyError, SecretDirectory, load_policy, render
from fairqueue_proxy.proxy import Address, CannotListen, Proxy
from fairqueue_proxy.request_log import configure

HELP = """Run the proxy in front of one model server.

example:
  fairqueue serve --policy policy.yaml --secrets ./secrets --engine http://127.0.0.1:8000

Clients send their key as `Authorization: Bearer KEY`; keys are read from DIR/<secret>/<key> as the policy names
them. SIGTERM or Ctrl-C finishes what was taken (for at most the policy's drain.timeout); a second one ends at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fairqueue serve`."""
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE", help="the FairnessPolicy to serve by")
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="where the API keys are: DIR/<secret>/<key>")
    parser.add_argument("--engine", required=True, metavar="URL", help="the model server, http://HOST:PORT")
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
        secrets = SecretDirectory(args.secrets) if args.secrets is not None else None
        document = render(load_policy(args.policy), secrets)
    except (PolicyError, ValueError) as error:
        print(f"fairqueue serve: {error}", file=sys.stderr)
        return 2
    configure()
    try:
        return _loop_runner()(_serve(document, engine, addresses))
    except CannotListen as error:
        option = next(option for option, each in zip(given, addresses, strict=True) if each is error.address)
        print(f"fairqueue serve: {option} {given[option]}: {error}: choose another address", file=sys.stderr)
        return 2


def _loop_runner() -> Callable[..., int]:
    try:
        import uvloop
    except ImportError:  # pragma: no cover - on systems without uvloop
        return asyncio.run
    return uvloop.run


async def _serve(document: Document, engine: Address, addresses: list[Address]) -> int:
    proxy = Proxy(document, engine)
    told = asyncio.Event()
    now = asyncio.Event()

    def go() -> None:
        (now if told.is_set() else told).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, go)
    try:
        data, admin, local = await proxy.start(*addresses)
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
        await proxy.stop()
    return 0


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
