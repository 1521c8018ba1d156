"""What an engine adapter is: which routes an engine has, and how it reads a request.

Adapters hold no state and do no I/O.
"""

from typing import Final, Protocol

from fairqueue_proxy.engines.call import Access, Api, Call, Route

# Headers by which a client could change the engine's own order, or reach the streams of others.
STRIPPED_HEADERS: Final = frozenset(
    {
        "x-conversation-id",
        "x-data-parallel-rank",
        "x-override-bootstrap-host",
        "x-override-bootstrap-port",
        "x-override-bootstrap-room",
        "x-override-conversation-id",
        "x-override-disagg-prefill-dp-rank",
        "x-override-priority",
        "x-override-rid",
        "x-override-routed-dp-rank",
        "x-request-priority",
        "x-smg-routing-key",
        "x-vllm-priority",
    }
)

REFUSED: Final = Route(Access.REFUSED)
FREE: Final = Route(Access.FREE)
IDENTIFIED: Final = Route(Access.IDENTIFIED)


class Engine(Protocol):
    """One kind of model server."""

    kind: str
    """The policy's `engine.kind`."""

    stripped_headers: frozenset[str]
    """Request headers, lower-case, that are not sent on."""

    shares_request_ids: bool
    """Whether the engine knows requests by the id that a header names, so that no id may come twice."""

    cancels_plain: bool
    """Whether closing the connection stops a plain reply; else it has to be read to its end."""

    def route(self, method: str, path: str) -> Route:
        """What to do with a request; `path` is percent-decoded and normalised, without its query."""
        ...

    @property
    def metered_paths(self) -> frozenset[str]:
        """The paths that are listed as metered."""
        ...

    def parse(self, route: Route, body: bytes) -> Call:
        """Reads the body of a metered route. Raises BadBody for one that cannot be served."""
        ...


class RouteTable:
    """Metered, identified and free paths; whatever is in no list is refused."""

    __slots__ = ("_free", "_free_prefixes", "_identified", "_metered")

    def __init__(
        self,
        metered: dict[str, Api],
        *,
        free: frozenset[str],
        free_prefixes: tuple[str, ...] = (),
        identified: frozenset[str] = frozenset(),
    ) -> None:
        self._metered = {path: Route(Access.METERED, api) for path, api in metered.items()}
        self._identified = identified
        self._free = free
        self._free_prefixes = free_prefixes

    @property
    def metered_paths(self) -> frozenset[str]:
        return frozenset(self._metered)

    def match(self, method: str, path: str) -> Route:
        if method == "POST":
            return IDENTIFIED if path in self._identified else self._metered.get(path, REFUSED)
        is_free = path in self._free or path.startswith(self._free_prefixes)
        if method in ("GET", "HEAD"):
            return FREE if is_free else REFUSED
        # A browser asks before it posts; the answer generates nothing and carries no identity.
        if method == "OPTIONS":
            return FREE if is_free or path in self._metered or path in self._identified else REFUSED
        return REFUSED


class ListedRoutes:
    """What all adapters do the same way whose routes are those of a table."""

    routes: RouteTable

    def route(self, method: str, path: str) -> Route:
        return self.routes.match(method, path)

    @property
    def metered_paths(self) -> frozenset[str]:
        return self.routes.metered_paths
