"""Every policy of `docs/policies-by-example.md`, applied by the page's own commands to the server shown there."""

import base64
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from suite.clients import CLIENT, Clients, client_objects
from suite.kubectl import Json, Kubectl, until
from suite.objects import ENGINE_IMAGE, RESTRICTED, RESTRICTED_CONTAINER
from suite.place import Place
from suite.pods import is_ready
from suite.policies import grant, until_ready

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "manifests" / "examples"
PAGE = ROOT / "docs" / "policies-by-example.md"
NAMES = ["gateway-identity", "hard-caps", "observe-first", "org-and-team", "trial-users", "two-teams"]
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands_for(name: str) -> str:
    """The block of the page that applies the policy, with what it says before that."""
    blocks: list[str] = _BLOCK.findall(PAGE.read_text())
    (block,) = (it for it in blocks if f"kubectl apply -f manifests/examples/{name}.yaml" in it)
    return block


def typed(commands: str, kubectl: Kubectl, directory: Path) -> None:
    """As by somebody whose context has that namespace."""
    config = directory / f"kubeconfig-{kubectl.namespace}"
    config.write_bytes(Path(os.environ["KUBECONFIG"]).read_bytes())
    environment = {**os.environ, "KUBECONFIG": str(config)}
    prepare = f"kubectl config set-context --current --namespace={kubectl.namespace}"
    subprocess.run(["bash", "-ec", f"{prepare}\n{commands}"], cwd=ROOT, env=environment, check=True, timeout=60)


def simulated_server() -> list[Json]:
    """The example of TGI, with a simulated engine, no GPU, and what Pod Security asks for."""
    deployment, service = yaml.safe_load_all((EXAMPLES / "tgi.yaml").read_text())
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    spec["securityContext"] = RESTRICTED
    container |= {"image": ENGINE_IMAGE, "imagePullPolicy": "IfNotPresent", "securityContext": RESTRICTED_CONTAINER}
    container |= {"args": ["--model-profile", "a10g-llama2-7b"], "resources": {"requests": {"cpu": "20m"}}}
    for probe in ("startupProbe", "readinessProbe"):
        container[probe]["periodSeconds"] = 1
    return [deployment, service]


@pytest.mark.parametrize("name", NAMES)
def test_the_pages_commands_make_the_policy_ready(
    name: str, new_namespace: Callable[[], Kubectl], tmp_path: Path
) -> None:
    kubectl = new_namespace()
    grant(kubectl)
    typed(commands_for(name), kubectl, tmp_path)
    kubectl.apply(*simulated_server())
    until_ready(kubectl, pods=1, name=name)


def test_two_teams_are_served_by_their_keys(new_namespace: Callable[[], Kubectl], tmp_path: Path) -> None:
    kubectl = new_namespace()
    kubectl.create(*client_objects())
    grant(kubectl)
    typed(commands_for("two-teams"), kubectl, tmp_path)
    kubectl.apply(*simulated_server())
    until_ready(kubectl, pods=1, name="two-teams")
    until(lambda: is_ready(kubectl.get("pod", CLIENT)), "the client's pod")
    until(lambda: any(is_ready(it) for it in kubectl.all("pods", "app=llm")), "the server's pod")
    place = Place(kubectl, Clients(kubectl))
    key = base64.b64decode(kubectl.get("secret", "chat-keys")["data"]["current"]).decode()
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    url = f"{place.url('llm')}/v1/chat/completions"
    answer = place.clients.ask(url, headers={"Authorization": f"Bearer {key}"}, body=body)
    assert (answer.status, answer.tenant) == (200, "chat")
    assert place.clients.ask(url, body=body).status == 401
