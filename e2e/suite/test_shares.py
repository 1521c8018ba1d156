"""Two tenants share each pod as their weights say."""

import time

from suite.kubectl import until
from suite.objects import deployment, engine_pod, service
from suite.place import Place
from suite.pods import view, wait_ready

REPLICAS = 3
# On connections that stay with their pods. So many that each pod has some of both waiting, wherever they happen to go:
# else the streams would gather at whichever pod serves them most slowly.
STREAMS = 60
WARM_UP_SECONDS, SECONDS = 10.0, 30.0


def test_two_tenants_share_each_pod_as_one_to_three(place: Place) -> None:
    place.share({"alice": 1, "bob": 3})
    place.kubectl.apply(service(), deployment(engine_pod(options=["--slots", "8"]), replicas=REPLICAS))
    pods = wait_ready(place.kubectl, REPLICAS)
    views = [view(place.clients, pod) for pod in pods]
    # kube-proxy hears of pods a little later than we do.
    until(
        lambda: place.clients.generate(place.url(), "alice") and all(it.service()["alice"] for it in views), "all serve"
    )
    with place.clients.load(place.url(), {"alice": STREAMS, "bob": STREAMS}, tokens=16, keep_alive=True) as outcome:
        time.sleep(WARM_UP_SECONDS)
        before = [it.service() for it in views]
        time.sleep(SECONDS)
        after = [it.service() for it in views]
    assert outcome.failed == []
    shares = [
        (end["bob"] - start["bob"]) / (end["alice"] - start["alice"]) for start, end in zip(before, after, strict=True)
    ]
    print("bob's service over alice's, pod by pod:", [round(share, 3) for share in shares])
    assert all(abs(share / 3 - 1) <= 0.05 for share in shares), shares
