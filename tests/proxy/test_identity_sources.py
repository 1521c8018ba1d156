"""Who a request is from, by the policy's sources: which headers are believed from which peer, whose an identity is, and
what of it reaches the engine. Peers are addresses of loopback; what no socket here can show (other networks, IPv6) is
asked of `Identity` itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fairqueue_proxy.identity import NOBODY, Client, Identity
from fairqueue_proxy.outcome import Refused
from fairqueue_sim import RunningEngine
from proxy.conftest import StartProxy
from proxy.crowd import Crowd, generate
from proxy.raw_client import RawClient, ask, request
from proxy.scripted_engine import Play, ScriptedEngine, json_reply
from proxy_stack import Stack, document_of, key_of

GATEWAY = "127.0.0.2"
STRANGER = "127.0.0.3"

API_KEY = {"name": "api-key", "type": "APIKey", "apiKey": {}}
TENANTS: list[dict[str, Any]] = [
    {"name": "alice", "subjects": [{"source": "gateway", "value": "user@alice"}]},
    {"name": "bob", "subjects": [{"source": "mesh", "value": "user@alice"}]},
]
KEY_HEADER = frozenset({b"authorization"})
FORWARDED = ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP", "True-Client-IP"]

Raw = list[tuple[bytes, bytes]]


def trusted_header(*cidrs: str, name: str = "gateway", header: str = "X-Tenant") -> dict[str, Any]:
    return {"name": name, "type": "Header", "header": {"name": header, "trustedCIDRs": list(cidrs)}}


def gateway_policy(**identity: Any) -> dict[str, Any]:
    """Believes `X-Tenant` from the gateway, then keys."""
    anonymous: dict[str, Any] = {"anonymous": {}} if identity.get("onUnidentified") == "Anonymous" else {}
    sources = [trusted_header(f"{GATEWAY}/32"), API_KEY]
    tenants = [{**tenant, "subjects": tenant["subjects"] if tenant["name"] == "alice" else []} for tenant in TENANTS]
    return {"tenants": tenants, "identity": {"sources": sources, **identity}, **anonymous}


def identity_of(folder: Path, *sources: dict[str, Any], **identity: Any) -> Identity:
    """Of a policy with these sources, and with keys, if only as the last of them."""
    sources = sources if API_KEY in sources else (*sources, API_KEY)
    names = {source["name"] for source in sources}
    tenants = [
        {**tenant, "subjects": [subject for subject in tenant["subjects"] if subject["source"] in names]}
        for tenant in TENANTS
    ]
    return Identity(document_of(folder, tenants=tenants, identity={"sources": list(sources), **identity}, anonymous={}))


def refusal_of(identity: Identity, headers: Raw, peer: str | None = GATEWAY) -> Refused:
    with pytest.raises(Refused) as caught:
        identity.identify(headers, peer)
    return caught.value


async def served(
    stack: Stack, scripted: ScriptedEngine, headers: Mapping[str, str], *, tenant: str | None = None, source: str
) -> tuple[str, Play]:
    """Whose the request was taken for, and what the engine saw."""
    async with RawClient(stack.data, source=source) as client:
        client.send(request("/generate", generate(), tenant=tenant, headers=headers))
        play = await scripted.play()
        play.answer(json_reply({"generated_text": "x"}))
        reply = await client.reply()
    assert reply.status == 200
    return reply.headers["x-fairqueue-tenant"], play


@pytest.mark.parametrize(
    ("cidr", "peer", "believed"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("10.1.2.3/32", "10.1.2.3", True),
        ("10.1.2.3/32", "10.1.2.4", False),
        pytest.param("10.0.0.0/8", "127.0.0.1", False, id="loopback-is-not-implied"),
        pytest.param("fd00::/8", "::1", False, id="nor-is-that-of-IPv6"),
        pytest.param("127.0.0.0/8", "127.0.0.1", True, id="loopback-as-the-policy-says"),
        pytest.param("10.0.0.0/8", "::ffff:10.1.2.3", True, id="IPv4-on-a-dual-stack-listener"),
        pytest.param("10.0.0.0/8", "::ffff:11.1.2.3", False, id="another-one-there"),
        pytest.param("::/0", "::ffff:10.1.2.3", False, id="which-is-no-IPv6-peer"),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "fe80::1", False),
        pytest.param("fe80::/10", "fe80::1%eth0", True, id="with-a-zone"),
        ("0.0.0.0/0", "fd12::1", False),
        ("::/0", "10.1.2.3", False),
        pytest.param("0.0.0.0/0", None, False, id="no-peer"),
        pytest.param("0.0.0.0/0", "/run/proxy.sock", False, id="no-address"),
    ],
)
def test_a_header_is_believed_from_peers_in_the_sources_ranges_only(
    tmp_path: Path, cidr: str, peer: str | None, believed: bool
) -> None:
    identity = identity_of(tmp_path, trusted_header(cidr))
    headers = [(b"X-Tenant", b"user@alice")]
    assert (b"x-tenant" in identity.withheld(peer)) is not believed
    if believed:
        assert identity.identify(headers, peer) == Client("alice", None)
    else:
        assert refusal_of(identity, headers, peer).status == 401


def test_one_of_several_ranges_is_enough(tmp_path: Path) -> None:
    identity = identity_of(tmp_path, trusted_header("10.0.0.0/8", "fd00::/8", "192.168.7.0/24"))
    for peer in ("10.1.1.1", "fd00::9", "192.168.7.255"):
        assert identity.identify([(b"x-tenant", b"user@alice")], peer).tenant == "alice"


def test_each_source_has_its_own_ranges_and_its_own_subjects(tmp_path: Path) -> None:
    identity = identity_of(
        tmp_path,
        trusted_header("10.1.0.0/16"),
        trusted_header("10.2.0.0/16", name="mesh", header="X-Mesh-Id"),
    )
    both = [(b"X-Tenant", b"user@alice"), (b"X-Mesh-Id", b"user@alice")]
    assert identity.identify(both, "10.1.0.1") == Client("alice", None)
    assert identity.withheld("10.1.0.1") == KEY_HEADER | {b"x-mesh-id"}
    assert identity.identify(both, "10.2.0.1") == Client("bob", None)
    assert identity.withheld("10.2.0.1") == KEY_HEADER | {b"x-tenant"}
    assert refusal_of(identity, both, "10.3.0.1").status == 401


@pytest.mark.parametrize(("first", "tenant"), [("gateway", "alice"), ("api-key", "bob")])
def test_the_first_source_that_yields_an_identity_wins(tmp_path: Path, first: str, tenant: str) -> None:
    sources = [trusted_header(f"{GATEWAY}/32"), API_KEY]
    identity = identity_of(tmp_path, *sorted(sources, key=lambda source: source["name"] != first))
    both = [(b"Authorization", b"Bearer key-of-bob"), (b"X-Tenant", b"user@alice")]
    client = identity.identify(both, GATEWAY)
    assert client == Client(tenant, None)
    assert identity.identify(both, STRANGER).tenant == "bob"


@pytest.mark.parametrize("value", [b"", b" ", b"\t "], ids=["nothing", "a-blank", "a-tab"])
def test_an_empty_identity_is_none_and_the_next_source_is_asked(tmp_path: Path, value: bytes) -> None:
    identity = identity_of(tmp_path, trusted_header(f"{GATEWAY}/32"), API_KEY)
    assert refusal_of(identity, [(b"x-tenant", value)]).status == 401
    both = [(b"x-tenant", value), (b"authorization", b"Bearer key-of-bob")]
    assert identity.identify(both, GATEWAY).tenant == "bob"


def test_an_empty_key_is_a_wrong_one(tmp_path: Path) -> None:
    identity = identity_of(tmp_path, API_KEY, onUnidentified="Anonymous")
    for value in (b"", b"Bearer", b"Bearer "):
        refused = refusal_of(identity, [(b"authorization", value)])
        assert (refused.status, "not known" in refused.message) == (401, True)


@pytest.mark.parametrize("first", [b"user@alice", b"someone", b""], ids=["alike", "other", "empty"])
def test_an_identity_that_is_there_twice_is_refused(tmp_path: Path, first: bytes) -> None:
    """Which one the gateway has added nobody can tell."""
    identity = identity_of(tmp_path, trusted_header(f"{GATEWAY}/32"), API_KEY, onUnidentified="Anonymous")
    twice = [(b"x-tenant", first), (b"X-TENANT", b"user@alice")]
    refused = refusal_of(identity, twice)
    assert (refused.status, "x-tenant" in refused.message) == (400, True)
    # From anybody else it is nothing at all, however often.
    assert identity.identify(twice, STRANGER).tenant == "anonymous"


@pytest.mark.parametrize("value", [b"user@alice ", b" user@alice"])
def test_white_space_around_an_identity_is_not_part_of_it(tmp_path: Path, value: bytes) -> None:
    identity = identity_of(tmp_path, trusted_header(f"{GATEWAY}/32"))
    assert identity.identify([(b"x-tenant", value)], GATEWAY).tenant == "alice"


@pytest.mark.parametrize(
    "value", [b"User@alice", b"user@alice,user@bob", b"user@alice\xff", b"gateway/user@alice", b"alice"]
)
def test_an_identity_is_a_tenants_only_as_the_policy_writes_it(tmp_path: Path, value: bytes) -> None:
    identity = identity_of(tmp_path, trusted_header(f"{GATEWAY}/32"), onUnidentified="Anonymous")
    client = identity.identify([(b"x-tenant", value)], GATEWAY)
    assert client.tenant == "anonymous"
    assert client.identity == "gateway/" + value.decode("utf-8", "replace")


def test_identities_of_two_sources_are_not_the_same(tmp_path: Path) -> None:
    identity = identity_of(
        tmp_path,
        trusted_header("10.0.0.0/8"),
        trusted_header("10.0.0.0/8", name="mesh", header="X-Mesh-Id"),
        onUnidentified="Anonymous",
    )
    found = [identity.identify([(name, b"carol")], "10.0.0.1").identity for name in (b"x-tenant", b"x-mesh-id")]
    assert found == ["gateway/carol", "mesh/carol"]


@pytest.mark.parametrize("on_unidentified", ["Reject", "Anonymous"])
def test_a_wrong_key_is_401_whatever_becomes_of_those_without_one(tmp_path: Path, on_unidentified: str) -> None:
    identity = identity_of(tmp_path, API_KEY, onUnidentified=on_unidentified)
    assert refusal_of(identity, [(b"authorization", b"Bearer wrong")]).status == 401
    if on_unidentified == "Anonymous":
        assert identity.identify([], None) == Client("anonymous", NOBODY)
    else:
        assert "authorization" in refusal_of(identity, []).message


async def test_a_forged_identity_is_not_believed_and_does_not_reach_the_engine(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, **gateway_policy())
    forged = {"X-Tenant": "user@alice"}
    refused = await ask(stack.data, request("/generate", generate(), headers=forged), source=STRANGER)
    assert refused.status == 401
    tenant, play = await served(stack, scripted, forged, tenant="bob", source=STRANGER)
    assert tenant == "bob"
    assert "x-tenant" not in play.headers
    assert b"user@alice" not in play.head


async def test_the_gateways_identity_is_believed_and_passed_on(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, **gateway_policy())
    tenant, play = await served(stack, scripted, {"x-TENANT": "user@alice"}, source=GATEWAY)
    assert tenant == "alice"
    assert play.headers["x-tenant"] == "user@alice"


@pytest.mark.parametrize("name", FORWARDED)
async def test_what_a_peer_says_of_addresses_changes_nothing(
    start_proxy: StartProxy, scripted: ScriptedEngine, name: str
) -> None:
    stack = await start_proxy(scripted.port, **gateway_policy())
    value = f"for={GATEWAY}" if name == "Forwarded" else GATEWAY
    forged = {"X-Tenant": "user@alice", name: value}
    assert (await ask(stack.data, request("/generate", generate(), headers=forged), source=STRANGER)).status == 401
    # Nor does it take the gateway's word away: its clients are strangers, it is not.
    relayed = {"X-Tenant": "user@alice", name: value.replace(GATEWAY, STRANGER)}
    assert (await served(stack, scripted, relayed, source=GATEWAY))[0] == "alice"


@pytest.mark.parametrize("path", ["/health", "/info", "/v1/models"])
async def test_on_free_routes_too_only_the_gateways_identity_reaches_the_engine(
    start_proxy: StartProxy, scripted: ScriptedEngine, path: str
) -> None:
    stack = await start_proxy(scripted.port, **gateway_policy())
    for source, value in ((STRANGER, "forged"), (GATEWAY, "believed")):
        data = request(path, method="GET", tenant="alice", headers={"X-Tenant": value})
        assert (await ask(stack.data, data, source=source)).status == 200
    seen = b"".join(scripted.asked)
    assert b"X-Tenant: believed" in seen
    assert b"forged" not in seen
    assert key_of("alice").encode() not in seen


async def test_a_route_that_needs_an_identity_takes_the_gateways(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port, **gateway_policy())
    data = request("/tokenize", {"inputs": "hello"}, headers={"X-Tenant": "user@alice"})
    assert (await ask(stack.data, data, source=STRANGER)).status == 401
    assert (await ask(stack.data, data, source=GATEWAY)).status == 200


async def test_a_verified_identity_without_a_tenant_is_401_if_the_policy_rejects(
    start_proxy: StartProxy, engine: RunningEngine
) -> None:
    stack = await start_proxy(engine.port, **gateway_policy())
    # Not even with a key: the first source has said who it is.
    data = request("/generate", generate(), tenant="bob", headers={"X-Tenant": "carol"})
    reply = await ask(stack.data, data, source=GATEWAY)
    assert (reply.status, reply.json["reason"]) == (401, "unauthenticated")
    assert "carol" not in reply.json["error"]
    assert engine.truth.requests == []


async def test_verified_identities_without_a_tenant_have_a_leaf_each_below_anonymous(
    start_proxy: StartProxy, scripted: ScriptedEngine
) -> None:
    stack = await start_proxy(scripted.port, **gateway_policy(onUnidentified="Anonymous"))
    assert stack.proxy is not None
    anonymous = stack.proxy.runtime.tenants.by_name["anonymous"]
    async with Crowd(stack) as crowd:
        for name, headers in (("one", {"X-Tenant": "carol"}), ("two", {"X-Tenant": "dave"}), ("three", {})):
            await crowd.join(name, headers=headers, source=GATEWAY)
        # A forged one is none, so that nobody can have as many leaves as names come to mind.
        for number in range(5):
            await crowd.join(f"forged-{number}", headers={"X-Tenant": f"forged-{number}"}, source=STRANGER)
        leaves = anonymous.node.children.values()
        assert {leaf.name: leaf.in_flight for leaf in leaves} == {
            "=gateway/carol": 1,
            "=gateway/dave": 1,
            "=(nobody)": 6,
        }
        for _ in range(8):
            (await scripted.play()).answer(json_reply({"generated_text": "x"}))
        replies = [await crowd.tasks[name] for name in crowd.tasks]
    assert {(reply.status, reply.headers["x-fairqueue-tenant"]) for reply in replies} == {(200, "anonymous")}


async def test_a_wrong_key_is_not_anonymous_and_no_key_is(start_proxy: StartProxy, engine: RunningEngine) -> None:
    stack = await start_proxy(engine.port, **gateway_policy(onUnidentified="Anonymous"))
    wrong = await ask(stack.data, request("/generate", generate(), tenant="nobody"))
    assert wrong.status == 401
    none = await ask(stack.data, request("/generate", generate()))
    assert (none.status, none.headers["x-fairqueue-tenant"]) == (200, "anonymous")
    lines = (await stack.metrics()).splitlines()
    assert 'fairqueue_requests_total{tenant="",outcome="unauthenticated"} 1' in lines
    assert 'fairqueue_requests_total{tenant="anonymous",outcome="completed"} 1' in lines
