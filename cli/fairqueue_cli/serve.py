"""`fairqueue serve`: its options, and what has to begin before all that serves is loaded."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fairqueue_api.address import Address, read_address
from fairqueue_cli.rendering import Rendering
from fairqueue_proxy.fingerprint import fingerprint

if TYPE_CHECKING:
    from fairqueue_proxy.recording import Recording
    from fairqueue_proxy.usage_log import UsageLog

HELP = """Run the proxy in front of one model server.

example:
  fairqueue serve --policy policy.yaml --secrets ./secrets --engine http://127.0.0.1:8000

Clients send their key as `Authorization: Bearer KEY`; keys are read from DIR/<secret>/<key> as the policy names
them. Policy and keys are watched: a change comes into force at once, one that can't be used is logged and counted.
SIGTERM or Ctrl-C finishes what was taken (for at most the policy's drain.timeout); a second one ends at once."""

ENGINE_KINDS: Final = ("TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI")
DOCUMENT: Final = "document.json"
"""The rendered document's name in the folder that `--config` names."""


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
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write a trace of what comes to this new file: lengths, no content"
    )
    parser.add_argument(
        "--usage-log", type=Path, metavar="DIR", help="write what each request is charged to files in here: JSON lines"
    )
    parser.add_argument(
        "--usage-log-max-bytes",
        type=_positive,
        default=64 * 1024 * 1024,
        metavar="N",
        help="a usage log's file is finished at this size (%(default)s)",
    )
    parser.add_argument(
        "--usage-log-files",
        type=_positive,
        default=16,
        metavar="N",
        help="at most so many finished files are kept; older ones are deleted (%(default)s)",
    )
    parser.add_argument(
        "--termination-grace-seconds",
        type=_positive,
        metavar="N",
        help="in a pod: so long after it is told to go it is killed; the drain ends 15 s before",
    )
    parser.add_argument(
        "--batch-limit",
        type=_positive,
        metavar="N",
        help="how many requests the engine was started to run at once, where it does not report that (vLLM)",
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
        addresses = {f"{option} {text}": read_address(text, option) for option, text in given.items()}
        *_, local = addresses.values()
        if local.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"--local {args.local}: must be on loopback, e.g. 127.0.0.1:9821")
        engine = _engine(args.engine)
        if args.config is not None and args.engine_kind is None:
            raise ValueError(f"--config needs --engine-kind, one of {', '.join(ENGINE_KINDS)}")
    except ValueError as error:
        print(f"fairqueue serve: {error}", file=sys.stderr)
        return 2
    paths = [path for path in (args.policy, args.secrets) if path is not None]
    seen = fingerprint(paths)
    rendering = Rendering(*paths) if args.policy is not None else None
    # While the policy is rendered.
    from fairqueue_cli.serving import Kept, ToldOfPod, config_source, policy_source, serve

    try:
        if rendering is not None:
            source = policy_source(paths, rendering, seen)
        else:
            source = config_source(args.config / DOCUMENT, args.last_good)
        keeps = Kept(args.last_good, _recording(args.record), _usage_log(args))
    except ValueError as error:
        print(f"fairqueue serve: {error}", file=sys.stderr)
        return 2
    told = ToldOfPod(args.engine_kind, args.termination_grace_seconds, args.batch_limit)
    return serve(source, engine, addresses, told, keeps=keeps)


def _recording(path: Path | None) -> "Recording | None":
    if path is None:
        return None
    # The others need not load it.
    from fairqueue_proxy.recording import open_recording

    try:
        return open_recording(path)
    except ValueError as error:
        raise ValueError(f"--record {path}: {error}: choose another file") from None


def _usage_log(args: argparse.Namespace) -> "UsageLog | None":
    if args.usage_log is None:
        return None
    from fairqueue_proxy.usage_log import open_usage_log

    try:
        return open_usage_log(args.usage_log, most_bytes=args.usage_log_max_bytes, most_files=args.usage_log_files)
    except ValueError as error:
        raise ValueError(
            f"--usage-log {args.usage_log}: {error}: choose a folder that the proxy may write to"
        ) from None


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0, e.g. 120")
    return int(text)


def _engine(url: str) -> Address:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"--engine {url}: must be http://HOST:PORT without a path, e.g. http://127.0.0.1:8000")
    return Address(parts.hostname, port or 80)
