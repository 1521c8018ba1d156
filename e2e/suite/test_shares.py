"""Two tenants share each pod as their weights say."""

import time

from suite.objects import deployment, engine_pod, service
from suite.place import Place
from suite.pods import view, wait_ready

REPLICAS = 3
# So many that each pod always has some of both waiting, wherever connections happen to go.
STREAMS = 60
WARM_UP_SECONDS, SECONDS = 10.0, 30.0


def test_two_tenants_share_each_pod_as_one_to_three(place: Place) -> None:
    place.share({"alice": 1, "bob": 3})
    place.kubectl.apply(service(), deployment(engine_pod(options=["--slots", "8"]), replicas=REPLICAS))
    pods = wait_ready(place.kubectl, REPLICAS)
    views = [view(place.clients, pod) for pod in pods]
    with place.clients.load(place.url(), {"alice": STREAMS, "bob": STREAMS}, tokens=16) as outcome:
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
