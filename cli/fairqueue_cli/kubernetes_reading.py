"""What `status` and `check` ask of an API server. An answer that does not come is a value, `Unknown`, with the reason:
what a user has no right to see must not hide the rest.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from fairqueue_cli.kubernetes_json import Resource
from fairqueue_cli.kubernetes_options import Target
from fairqueue_cli.kubernetes_unknown import Unknown, unknown
from fairqueue_operator import kubeconfig
from fairqueue_operator.cluster import Transport
from fairqueue_operator.cluster_model import ClusterError, NotFound
from fairqueue_operator.resource_json import CORE, path
from fairqueue_operator.shared_cluster import SharedCluster

USER_AGENT: Final = "fairqueue-cli"
_PARALLEL: Final = 16
# An API server waits for half a minute for a pod that is not there any more.
_POD_SECONDS: Final = 5.0
_MAX_POD_BYTES: Final = 16 << 20

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[tuple["Reader", str]]:
    """A reader of the cluster that is meant, and the namespace that is. Raises `ClusterError`."""
    access = await kubeconfig.load(target.kubeconfig, target.context)
    transport = Transport(access.configuration, USER_AGENT)
    try:
        yield Reader(transport), target.namespace or access.namespace
    finally:
        await transport.close()


class Reader:
    """See the module's text."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._slots = asyncio.Semaphore(_PARALLEL)

    async def version(self) -> tuple[int, int]:
        """Of Kubernetes, such as (1, 32). Raises `ClusterError`."""
        return await SharedCluster(self._transport).server_version()

    async def get(self, where: str) -> Resource | Unknown | None:
        """One object; None if there is none."""
        try:
            return await self._transport.ask("GET", where)
        except NotFound:
            return None
        except ClusterError as error:
            return unknown(error)

    async def items(self, where: str, query: Mapping[str, str] | None = None) -> tuple[Resource, ...] | Unknown:
        """All objects of a list."""
        try:
            return (await self._transport.list(where, query)).items
        except ClusterError as error:
            return unknown(error)

    async def post(self, where: str, body: Resource, query: Mapping[str, str] | None = None) -> Resource:
        """The answer. Raises `ClusterError`."""
        return await self._transport.ask("POST", where, query, body=body)

    async def policies(self, namespace: str | None) -> tuple[Resource, ...] | Unknown:
        """The FairnessPolicies of a namespace, or of all."""
        try:
            return (await SharedCluster(self._transport).list_policies(namespace)).items
        except NotFound:
            return Unknown(
                "there is no resource FairnessPolicy here: fairqueue is not installed (see `fairqueue check`)"
            )
        except ClusterError as error:
            return unknown(error)

    async def pod_text(self, namespace: str, pod: str, port: int, where: str) -> str | Unknown:
        """What a pod answers, through the API server."""
        try:
            return await self._transport.text(
                f"{path(CORE, namespace, 'pods', f'{pod}:{port}')}/proxy{where}",
                seconds=_POD_SECONDS,
                most_bytes=_MAX_POD_BYTES,
            )
        except ClusterError as error:
            return unknown(error)

    async def together(
        self, ask: Callable[[Argument], Coroutine[Any, Any, Result]], arguments: Iterable[Argument]
    ) -> list[Result]:
        """The results for all arguments, in their order; so many at once and no more."""

        async def in_turn(argument: Argument) -> Result:
            async with self._slots:
                return await ask(argument)

        return await asyncio.gather(*map(in_turn, arguments))
