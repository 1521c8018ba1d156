"""`overlays/monitoring` with the real prometheus-operator: its Prometheus scrapes every proxy, operator and injector,
has the rules, and alerts come and go."""

from collections.abc import Callable, Iterator

import pytest

from fairqueue_monitoring.rule_files import Rules
from suite.injectors import INJECTOR
from suite.injectors import replicas as injectors
from suite.installing import SYSTEM
from suite.kubectl import Json, Kubectl, until
from suite.monitoring import SELECTED, monitoring
from suite.objects import deployment, engine_pod, service
from suite.operators import OPERATOR
from suite.operators import replicas as operators
from suite.place import Place
from suite.pods import is_injected, is_ready, wait_ready
from suite.policies import share, until_served
from suite.prometheus import Prometheus

PROXIES = "fairqueue-proxy"
MONITOR = "fairqueue-proxies"
# Ten minutes, which an alert must last, are ten seconds then.
FACTOR = 60


@pytest.fixture(scope="module")
def prometheus(system: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    assert system.namespace == SYSTEM
    with monitoring(tmp_path_factory.mktemp("monitoring")) as found:
        yield found


@pytest.fixture(scope="module")
def fast(prometheus: Prometheus, system: Kubectl) -> Iterator[Callable[[str], set[str]]]:
    """The cluster's alerts at factor 60, brought in while Prometheus runs: the states of one of them."""
    groups = [{**it, "name": f"{it['name']}-fast"} for it in Rules(FACTOR).kubernetes_groups()]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "fast", "labels": SELECTED},
        "spec": {"groups": groups},
    }
    system.apply(rule)
    wanted = {it["name"] for it in groups}
    prometheus.until(lambda: wanted <= prometheus.groups(), "the rules at factor 60")
    yield prometheus.states
    system.delete("prometheusrule", "fast")


def names(pods: list[Json]) -> set[tuple[str, str]]:
    return {(it["metadata"]["namespace"], it["metadata"]["name"]) for it in pods}


def injected_pods(system: Kubectl) -> list[Json]:
    """Of all namespaces."""
    asking = system.all("pods", "fairqueue.dev/inject=true", "--all-namespaces")
    return [it for it in asking if is_injected(it) and is_ready(it)]


def test_every_proxy_operator_and_injector_is_scraped_under_its_own_name(
    prometheus: Prometheus, system: Kubectl, place: Place
) -> None:
    share(place.kubectl, {"alice": 1})
    place.kubectl.apply(deployment(engine_pod(), replicas=2))
    here = names(wait_ready(place.kubectl, 2))

    def all_are() -> bool:
        return here | names(injected_pods(system)) <= prometheus.scraped(PROXIES)

    until(all_are, "all proxies are scraped", seconds=90, every=1)
    until(lambda: prometheus.scraped(OPERATOR) == names(operators(system)), "both operators are scraped", every=1)
    until(lambda: prometheus.scraped(INJECTOR) == names(injectors(system)), "both injectors are scraped", every=1)
    assert len(prometheus.scraped(OPERATOR)) == len(prometheus.scraped(INJECTOR)) == 2
    assert prometheus.ask("status/runtimeinfo")["reloadConfigSuccess"]


def test_all_rules_are_there_and_evaluate_and_say_who_was_served(prometheus: Prometheus, place: Place) -> None:
    share(place.kubectl, {"alice": 1, "bob": 3})
    place.kubectl.apply(service(), deployment(engine_pod()))
    policy = f"{place.kubectl.namespace}/{until_served(place, pods=1)['metadata']['name']}"
    served = f'fairqueue:policy_tenant_service:rate5m{{policy="{policy}"}} > 0'
    with place.clients.load(place.url(), {"alice": 4, "bob": 4}, tokens=16) as outcome:
        until(lambda: prometheus.values(served, "tenant").keys() == {"alice", "bob"}, "who is served", seconds=90)
        # Under load, as it is data that rules fail on.
        there = prometheus.rules()
    assert outcome.failed == []
    ours = {it.name for it in Rules().recordings} | {it.name for it in Rules().alerts}
    assert {it["name"] for it in there} == ours
    assert [(it["name"], it.get("lastError")) for it in there if it["health"] != "ok"] == []


def test_pods_without_the_proxy_are_told_of_until_they_are_gone(fast: Callable[[str], set[str]], place: Place) -> None:
    share(place.kubectl, {"alice": 1})
    until(lambda: not fast("FairqueuePodsNotInjected"), "no pod of an earlier test is without", seconds=90, every=1)
    bare = engine_pod(inject=False, low_ports=True)
    place.kubectl.apply(deployment(bare))
    until(lambda: "firing" in fast("FairqueuePodsNotInjected"), "the alert fires", seconds=90, every=1)
    place.kubectl.delete("deployment", "engine")
    until(lambda: not fast("FairqueuePodsNotInjected"), "the alert is over", seconds=90, every=1)


def test_proxies_that_no_selected_monitor_leads_to_are_missed(
    prometheus: Prometheus, system: Kubectl, fast: Callable[[str], set[str]], place: Place
) -> None:
    share(place.kubectl, {"alice": 1})
    place.kubectl.apply(service(), deployment(engine_pod()))
    until_served(place, pods=1)
    label = next(iter(SELECTED))
    system.run("label", "podmonitor", MONITOR, f"{label}-")
    try:
        prometheus.until(lambda: not prometheus.scraped(PROXIES), "no proxy is scraped")
        # Their last samples count for a while.
        until(lambda: "firing" in fast("FairqueueProxiesMissing"), "the alert fires", seconds=120, every=1)
    finally:
        system.run("label", "podmonitor", MONITOR, f"{label}={SELECTED[label]}")
    back = "they are scraped again"
    prometheus.until(lambda: names(injected_pods(system)) <= prometheus.scraped(PROXIES), back, seconds=180)
    until(lambda: not fast("FairqueueProxiesMissing"), "the alert is over", seconds=90, every=1)
