"""Wakes kubelets: writes the annotation on pods whose proxies are behind, as often and as fast as the schedule says.

A pod's volumes are looked at when the kubelet has a reason to look at the pod; else up to a minute and a half passes.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from . import log_lines
from .acknowledgements import Acknowledgements
from .cluster_model import ClusterError, NotFound
from .planning.nudging import Nudge, NudgeSchedule
from .store import PolicyKey

_AT_ONCE: Final = 16


class PodNudger(Protocol):
    """What is needed of the API server."""

    async def nudge_pod(self, namespace: str, pod: str, value: str) -> None: ...


class Nudger:
    """Carries out a schedule, which others fill."""

    def __init__(
        self,
        cluster: PodNudger,
        schedule: NudgeSchedule,
        acknowledgements: Acknowledgements,
        monotonic: Callable[[], float],
        written: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._schedule = schedule
        self._acknowledgements = acknowledgements
        self._monotonic = monotonic
        self._written = written
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """The schedule may have something earlier than before."""
        self._changed.set()

    async def run(self) -> None:
        """Nudges what is due, for ever."""
        free = asyncio.Semaphore(_AT_ONCE)
        while True:
            self._changed.clear()
            async with asyncio.TaskGroup() as nudging:
                for nudge in self._schedule.due(self._monotonic()):
                    nudging.create_task(self._nudge(nudge, free))
            next_at = self._schedule.next_at()
            try:
                async with asyncio.timeout(None if next_at is None else max(0.0, next_at - self._monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _nudge(self, nudge: Nudge, free: asyncio.Semaphore) -> None:
        async with free:
            try:
                await self._cluster.nudge_pod(nudge.namespace, nudge.pod, nudge.value)
            except NotFound:
                return
            except ClusterError as error:
                where = {"namespace": nudge.namespace, "pod": nudge.pod}
                log_lines.warning("a pod could not be nudged", **where, error=str(error))
                return
        self._written()
        self._acknowledgements.hasten(PolicyKey(*nudge.policy), nudge.uid)
