"""Answers for the proxies of pods that nothing runs: `python -m suite.stub_proxies_program NETWORK`.

Runs in the node's network until standard input ends; meanwhile all addresses of NETWORK are its own. It prints a line
once it answers. `GET /-/config` says what the proxy at the address that was asked would say.
"""

import asyncio
import base64
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from aiohttp import web

from suite.kubectl import Json
from suite.stub_kubelet import StubKubelet
from suite.watching import watch

ADMIN_PORT = 9820
DOCUMENTS, PODS = "app.kubernetes.io/managed-by=fairqueue", "fairqueue.dev/inject=true"


class StubProxies:
    """The watches' threads tell the kubelet of changes, and the server asks it."""

    def __init__(self) -> None:
        self._kubelet = StubKubelet(random.Random(1))
        self._lock = threading.Lock()

    def pod_seen(self, pod: Json) -> None:
        metadata = pod["metadata"]
        annotations = metadata.get("annotations", {})
        address, policy = pod["status"].get("podIP"), annotations.get("fairqueue.dev/bound-policy")
        if address and policy:
            nudge = annotations.get("fairqueue.dev/config-nudge", "")
            with self._lock:
                self._kubelet.pod_is(address, f"{metadata['namespace']}/{policy}", nudge, time.monotonic())

    def secret_seen(self, secret: Json) -> None:
        text = (secret.get("data") or {}).get("document.json")
        if text:
            name = secret["metadata"]["name"].removesuffix("-fairqueue")
            revision = json.loads(base64.b64decode(text))["revision"]
            with self._lock:
                self._kubelet.document_is(f"{secret['metadata']['namespace']}/{name}", revision, time.monotonic())

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.path != "/-/config" or request.transport is None:
            return web.Response(status=404)
        address, _ = request.transport.get_extra_info("sockname")
        with self._lock:
            proxy = self._kubelet.proxy_at(address, time.monotonic())
        if proxy is None:
            return web.Response(status=404)
        policy = None if proxy.revision is None else proxy.policy
        return web.json_response({"policy": policy, "revision": proxy.revision, "schemas": [1], "problem": None})


@contextmanager
def addresses(network: str) -> Iterator[None]:
    """The network's addresses are this machine's."""
    route = ["local", network, "dev", "lo"]
    subprocess.run(["ip", "route", "replace", *route], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "route", "delete", *route], check=True)


async def serve(proxies: StubProxies) -> None:
    runner = web.ServerRunner(web.Server(proxies.answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "0.0.0.0", ADMIN_PORT, backlog=1024).start()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await runner.cleanup()


def main() -> None:
    proxies = StubProxies()
    with ExitStack() as stack:
        stack.enter_context(addresses(sys.argv[1]))
        stack.enter_context(watch("/api/v1/secrets", proxies.secret_seen, selector=DOCUMENTS))
        stack.enter_context(watch("/api/v1/pods", proxies.pod_seen, selector=PODS))
        asyncio.run(serve(proxies))


if __name__ == "__main__":
    main()
