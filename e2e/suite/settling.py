"""When each of many policies came to be what it says, by a watch: nobody has to ask, so nobody disturbs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from suite.kubectl import Json, until
from suite.policies import condition, counts, is_about_now
from suite.watching import watch

_PATH = "/apis/fairqueue.dev/v1alpha1/fairnesspolicies"


class Version(NamedTuple):
    """A policy as it was ordered once."""

    namespace: str
    name: str
    generation: int


class Settling:
    """Monotonic seconds at which each version was seen, and at which it was Ready with the right counts."""

    def __init__(self, pods: int, tenants: int) -> None:
        self._counts = {"matched": pods, "unlabelled": 0, "injected": pods, "started": pods, "current": pods}
        self._tenants = tenants
        self._lock = threading.Lock()
        self._seen_at: dict[Version, float] = {}
        self._settled: dict[Version, tuple[float, Json]] = {}

    def seen(self, found: Json) -> None:
        """A policy as it is now."""
        now, metadata = time.monotonic(), found["metadata"]
        version = Version(metadata["namespace"], metadata["name"], metadata["generation"])
        with self._lock:
            self._seen_at.setdefault(version, now)
            if not self._is_settled(found):
                self._settled.pop(version, None)
            else:
                self._settled.setdefault(version, (now, found))

    def settled(self) -> dict[Version, float]:
        """Versions that are, and since when."""
        with self._lock:
            return {version: at for version, (at, _) in self._settled.items()}

    def until_settled(self, version: Version, *, seconds: float = 60.0) -> tuple[float, Json]:
        """How long after it was ordered, and what the policy was then."""
        at, found = until(lambda: self._settled.get(version), f"{version} is settled", seconds=seconds, every=0.05)
        return at - self._seen_at[version], found

    def _is_settled(self, found: Json) -> bool:
        is_ready = condition(found, "Ready").get("status") == "True"
        right = counts(found) == self._counts and found.get("status", {}).get("tenants") == self._tenants
        return is_about_now(found) and is_ready and right


@contextmanager
def settling(pods: int, tenants: int) -> Iterator[Settling]:
    """Of all policies, for as long as the block."""
    found = Settling(pods, tenants)
    with watch(_PATH, found.seen):
        yield found
