"""The document in the Secret reaches every proxy, soon and without a dropped stream."""

import json
import time

from suite.objects import deployment, document, document_secret, engine_pod, service
from suite.place import Place
from suite.pods import is_injected, restarts, until_running, view, wait_ready

REPLICAS = 3
LATE_SECONDS = 90.0


def test_a_changed_document_is_everywhere_within_two_seconds_and_nothing_is_lost(place: Place) -> None:
    made = place.share({"alice": 1, "bob": 1})
    place.kubectl.apply(service(), deployment(engine_pod(), replicas=REPLICAS))
    pods = wait_ready(place.kubectl, REPLICAS)
    views = [view(place.clients, pod) for pod in pods]
    with place.clients.load(place.url(), {"alice": 12, "bob": 12}, tokens=40) as outcome:
        time.sleep(5)
        before = [it.service() for it in views]
        took = []
        for weight in (2, 3, 4):
            made["spec"]["tenants"][1]["weight"] = weight
            revision = json.loads(document(made))["revision"]
            with place.clients.watch([it.address for it in views], revision) as seen:
                place.kubectl.apply(document_secret(made))
                place.nudge(pods)
                written_at = time.time()
            took += [at - written_at for at in seen.values()]
        after = [it.service() for it in views]
    print("seconds from write and nudge to each proxy:", [round(it, 2) for it in sorted(took)])
    assert outcome.failed == []
    assert max(took) <= 2.0
    assert all(end[name] > start[name] for start, end in zip(before, after, strict=True) for name in start)


def test_engines_wait_for_a_document_that_comes_late_and_are_not_restarted(place: Place) -> None:
    made = place.share({"alice": 1})
    place.kubectl.delete("secret", document_secret(made)["metadata"]["name"])
    place.kubectl.apply(service(), deployment(engine_pod()))
    pod = until_running(place.kubectl)
    assert is_injected(pod)
    time.sleep(LATE_SECONDS)
    name = pod["metadata"]["name"]
    assert place.clients.generate(f"http://{pod['status']['podIP']}", "alice").status == 503
    place.kubectl.apply(document_secret(made))
    place.nudge([pod])
    ready = wait_ready(place.kubectl, seconds=10)[0]
    assert (ready["metadata"]["name"], restarts(ready, "engine")) == (name, 0)
    assert place.clients.generate(place.url(), "alice").status == 200
