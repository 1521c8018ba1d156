"""The watches: kopf's low-level handlers, which do nothing but take down what has changed and whom it concerns.

`on.event` only: no handler of a kind for which kopf keeps its state in our objects or adds finalizers. Errors in such
handlers are not tried again by kopf, so nothing here can fail: the work is done elsewhere, from a queue. All are
coroutines: kopf calls plain functions in threads.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import kopf

from .injection.names import INJECT_LABEL
from .store import PolicyKey, Store

_REQUEST_SECONDS: Final = 30.0
_PAGE: Final = 500
_IDLE_SECONDS: Final = 0.2


def registry_of(store: Store, touched: Callable[[Iterable[PolicyKey]], None]) -> kopf.OperatorRegistry:
    """What kopf is to call."""
    registry = kopf.OperatorRegistry()

    @kopf.on.event("fairqueue.dev", "v1alpha1", "fairnesspolicies", registry=registry)
    async def policy_changed(event: kopf.RawEvent, **_: Any) -> None:
        change = store.drop_policy if event["type"] == "DELETED" else store.put_policy
        touched(change(event["object"]))

    @kopf.on.event("v1", "pods", labels={INJECT_LABEL: "true"}, registry=registry)
    async def pod_changed(event: kopf.RawEvent, **_: Any) -> None:
        change = store.drop_pod if event["type"] == "DELETED" else store.put_pod
        touched(change(event["object"]))

    @kopf.on.login(registry=registry)
    async def login(**context: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**context) or kopf.login_with_kubeconfig(**context)

    return registry


def settings() -> kopf.OperatorSettings:
    """How kopf is to watch: both kinds in all namespaces, of pods only those that ask for a proxy."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.scanning.disabled = True
    made.networking.request_timeout = _REQUEST_SECONDS
    # A page at a time, or thousands of pods would be held at once.
    made.watching.chunk_size = _PAGE
    # As long, each object's worker keeps what it was told of last.
    made.queueing.idle_timeout = _IDLE_SECONDS
    # On the server's side: all others never come here.
    made.watching.label_selectors["v1", "pods"] = f"{INJECT_LABEL}=true"
    return made
