"""What several tests of the injector need: a clock that is set, waits that are over at once, policies and pods."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

PATIENCE_SECONDS = 30
START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


class Clock:
    """The time, which only tests move."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return (self.now - START).total_seconds()

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jitter() -> random.Random:
    return random.Random(1)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another task or process brings about."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def policy(name: str = "chat", namespace: str = "team", **spec: Any) -> dict[str, Any]:
    """A policy as the API server gives it."""
    return {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": "1", "uid": f"uid-{name}"},
        "spec": {"selector": {"matchLabels": {"app": "llm"}}, "engine": {"kind": "VLLM"}, **spec},
    }


def invalid_policy(name: str = "newer", selector: Any = None, **spec: Any) -> dict[str, Any]:
    """A policy with a field that this version does not know."""
    return policy(name, selector=selector or {"matchLabels": {"app": "llm"}}, fromTheFuture=True, **spec)


def pod(labels: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    """A pod that asks for the proxy, as it is in a review: without a name of its own, of a ReplicaSet."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "llm-7f", "uid": "uid-7f", "controller": True}
    arguments = ["--model", "m", "--port", "8000"]
    container = {"name": "vllm", "image": "vllm/vllm-openai:v0.11.0", "args": arguments}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "llm-7f-",
            "labels": {"app": "llm", "fairqueue.dev/inject": "true", **(labels or {})},
            "ownerReferences": [owner],
            **metadata,
        },
        "spec": {"containers": [container | {"ports": [{"containerPort": 8000, "name": "http"}]}]},
    }


def review(object: Any = None, **request: Any) -> dict[str, Any]:
    """An AdmissionReview about the creation of a pod."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "team",
            "operation": "CREATE",
            "object": pod() if object is None else object,
            "dryRun": False,
            **request,
        },
    }


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[dict[str, Any]]]:
    """The fields of all lines with that message."""
    caplog.set_level(logging.INFO, logger="fairqueue")

    def of(message: str) -> list[dict[str, Any]]:
        return [getattr(record, "fields", {}) for record in caplog.records if record.getMessage() == message]

    return of
