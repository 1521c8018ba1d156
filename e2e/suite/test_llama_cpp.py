"""The server of llama.cpp with real weights, in a pod like any other."""

from suite.objects import RESTRICTED, RESTRICTED_CONTAINER, deployment, service
from suite.place import Place
from suite.pods import is_injected, view, wait_ready

PORT = 8080
# The default of the image, written out: the injector changes arguments, and cannot change those of an image.
COMMAND = ["python", "-m", "fairqueue_cli.demo_engine", "--host", "0.0.0.0", f"--port={PORT}", "--slots", "2"]


def test_a_pod_of_llama_cpp_is_injected_and_charges_real_tokens(place: Place) -> None:
    place.share({"alice": 1, "bob": 1}, kind="LlamaCpp")
    probe = {"httpGet": {"path": "/health", "port": "web"}, "periodSeconds": 1, "failureThreshold": 60}
    container = {
        "name": "llama",
        "image": "fairqueue/llama-cpp:0.1.0",
        "imagePullPolicy": "IfNotPresent",
        "command": COMMAND,
        "ports": [{"name": "web", "containerPort": PORT}],
        "startupProbe": probe,
        "readinessProbe": probe,
        "securityContext": RESTRICTED_CONTAINER,
    }
    labels = {"app": "engine", "fairqueue.dev/inject": "true"}
    template = {"metadata": {"labels": labels}, "spec": {"securityContext": RESTRICTED, "containers": [container]}}
    place.kubectl.apply(service(target="web"), service(name="by-number", target=PORT), deployment(template))
    pod = wait_ready(place.kubectl)[0]
    assert is_injected(pod)
    body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 12}
    made = 0
    for name in ("engine", "by-number"):
        answer = place.clients.ask(f"{place.url(name)}/v1/chat/completions", tenant="alice", body=body)
        assert answer.status == 200, answer.text
        assert answer.tenant == "alice"
        usage = answer.json["usage"]
        assert usage["completion_tokens"] > 0
        # What the engine says that it did; a generated token costs two.
        made += usage["prompt_tokens"] + 2 * usage["completion_tokens"]
    assert place.clients.ask(f"http://{pod['status']['podIP']}:{PORT + 10000}/health").error == "ClientConnectorError"
    assert view(place.clients, pod).service() == {"alice": made, "bob": 0}
