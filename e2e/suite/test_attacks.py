"""From a pod beside it: nothing of the proxy's that is not for everybody can be reached."""

import pytest

from suite.objects import deployment, engine_pod, key_of, service
from suite.place import Place
from suite.pods import PROXY, engine_port, view, wait_ready

NOBODY = "ClientConnectorError"
# Ports that are listened on by any other address than loopback's.
LISTENING = """
from pathlib import Path
for name, loopback in (("tcp", "0100007F"), ("tcp6", "00000000000000000000000001000000")):
    for line in Path("/proc/net", name).read_text().splitlines()[1:]:
        address, _, port = line.split()[1].partition(":")
        if line.split()[3] == "0A" and address != loopback:
            print(int(port, 16))
"""


@pytest.fixture
def address(place: Place) -> str:
    place.share({"alice": 1, "bob": 1})
    place.kubectl.apply(service(), deployment(engine_pod()))
    return str(wait_ready(place.kubectl)[0]["status"]["podIP"])


def test_it_drains_nobody(place: Place, address: str) -> None:
    assert place.clients.ask(f"http://{address}:9821/-/drain", method="POST").error == NOBODY
    for port, path in ((9820, "/-/drain"), (80, "/-/drain"), (80, "/-/drain/wait")):
        assert place.clients.ask(f"http://{address}:{port}{path}", method="POST").status in (403, 404, 405)
    assert place.clients.ask(f"http://{address}:9820/-/ready").json["ready"]


def test_it_reads_no_queue(place: Place, address: str) -> None:
    assert place.clients.ask(f"http://{address}:9821/-/queue").error == NOBODY
    for port in (9820, 80):
        assert place.clients.ask(f"http://{address}:{port}/-/queue").status in (403, 404)


def test_it_does_not_reach_the_engine(place: Place, address: str) -> None:
    found = wait_ready(place.kubectl)[0]
    port = engine_port(found)
    assert place.clients.ask(f"http://{address}:{port}/health").error == NOBODY
    assert place.clients.ask(f"http://{address}:{port}/generate", body={"inputs": "x"}).error == NOBODY
    # On the pod's address are the clients' port and the proxy's own, and nothing else.
    listening = place.kubectl.exec(found["metadata"]["name"], "python", "-c", LISTENING, container=PROXY)
    assert sorted(map(int, listening.split())) == [80, 9820]


def test_without_a_key_or_with_another_it_is_nobody_and_with_a_tenants_key_that_tenant(
    place: Place, address: str
) -> None:
    url = f"http://{address}"
    body = {"inputs": "Why?", "parameters": {"max_new_tokens": 4}}
    assert place.clients.ask(f"{url}/generate", body=body).status == 401
    wrong = {"Authorization": f"Bearer {key_of('carol')}"}
    assert place.clients.ask(f"{url}/generate", body=body, headers=wrong).status == 401
    # Whatever it says of itself beside the key.
    for name in ("x-fairqueue-tenant", "x-gateway-inference-fairness-id", "x-forwarded-user"):
        answer = place.clients.ask(f"{url}/generate", tenant="alice", body=body, headers={name: "bob"})
        assert (answer.status, answer.tenant) == (200, "alice")
    service_of = view(place.clients, wait_ready(place.kubectl)[0]).service()
    assert service_of["bob"] == 0 < service_of["alice"]


def test_no_key_stands_in_what_the_pod_network_may_read(place: Place, address: str) -> None:
    for path in ("/metrics", "/-/config", "/-/ready", "/-/live"):
        text = place.clients.ask(f"http://{address}:9820{path}").text
        assert "key-of-" not in text


def test_the_sidecar_has_no_token_and_cannot_write(place: Place, address: str) -> None:
    pod = next(it for it in wait_ready(place.kubectl) if it["status"]["podIP"] == address)["metadata"]["name"]
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert place.kubectl.exec(pod, "ls", "-A", folder, container=PROXY).strip() == ""
    assert "token" in place.kubectl.exec(pod, "ls", "-A", folder, container="engine")
    tried = place.kubectl.exec(pod, "sh", "-c", "touch /here 2>&1; touch /opt/here 2>&1; id -u", container=PROXY)
    assert tried.count("Read-only file system") == 2
    assert tried.splitlines()[-1] == "65532"


def test_the_document_holds_digests_and_no_key(place: Place, address: str) -> None:
    pod = next(it for it in wait_ready(place.kubectl) if it["status"]["podIP"] == address)["metadata"]["name"]
    text = place.kubectl.exec(pod, "cat", "/etc/fairqueue/document.json", container=PROXY)
    assert "alice" in text
    assert key_of("alice") not in text
