"""What is compared: how each proxy is found, started and talked to."""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_plane_bench.requests import OPENAI, TGI, Api
from fairqueue_cli.demo_stack import free_port
from socket_bench.policy import write_policy

__all__ = ["BASE", "FAIRQUEUE", "FAIRQUEUE_VLLM", "LITELLM", "PROXIES", "REFERENCE", "Launch", "Proxy", "nginx_program"]

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path(__file__).parent / "configs"
VENV = ROOT / ".venv-bench" / "bin"
# Debian puts it where not everybody's PATH leads.
NGINX_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
# Of two sockets a stream, with room for all.
DESCRIPTORS = "32768"

BASE, REFERENCE, LITELLM, FAIRQUEUE, FAIRQUEUE_VLLM = "direct", "nginx", "litellm", "fairqueue-tgi", "fairqueue-vllm"


@dataclass(frozen=True, slots=True)
class Launch:
    """How it is started. `ready_url` answers 200 from then on; `metrics_url` is scraped."""

    command: tuple[str, ...]
    port: int
    ready_url: str
    metrics_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proxy:
    """`missing` says how to get it, or nothing if it is there. `launch` takes the upstream's port and a folder."""

    name: str
    words: str
    launch: Callable[[int, Path], Launch] | None
    api: Api = TGI
    is_slow: bool = False
    missing: Callable[[], str] = lambda: ""


def nginx_program() -> str | None:
    """Where it is, if it is installed."""
    return shutil.which("nginx") or shutil.which("nginx", path=":".join(NGINX_FOLDERS))


def _nginx(upstream: int, folder: Path) -> Launch:
    port = free_port()
    config = _configured("nginx.conf", folder, port, upstream)
    command = (nginx_program() or "nginx", "-p", str(folder), "-e", "stderr", "-c", str(config))
    return Launch(command, port, f"http://127.0.0.1:{port}/health")


def _envoy(upstream: int, folder: Path) -> Launch:
    port = free_port()
    config = _configured("envoy.yaml", folder, port, upstream)
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    return Launch((str(VENV / "envoy"), "-c", str(config), *options), port, f"http://127.0.0.1:{port}/health")


def _litellm(upstream: int, folder: Path) -> Launch:
    port = free_port()
    config = _configured("litellm.yaml", folder, port, upstream)
    command = (str(VENV / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    # Nothing is to be fetched from anywhere.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "127.0.0.1"}
    return Launch(command, port, f"http://127.0.0.1:{port}/health/liveliness", environment=environment)


def _plain_aiohttp(upstream: int, _folder: Path) -> Launch:
    port = free_port()
    command = (sys.executable, "-P", str(CONFIGS / "plain_aiohttp.py"), str(port), str(upstream))
    return Launch(command, port, f"http://127.0.0.1:{port}/health")


def _fairqueue_tgi(upstream: int, folder: Path) -> Launch:
    policy = write_policy(folder, "tgi")
    return _fairqueue(upstream, policy.path, policy.secrets)


def _fairqueue_vllm(upstream: int, folder: Path) -> Launch:
    policy = write_policy(folder, "vllm")
    return _fairqueue(upstream, policy.path, policy.secrets)


def _fairqueue(upstream: int, policy: Path, secrets: Path) -> Launch:
    """As anybody would start it: nothing but the addresses is told."""
    port, admin, local = (free_port() for _ in range(3))
    command = [sys.executable, "-P", "-m", "fairqueue_cli.main", "serve"]
    command += ["--policy", str(policy), "--secrets", str(secrets), "--engine", f"http://127.0.0.1:{upstream}"]
    command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--local", f"127.0.0.1:{local}"]
    admin_url = f"http://127.0.0.1:{admin}"
    return Launch(tuple(command), port, f"{admin_url}/-/ready", f"{admin_url}/metrics")


def _configured(name: str, folder: Path, listen: int, upstream: int) -> Path:
    text = (CONFIGS / name).read_text()
    values = {"listen": str(listen), "upstream": str(upstream), "folder": str(folder), "descriptors": DESCRIPTORS}
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    path = folder / name
    path.write_text(text)
    return path


def _nginx_is_missing() -> str:
    return "" if nginx_program() else "install it with the system's packages (`apt-get install nginx-light`)"


def _envoy_is_missing() -> str:
    return "" if (VENV / "envoy").exists() else "`make bench` installs it"


def _litellm_is_missing() -> str:
    return "" if (VENV / "litellm").exists() else "`make bench` installs it"


PROXIES: Mapping[str, Proxy] = {
    proxy.name: proxy
    for proxy in (
        Proxy(BASE, "no proxy", None),
        Proxy(REFERENCE, "nginx", _nginx, missing=_nginx_is_missing),
        Proxy("envoy", "Envoy", _envoy, missing=_envoy_is_missing),
        Proxy(LITELLM, "LiteLLM", _litellm, api=OPENAI, is_slow=True, missing=_litellm_is_missing),
        Proxy("aiohttp", "aiohttp as everybody writes it, on uvloop", _plain_aiohttp),
        Proxy(FAIRQUEUE, "fairqueue before TGI", _fairqueue_tgi),
        Proxy(FAIRQUEUE_VLLM, "fairqueue before vLLM", _fairqueue_vllm, api=OPENAI),
    )
}
