"""What a load run is made of: the tenants, where they send to, and when the run ends.

Parsing only; nothing here opens a connection. Keys are read from files while a spec is parsed, so that a missing
file is bad input and not a failure in the middle of a run. A key is in no `repr` and in no message.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

Api = Literal["tgi", "openai"]
Client = Literal["library", "http"]


class SpecError(ValueError):
    """Bad input. The message is one line that names the option, the field and the fix."""


@dataclass(frozen=True, slots=True)
class TenantSpec:
    """A closed loop: each of `workers` sends one streamed request, reads its reply to the end, thinks, sends the next.

    `max_tokens` is the lowest and the highest that a request asks for; each draws its own. (Replies of one length run
    in step in the engine's batch, and then its slots come free all at once.)
    `weight` only normalises the report (the load generator cannot know what the server was told).
    """

    name: str
    workers: int = 1
    max_tokens: tuple[int, int] = (64, 64)
    prompt_words: int = 20
    think_seconds: float = 0.0
    weight: float = 1.0
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Who sends what to where. The same plan and seed send the same prompts in the same order per worker.

    `client` is what it is sent with: what users of the API have (`library`), or plain HTTP, which is cheap.
    """

    target: str
    api: Api
    tenants: tuple[TenantSpec, ...]
    seed: int = 0
    model: str | None = None
    client: Client = "http"
    ignore_eos: bool = False

    @property
    def url(self) -> str:
        """The route that streams a reply. A target that already ends in `/v1` is taken as an OpenAI base URL."""
        base = self.target.rstrip("/")
        if self.api == "tgi":
            return f"{base}/generate_stream"
        return f"{base}/chat/completions" if base.endswith("/v1") else f"{base}/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Stop:
    """The run ends at whichever of these comes first; with none set, when the caller interrupts it.

    `requests` counts requests of all tenants together and lets the last ones finish; the other two cut what is
    running. With `warm_up` the run is measured only from the moment when every worker has had its first token, and
    `replies` counts only replies to requests sent after that.
    """

    duration_seconds: float | None = None
    requests: int | None = None
    tenant: str | None = None
    replies: int = 0
    warm_up: bool = False


def parse_target(text: str) -> str:
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise SpecError(f"--target {text}: not an address; write it like http://127.0.0.1:8080")
    return text


def _whole(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise ValueError
        return number

    return parse


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or number < 0:
        raise ValueError
    return number


def _positive(text: str) -> float:
    number = _real(text)
    if number == 0:
        raise ValueError
    return number


def _tokens(text: str) -> tuple[int, int]:
    lowest, dash, highest = text.partition("-")
    both = _whole(1)(lowest), _whole(1)(highest if dash else lowest)
    if both[0] > both[1]:
        raise ValueError
    return both


_NUMBERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "workers": (_whole(1), "a whole number, 1 or more"),
    "max_tokens": (_tokens, "a whole number, 1 or more, or two like 16-48"),
    "prompt_words": (_whole(1), "a whole number, 1 or more"),
    "think_seconds": (_real, "a number of seconds, 0 or more"),
    "weight": (_positive, "a number above 0"),
}
_FIELDS = ("name", *_NUMBERS, "key_file")


def parse_tenant(text: str) -> TenantSpec:
    """`name=chat,workers=4,max_tokens=16-48,prompt_words=40,think_seconds=1,weight=2,key_file=PATH`."""
    values = _split(text)
    if not values.get("name"):
        raise SpecError(f"--tenant {text}: name is missing; write it like name=chat,workers=4")
    numbers: dict[str, Any] = {}
    for name, (parse, meaning) in _NUMBERS.items():
        if name in values:
            try:
                numbers[name] = parse(values[name])
            except ValueError:
                raise SpecError(f"--tenant {text}: {name} must be {meaning}, not {values[name]!r}") from None
    path = values.get("key_file")
    key = None if path is None else read_key(f"--tenant {text}: key_file {path}", Path(path))
    return TenantSpec(name=values["name"], key=key, **numbers)


def _split(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or name not in _FIELDS:
            raise SpecError(f"--tenant {text}: {part!r} is not one of {', '.join(f'{field}=' for field in _FIELDS)}")
        if name in values:
            raise SpecError(f"--tenant {text}: {name} is given twice; leave one")
        values[name] = value
    return values


def read_key(what: str, path: Path) -> str:
    """The key in a file, without the white space around it. Raises SpecError, which begins with `what`, if it can't be
    read or a header could not carry it."""
    try:
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SpecError(f"{what} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        key = ""
    if not key or not key.isprintable() or " " in key:
        raise SpecError(f"{what} must hold one key in ASCII and nothing else")
    return key


def parse_tenants(texts: list[str]) -> tuple[TenantSpec, ...]:
    tenants = tuple(parse_tenant(text) for text in texts)
    names = [tenant.name for tenant in tenants]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"--tenant name={name}: given twice; give it once with the sum of the workers")
    return tenants


def parse_until(text: str, tenants: tuple[TenantSpec, ...]) -> Stop:
    """`NAME=N`: until tenant NAME has N whole replies."""
    name, _, number = text.rpartition("=")
    try:
        replies = _whole(1)(number)
    except ValueError:
        raise SpecError(f"--until {text}: write it like --until chat=20") from None
    if name not in {tenant.name for tenant in tenants}:
        raise SpecError(f"--until {text}: no --tenant has the name {name!r}")
    return Stop(tenant=name, replies=replies)
