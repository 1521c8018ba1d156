"""What is changed is in force within seconds: weights, and who may come in. Nothing that runs is dropped for it."""

import time
from collections.abc import Mapping, Sequence

from suite.kubectl import Json, until
from suite.objects import KEYS_SECRET, deployment, engine_pod, key_of, policy, secret, service
from suite.patient import patient_clients, watched_keys
from suite.place import Place
from suite.pods import ProxyView, restarts, view, wait_ready
from suite.policies import (
    API_KEYS,
    grant,
    keyed,
    placed,
    revision_of,
    reweighed,
    share,
    until_ready,
    until_served,
    usual_revision,
)

REPLICAS = 3
# As in `test_shares`: so many that each pod has some of both waiting.
STREAMS = 60
SOON_SECONDS = 3.0
SAYS_SO_SECONDS = 5.0
SETTLE_SECONDS, SECONDS = 10.0, 20.0


def test_other_weights_are_everywhere_within_three_seconds_and_shares_follow_within_thirty(place: Place) -> None:
    made = share(place.kubectl, {"alice": 1, "bob": 1})
    place.kubectl.apply(service(), deployment(engine_pod(options=["--slots", "8"]), replicas=REPLICAS))
    until_ready(place.kubectl, pods=REPLICAS)
    views = [view(place.clients, pod) for pod in wait_ready(place.kubectl, REPLICAS)]
    until(
        lambda: place.clients.generate(place.url(), "alice") and all(it.service()["alice"] for it in views), "all serve"
    )
    took, shares = [], []
    with place.clients.load(place.url(), {"alice": STREAMS, "bob": STREAMS}, tokens=16, keep_alive=True) as outcome:
        time.sleep(SETTLE_SECONDS)
        for weight in (3, 1, 2):
            took.append(change(place, reweighed(made, {"bob": weight}), views))
            time.sleep(SETTLE_SECONDS - SAYS_SO_SECONDS)
            shares.append([it / weight for it in measured(views)])
            print(f"bob's weight {weight}: his share by what it should be, pod by pod: {rounded(shares[-1])}")
    assert (outcome.failed, outcome.tried_again) == ([], 0)
    assert max(took) <= SOON_SECONDS
    assert all(abs(it - 1) <= 0.05 for of_one in shares for it in of_one), shares
    pods = wait_ready(place.kubectl, REPLICAS)
    assert all(restarts(pod, container) == 0 for pod in pods for container in ("engine", "fairqueue-proxy"))


def change(place: Place, made: Json, views: Sequence[ProxyView]) -> float:
    """Applies a policy; how long it took until all pods had it."""
    revision = usual_revision(made)
    with place.clients.watch([it.address for it in views], revision) as seen:
        place.kubectl.apply(made)
        applied_at = time.time()
        until_ready(place.kubectl, pods=len(views), revision=revision)
        said_at = time.time()
    took = [at - applied_at for at in seen.values()]
    print(f"current {rounded(took)} s after kubectl apply, and status says so after {said_at - applied_at:.2f} s")
    # Never ahead of the facts.
    assert said_at >= max(seen.values())
    assert said_at - applied_at <= SAYS_SO_SECONDS
    return max(took)


def measured(views: Sequence[ProxyView]) -> list[float]:
    """Bob's service over alice's for some time from now, pod by pod."""
    before = [it.service() for it in views]
    time.sleep(SECONDS)
    after = [it.service() for it in views]
    return [
        (end["bob"] - start["bob"]) / (end["alice"] - start["alice"]) for start, end in zip(before, after, strict=True)
    ]


def rounded(figures: Sequence[float]) -> list[float]:
    """To be read."""
    return [round(it, 2) for it in sorted(figures)]


def key_secret(content: Mapping[str, str]) -> Json:
    """The Secret of all keys."""
    return secret(KEYS_SECRET, content, API_KEYS)


def test_a_new_key_works_within_three_seconds_and_the_one_that_it_replaces_is_refused(place: Place) -> None:
    made = share(place.kubectl, {"alice": 1, "bob": 1})
    place.kubectl.apply(service(), deployment(engine_pod(), replicas=REPLICAS))
    until_served(place, pods=REPLICAS)
    pods = wait_ready(place.kubectl, REPLICAS)
    addresses = [it["status"]["podIP"] for it in pods]
    old = key_of("alice")
    # Who has the other key notices nothing.
    with patient_clients(place.kubectl, [place.url()], {"bob": 6}, tokens=20) as bob:
        for number in range(3):
            new, content = f"another-{number}", {"bob": key_of("bob")}
            with watched_keys(place.kubectl, addresses, good=new, bad=old) as seen:
                place.kubectl.apply(key_secret({**content, "alice": new}))
                applied_at = time.time()
            took = {what: [at - applied_at for at in times] for what, times in seen.items()}
            print(f"after kubectl apply: new key {rounded(took['taken'])} s, old one {rounded(took['refused'])} s")
            assert max(took["taken"] + took["refused"]) <= SOON_SECONDS
            revision = revision_of(made, {KEYS_SECRET: {**content, "alice": new}})
            until_ready(place.kubectl, pods=REPLICAS, revision=revision, seconds=SAYS_SO_SECONDS)
            old = new
    print(bob)
    assert (bob.tried_again, bob.lost) == ({}, [])
    assert min(bob.done.values()) > 0


def test_during_a_rotation_both_keys_work(place: Place) -> None:
    """The way to change a key under load: two entries for a tenant, and only the one that is not used is changed."""
    made = keyed(policy({"alice": 1}), {"alice": [(KEYS_SECRET, "first"), (KEYS_SECRET, "second")]})
    made = placed(place.kubectl, made)
    grant(place.kubectl)
    place.kubectl.apply(made, key_secret({"first": "one", "second": "two"}), service(), deployment(engine_pod()))
    until_ready(place.kubectl, pods=1)
    wait_ready(place.kubectl)
    until(lambda: place.clients.ask(f"{place.url()}/health").status == 200, "the Service serves")
    with patient_clients(place.kubectl, [place.url()], {"alice": 6}, tokens=20, keys={"alice": "one"}) as alice:
        time.sleep(2)
        content = {"first": "one", "second": "three"}
        place.kubectl.apply(key_secret(content))
        until_ready(place.kubectl, pods=1, revision=revision_of(made, {KEYS_SECRET: content}))
        # As soon as the status says that all run on it, and no sooner.
        alice.use_keys({"alice": "three"})
        time.sleep(2)
        content["first"] = "four"
        place.kubectl.apply(key_secret(content))
        until_ready(place.kubectl, pods=1, revision=revision_of(made, {KEYS_SECRET: content}))
        time.sleep(2)
    print(alice)
    assert (alice.tried_again, alice.lost) == ({}, [])
