"""The calls to the API server that injector and operator both make."""

from typing import Final

from .cluster import Transport
from .cluster_model import NotFound, Resource, ResourceList, StoredSecret, Unreachable
from .resource_json import CORE, EVENTS, POLICIES, path, stored_secret

ALL_POLICIES: Final = f"{POLICIES}/fairnesspolicies"


class SharedCluster:
    """See the module's text. Each call is one request, but for lists of many pages."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def server_version(self) -> tuple[int, int]:
        """Such as (1, 32)."""
        answer = await self._transport.ask("GET", "/version")
        try:
            # Some providers write "32+".
            return int(answer["major"]), int(answer["minor"].rstrip("+"))
        except (KeyError, ValueError, AttributeError):
            raise Unreachable("GET /version: the answer is not a Kubernetes version") from None

    async def list_policies(self, namespace: str | None = None) -> ResourceList:
        """The FairnessPolicies of one namespace, or of all."""
        where = ALL_POLICIES if namespace is None else path(POLICIES, namespace, "fairnesspolicies")
        return await self._transport.list(where)

    async def read_secret(self, namespace: str, name: str) -> StoredSecret | None:
        """None if there is none."""
        try:
            answer = await self._transport.ask("GET", path(CORE, namespace, "secrets", name), secret=True)
        except NotFound:
            return None
        return stored_secret(answer)

    async def create_event(self, namespace: str, event: Resource) -> None:
        """An Event of events.k8s.io/v1."""
        await self._transport.ask("POST", path(EVENTS, namespace, "events"), body=event)
