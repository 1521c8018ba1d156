"""The proxy dies under load: the engine is not restarted, and the proxy is back with its document."""

import signal
import time

import pytest

from suite.kubectl import until
from suite.memory import run_out
from suite.objects import deployment, document_secret, engine_pod, service
from suite.place import Place
from suite.pods import PROXY, is_ready, last_end, moment, ready_since, restarts, view, wait_ready

# The containers share their processes, so that one may kill another's.
KILL = """
import os, pathlib, signal
for line in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    words = line.read_bytes().split(b"\\0")
    if b"serve" in words and b"--config" in words:
        os.kill(int(line.parent.name), signal.SIGKILL)
"""


@pytest.mark.parametrize("secret", ["there", "gone"])
@pytest.mark.parametrize("how", ["killed", "out of memory"])
def test_the_pod_is_ready_again_within_five_seconds(place: Place, how: str, secret: str) -> None:
    made = place.share({"alice": 1})
    annotations = {"fairqueue.dev/proxy-memory-limit": "320Mi"}
    template = engine_pod(annotations=annotations, shareProcessNamespace=True)
    place.kubectl.apply(service(), deployment(template))
    pod = wait_ready(place.kubectl)[0]
    name, revision = pod["metadata"]["name"], view(place.clients, pod).config()["revision"]
    if secret == "gone":
        place.kubectl.delete("secret", document_secret(made)["metadata"]["name"])
        place.nudge([pod])
        until(lambda: not place.kubectl.exec(name, "ls", "/etc/fairqueue", container=PROXY), "no document", seconds=120)
    with place.clients.load(place.url(), {"alice": 10}, tokens=30, tries=20):
        time.sleep(3)
        if how == "killed":
            place.kubectl.exec(name, "python", "-c", KILL, container="engine")
        else:
            run_out(place.kubectl, name, PROXY)
        until(lambda: restarts(place.kubectl.get("pod", name), PROXY) == 1, "the proxy is started again", every=0.1)
        until(lambda: is_ready(place.kubectl.get("pod", name)), "the pod is Ready again", every=0.1)
        time.sleep(2)
    found = place.kubectl.get("pod", name)
    # Both in whole seconds.
    took = (ready_since(found) - moment(last_end(found, PROXY)["finishedAt"])).total_seconds()
    print(f"Ready {took:.0f} s after it died")
    assert took <= 5.0
    assert (restarts(found, "engine"), restarts(found, PROXY)) == (0, 1)
    assert last_end(found, PROXY)["exitCode"] == 128 + signal.SIGKILL
    assert view(place.clients, found).config()["revision"] == revision
    assert place.clients.generate(place.url(), "alice").status == 200
