"""Whatever clients call themselves, /metrics stays as large as the policy makes it."""

from pathlib import Path

import pytest

from fairqueue_api.address import Address
from fairqueue_proxy.exposition import Exposition
from fairqueue_proxy.outcome import Outcome
from fairqueue_proxy.proxy import Proxy
from fairqueue_proxy.scheduler import Request
from fairqueue_proxy.tenants import MOST_LEAVES
from proxy.samples import sample, samples
from proxy_stack import document_of

MOST_TENANTS = 256
NAME_CHARACTERS = 24
"""With the longest names that there may be, 63, it is 1.2 MB."""
IDENTITY = {
    "onUnidentified": "Anonymous",
    "sources": [
        {"name": "gateway", "type": "Header", "header": {"name": "x-who", "trustedCIDRs": ["127.0.0.0/8"]}},
        {"name": "api-key", "type": "APIKey", "apiKey": {}},
    ],
}


async def scraped(exposition: Exposition) -> str:
    return b"".join([part async for part in exposition.slices()]).decode()


def serve(proxy: Proxy, tenant_name: str, identity: str | None) -> None:
    """One request, from its arrival to its end."""
    runtime = proxy.runtime
    scheduler, tenant = runtime.dispatcher.scheduler, runtime.tenants.by_name[tenant_name]
    request = Request(tenant.leaf(scheduler, identity), prompt_tokens=10, max_output_tokens=10)
    scheduler.enqueue(request)
    scheduler.start_out_of_turn(request)
    scheduler.finish(request, output_tokens=5)
    tenant.outcomes[Outcome.COMPLETED] += 1
    tenant.output_tokens += 5
    for histogram in (tenant.queue_seconds, tenant.first_token_seconds, tenant.request_seconds):
        histogram.observe(0.1)


# One after the other has a leaf of its own in the scheduler's tree, up to that many; later ones share one.
@pytest.mark.parametrize("identities", [MOST_LEAVES + 1_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_identities_that_clients_invent_add_no_series_and_256_tenants_are_less_than_a_megabyte(
    tmp_path: Path, identities: int
) -> None:
    names = [f"tenant-{number:03}-".ljust(NAME_CHARACTERS, "x") for number in range(MOST_TENANTS)]
    document = document_of(
        tmp_path,
        tenants=[{"name": name} for name in names],
        anonymous={},
        identity=IDENTITY,
    )
    proxy = Proxy(document, Address("127.0.0.1", 1), seed=1)
    exposition = Exposition(proxy.runtime, proxy.entitlement, proxy.reloads)
    for name in names:
        serve(proxy, name, None)
    serve(proxy, "anonymous", "the first")
    before = samples(text := await scraped(exposition)).keys()
    assert len(text) < 1_000_000
    for number in range(identities):
        serve(proxy, "anonymous", f"somebody-{number}")
    after = samples(text := await scraped(exposition)).keys()
    print(f"{len(text)} bytes")
    assert after == before
    assert len(text) < 1_000_000
    assert sample(text, "requests_total", tenant="anonymous", outcome="completed") == identities + 1
    await proxy.stop()
