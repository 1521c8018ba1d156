"""Asks pods' proxies which document they run on. Pods are anybody's: whatever one says, or does not, becomes a value.

No redirects, no proxies from the environment, no cookies, nothing compressed, and never more than a small answer in a
short time. How many are asked at once is for those to say who ask.
"""

import json
import os
from ipaddress import ip_address
from typing import Any, Final

import aiohttp

from .injection.names import ADMIN_PORT
from .planning.programming import Acknowledgement

CONNECT_SECONDS: Final = 1.0
TOTAL_SECONDS: Final = 2.0
MOST_BYTES: Final = 65_536
# More than the longest name of a policy with its namespace's, and all that is worth reading of a problem.
_MOST_CHARACTERS: Final = 400


class Asking:
    """See the module's text. To be entered, which opens its connections, and left, which closes them."""

    def __init__(self, port: int = ADMIN_PORT, *, total_seconds: float = TOTAL_SECONDS) -> None:
        self._port = port
        self._limits = aiohttp.ClientTimeout(total=total_seconds, sock_connect=CONNECT_SECONDS)

    async def __aenter__(self) -> "Asking":
        # Thousands of pods are asked once in a while: connections are not kept.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._limits,
            auto_decompress=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "fairqueue-operator"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, address: str) -> Acknowledgement:
        """What the proxy at that IP address says. Never raises."""
        try:
            return _read(await self._content(address))
        except TimeoutError:
            problem = "no answer in time"
        except aiohttp.ClientConnectorError as error:
            problem = os.strerror(error.errno or 0).lower()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = _line(str(error)) or type(error).__name__
        return Acknowledgement("", "", f"no answer at {_where(_line(address), self._port)}: {problem}", answered=False)

    async def _content(self, address: str) -> bytes:
        ip_address(address)
        url = f"http://{_where(address, self._port)}/-/config"
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"answered {response.status}")
            content = bytearray()
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise ValueError(f"more than {MOST_BYTES} bytes")
            return bytes(content)


def _read(content: bytes) -> Acknowledgement:
    """Raises `ValueError` if no proxy answers so."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or "revision" not in said:
        raise ValueError("the answer is not that of a proxy")
    problem = said.get("problem")
    # Of any length: a reason may name all that is wrong with a document.
    shown = _line(problem) if isinstance(problem, str) else _text(problem)
    return Acknowledgement(_text(said.get("policy")), _text(said["revision"]), shown)


def _text(value: Any) -> str:
    """What a proxy gives as a text, or as null."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MOST_CHARACTERS:
        raise ValueError("the answer is not that of a proxy")
    return value


def _line(text: str) -> str:
    return " ".join(text.split())[:_MOST_CHARACTERS]


def _where(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
