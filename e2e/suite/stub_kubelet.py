"""When a document that changed is there for a pod's proxy, as kubelets bring it: soon after a nudge, else late. No I/O.

A proxy is known by the address of its pod. Nothing happens by itself: whoever asks says what time it is.
"""

import random
from dataclasses import dataclass, field

# From the nudge to the kubelet's sync of the pod, and on to the proxy's next look at the file.
AFTER_NUDGE_SECONDS = (0.1, 0.7)
# A kubelet's own round, and what it keeps of Secrets meanwhile.
BY_ITSELF_SECONDS = (60.0, 90.0)
NEVER = float("inf")


@dataclass(slots=True)
class Proxy:
    """`policy` is "namespace/name"; `revision` is None until it has a document."""

    policy: str
    nudge: str
    revision: str | None = None
    next_look: float = NEVER


@dataclass(slots=True)
class StubKubelet:
    """Of all nodes at once."""

    random: random.Random
    proxies: dict[str, Proxy] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)

    def document_is(self, policy: str, revision: str, now: float) -> None:
        """The Secret that the policy's pods mount has that revision in it."""
        concerned = [proxy for proxy in self.proxies.values() if proxy.policy == policy]
        for proxy in concerned:
            self._look_if_due(proxy, now)
        self.revisions[policy] = revision
        for proxy in concerned:
            self._look_after(proxy, BY_ITSELF_SECONDS, now)

    def pod_is(self, address: str, policy: str, nudge: str, now: float) -> None:
        """A pod runs there. What is in the Secret when it starts it has at once."""
        proxy = self.proxies.get(address)
        if proxy is None or proxy.policy != policy:
            self.proxies[address] = Proxy(policy, nudge, self.revisions.get(policy))
        elif proxy.nudge != nudge:
            self._look_if_due(proxy, now)
            proxy.nudge = nudge
            self._look_after(proxy, AFTER_NUDGE_SECONDS, now)

    def proxy_at(self, address: str, now: float) -> Proxy | None:
        """What runs there, as it is by then."""
        proxy = self.proxies.get(address)
        if proxy is not None:
            self._look_if_due(proxy, now)
        return proxy

    def _look_if_due(self, proxy: Proxy, now: float) -> None:
        if proxy.next_look <= now:
            proxy.revision = self.revisions.get(proxy.policy)
            proxy.next_look = NEVER

    def _look_after(self, proxy: Proxy, between: tuple[float, float], now: float) -> None:
        proxy.next_look = min(proxy.next_look, now + self.random.uniform(*between))
