"""The example policies with keys laid out as their pages say, and a proxy that runs on one of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fairqueue_api import Document, SecretDirectory, load_policy, render
from fairqueue_api.address import Address
from fairqueue_api.models import FairnessPolicy, SecretRef
from fairqueue_proxy.proxy import Proxy
from manifests.reading import EXAMPLES
from proxy_stack import LOOPBACK, Stack, key_of


def example(name: str) -> FairnessPolicy:
    """The policy, checked."""
    return load_policy(EXAMPLES / f"{name}.yaml")


def references(policy: FairnessPolicy) -> list[SecretRef]:
    """The keys that it names."""
    return [reference for tenant in policy.spec.tenants for reference in tenant.api_key_secret_refs]


def document_of_example(name: str, folder: Path) -> Document:
    """What a proxy runs on; the keys, in `folder`, are those of `bearer(tenant)`."""
    policy = example(name)
    for tenant in policy.spec.tenants:
        for reference in tenant.api_key_secret_refs:
            (folder / reference.name).mkdir(parents=True, exist_ok=True)
            (folder / reference.name / reference.key).write_text(key_of(tenant.name))
    return render(policy, SecretDirectory(folder))


@asynccontextmanager
async def proxy_on(document: Document, engine_port: int) -> AsyncIterator[Stack]:
    """A proxy in this process, in front of an engine on loopback."""
    proxy = Proxy(document, Address("127.0.0.1", engine_port), seed=1)
    try:
        data, admin, local = await proxy.start(LOOPBACK, LOOPBACK, LOOPBACK)
        yield Stack(data, admin, local, proxy=proxy)
    finally:
        await proxy.stop()
