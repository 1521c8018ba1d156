"""The way to the API server: with `kubeconfig`, all that knows the client library.

The library (`kubernetes.aio`) finds the server, its certificate and our token, and renews the token; requests are
sent through its generic call rather than through its generated methods, which check every argument's type against a
list and build objects that nobody needs here. What is asked for is said by those who use this (`injector_cluster`,
`operator_cluster`). Each request has a time limit; none is tried again: that is for those who know what may wait.
Errors are `ClusterError`s, whose text never has anything of a Secret.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import OpenApiException
from kubernetes.aio.config import ConfigException

from .api_answers import decoded, one_line, refusal
from .cluster_model import ClusterError, Resource, ResourceEvent, ResourceList, Unreachable
from .kubeconfig import load
from .resource_json import mapping, version_of
from .watch_lines import LineReader, read_event

JSON: Final = "application/json"
REQUEST_SECONDS: Final = 10.0
# Bookmarks come every minute: a watch that is silent for longer is dead.
SILENCE_SECONDS: Final = 90.0
# Then the server ends a watch, and the next one may find a server that has less to do.
WATCH_SECONDS: Final = 600
_CONNECT_SECONDS: Final = 5.0
_PAGE: Final = 500

Answered = Callable[[str, int], None]
"""Is told of each request's method and the answer's status; 0 if there was none."""


async def connect(user_agent: str) -> "Transport":
    """To the cluster that the environment means: see `kubeconfig.load`. Raises `ClusterError` if there is none."""
    return Transport((await load()).configuration, user_agent)


class Transport:
    """One API server. To be closed."""

    def __init__(
        self,
        configuration: Configuration,
        user_agent: str,
        *,
        request_seconds: float = REQUEST_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        # Each watch keeps a connection for itself: with a limit, requests would wait for watches to end.
        configuration.connection_pool_maxsize = 0
        self._client = ApiClient(configuration)
        self._client.user_agent = user_agent
        self._request_limits = aiohttp.ClientTimeout(total=request_seconds, sock_connect=_CONNECT_SECONDS)
        self._watch_limits = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=silence_seconds)
        self.answered: Answered = lambda method, status: None

    async def close(self) -> None:
        """Ends all connections, watches too."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Resource | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        secret: bool = False,
    ) -> dict[str, Any]:
        """The answer to one request, which is a JSON object. With `secret`, errors repeat nothing of what the server
        says but for who forbids it."""
        response = await self._send(method, path, query, body, self._request_limits, content_type, accept)
        try:
            content = await _body(response, f"{method} {path}")
        finally:
            response.release()
        if response.status >= 400:
            raise refusal(f"{method} {path}", response.status, content, secret=secret)
        answer = decoded(content)
        if answer is None:
            raise Unreachable(f"{method} {path}: the answer is not a JSON object")
        return answer

    async def text(self, path: str, *, seconds: float, most_bytes: int) -> str:
        """An answer that is no resource: what a pod says, through the API server. Raises `ClusterError` if it is
        longer."""
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS)
        response = await self._send("GET", path, None, None, limits, JSON, "*/*")
        content = bytearray()
        try:
            with _named_failures(f"GET {path}"):
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > most_bytes:
                        raise ClusterError(f"GET {path}: the answer is longer than {most_bytes} bytes")
        finally:
            response.close()
        if response.status >= 400:
            raise refusal(f"GET {path}", response.status, bytes(content))
        return content.decode(errors="replace")

    async def pages(
        self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON
    ) -> AsyncGenerator[ResourceList, None]:
        """A list, a page at a time; no more than one of them is held here."""
        further: dict[str, str] = {"limit": str(_PAGE)}
        while True:
            answer = await self.ask("GET", path, {**(query or {}), **further}, accept=accept)
            items = tuple(item for item in answer.get("items") or () if isinstance(item, dict))
            yield ResourceList(items, version_of(answer))
            if not (token := mapping(answer.get("metadata")).get("continue")):
                return
            further["continue"] = str(token)

    async def list(self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON) -> ResourceList:
        """All pages of a list."""
        items: list[Resource] = []
        version = ""
        async for page in self.pages(path, query, accept=accept):
            items += page.items
            version = page.resource_version
        return ResourceList(tuple(items), version)

    async def watch(
        self, path: str, from_version: str, *, accept: str = JSON, seconds: float = WATCH_SECONDS
    ) -> AsyncGenerator[ResourceEvent, None]:
        """What changes from then on, until the server ends it, which it does after about so many seconds.

        Raises `Gone` when the server does not remember that version, and `Unreachable` after a long silence.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": from_version,
            "timeoutSeconds": str(round(seconds)),
        }
        response = await self._send("GET", path, query, None, self._watch_limits, JSON, accept)
        try:
            if response.status >= 400:
                raise refusal(f"GET {path}", response.status, await _body(response, f"GET {path}"))
            lines = LineReader()
            with _named_failures(f"GET {path}"):
                async for chunk in response.content.iter_any():
                    for line in lines.feed(chunk):
                        yield read_event(line)
        finally:
            response.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Resource | None,
        limits: aiohttp.ClientTimeout,
        content_type: str,
        accept: str,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept, "Content-Type": content_type}
        status = 0
        try:
            with _named_failures(f"{method} {path}"):
                _, url, headers, _, _ = await self._client.param_serialize(
                    method, path, header_params=headers, auth_settings=["BearerToken"]
                )
                if query:
                    url += "?" + urlencode(query)
                answer = await self._client.call_api(method, url, headers, body, _request_timeout=limits)
            response: aiohttp.ClientResponse = answer.response
            status = response.status
            return response
        finally:
            self.answered(method, status)


@contextmanager
def _named_failures(request: str) -> Iterator[None]:
    """What the network or the library raises becomes `Unreachable`, with the request's name."""
    try:
        yield
    except TimeoutError:
        raise Unreachable(f"{request}: no answer in time") from None
    except (aiohttp.ClientError, OpenApiException, ConfigException, OSError) as error:
        raise Unreachable(f"{request}: {one_line(str(error) or type(error).__name__)}") from None


async def _body(response: aiohttp.ClientResponse, request: str) -> bytes:
    with _named_failures(request):
        return await response.read()
