"""A pod inside the cluster from which clients ask: what they see is what tenants see."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.kubectl import Json, Kubectl
from suite.objects import PROXY_IMAGE, RESTRICTED, RESTRICTED_CONTAINER, key_of

PROGRAM = Path(__file__).with_name("client_program.py")
CLIENT = "client"
FOLDER = "/program"


def client_objects() -> list[Json]:
    """The pod (of the proxy's image, which has Python and aiohttp) and the program in it."""
    program = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CLIENT},
        "data": {PROGRAM.name: PROGRAM.read_text()},
    }
    container = {
        "name": "client",
        "image": PROXY_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", "import signal; signal.pause()"],
        "volumeMounts": [{"name": "program", "mountPath": FOLDER}],
        "securityContext": RESTRICTED_CONTAINER,
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": CLIENT, "labels": {"app": CLIENT}},
        "spec": {
            "securityContext": RESTRICTED,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": "program", "configMap": {"name": CLIENT}}],
        },
    }
    return [program, pod]


@dataclass(slots=True)
class Answer:
    """Of one request; `error` instead of a status when there was none."""

    text: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def tenant(self) -> str:
        """Whom the proxy took the client for; empty when no proxy answered."""
        return self.headers.get("x-fairqueue-tenant", "")


@dataclass(slots=True)
class Outcome:
    """Of a load, by tenant: requests that are done, events; those that failed, in words."""

    done: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    tried_again: int = 0
    failed: list[str] = field(default_factory=list)
    longest_gap_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Clients:
    """Asks from inside the namespace's client pod."""

    kubectl: Kubectl

    def ask(
        self,
        url: str,
        *,
        tenant: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        method: str | None = None,
        seconds: float = 60.0,
    ) -> Answer:
        """One request. A body makes it a POST."""
        sent = {**({"Authorization": f"Bearer {key_of(tenant)}"} if tenant else {}), **(headers or {})}
        plan = {
            "url": url,
            "headers": sent,
            "json": body,
            "method": method or ("POST" if body is not None else "GET"),
            "seconds": seconds,
        }
        return Answer(**json.loads(self.kubectl.exec(CLIENT, *self._command("ask", plan))))

    def generate(self, url: str, tenant: str, tokens: int = 5) -> Answer:
        """One reply of TGI's, not streamed."""
        body = {"inputs": "Why?", "parameters": {"max_new_tokens": tokens}}
        return self.ask(f"{url}/generate", tenant=tenant, body=body)

    @contextmanager
    def watch(self, addresses: Sequence[str], revision: str, *, seconds: float = 60.0) -> Iterator[dict[str, float]]:
        """When each proxy has a revision: seconds since the epoch by address, filled in at the block's end."""
        plan = {"addresses": addresses, "revision": revision, "seconds": seconds}
        command = self.kubectl.command("exec", "-i", CLIENT, "--", *self._command("watch", plan))
        seen: dict[str, float] = {}
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                yield seen
            except BaseException:
                process.kill()
                raise
            printed, _ = process.communicate(timeout=seconds + 30)
        seen.update(json.loads(printed.splitlines()[-1]))

    @contextmanager
    def load(self, url: str, streams: Mapping[str, int], *, tokens: int, **more: Any) -> Iterator[Outcome]:
        """Keeps so many streams per tenant running for as long as the block; the outcome is filled in at its end."""
        plan = {"url": url, "streams": streams, "tokens": tokens, "keys": {it: key_of(it) for it in streams}, **more}
        command = self.kubectl.command("exec", "-i", CLIENT, "--", *self._command("load", plan))
        outcome = Outcome()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield outcome
            except BaseException:
                process.kill()
                raise
            printed, _ = process.communicate(timeout=300)
        for name, value in json.loads(printed.splitlines()[-1]).items():
            setattr(outcome, name, value)

    @staticmethod
    def _command(what: str, plan: Mapping[str, Any]) -> list[str]:
        return ["python", f"{FOLDER}/{PROGRAM.name}", what, json.dumps(plan)]
