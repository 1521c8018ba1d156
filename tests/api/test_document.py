"""Documents on the wire: a round trip loses nothing, newer ones are read, broken ones are refused."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.policies import EXAMPLE, Keys
from fairqueue_api import (
    AnonymousSettings,
    BackpressureSettings,
    CostSettings,
    Document,
    DocumentError,
    DrainSettings,
    EngineSettings,
    GroupSettings,
    IdentitySettings,
    LimitSettings,
    QuadraticSettings,
    QueueSettings,
    SourceSettings,
    SubjectSettings,
    TenantSettings,
    load_policy,
    parse_document,
    render,
)

COUNTS = st.integers(0, 2**63 - 1)
POSITIVE = st.integers(1, 2**63 - 1)
OPTIONAL = st.none() | POSITIVE
WEIGHTS = st.integers(1, 10_000)
SECONDS = st.floats(0, 3600)
NAMES = st.text("abc-", min_size=1, max_size=5)
QUADRATIC = st.builds(QuadraticSettings, COUNTS, COUNTS, COUNTS)
LIMITS = st.builds(LimitSettings, OPTIONAL, st.none() | COUNTS, OPTIONAL)
ANONYMOUS = st.builds(AnonymousSettings, WEIGHTS, st.booleans(), LIMITS)
ENGINE_KEYS = st.none() | st.text("abc-~", min_size=1)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    tops = draw(st.lists(NAMES, unique=True, max_size=3))
    groups = [GroupSettings(name, None, draw(WEIGHTS)) for name in tops]
    groups += [GroupSettings(f"{name}.child", name, draw(WEIGHTS)) for name in tops]
    names = [None, *(group.name for group in groups)]
    sources = [
        SourceSettings("keys", "APIKey", draw(NAMES), ()),
        SourceSettings("gateway", "Header", draw(NAMES), ("10.0.0.0/8", "fd00::/8")),
    ]
    tenants = [
        TenantSettings(
            name=name,
            group=draw(st.sampled_from(names)),
            weight=draw(WEIGHTS),
            fair_within=draw(st.sampled_from(["None", "User"])),
            limits=draw(LIMITS),
            subjects=tuple(SubjectSettings("gateway", f"{n}{value}") for value in draw(st.lists(NAMES, unique=True))),
            key_digests=(f"{n}a", f"{n}b"),
        )
        for n, name in enumerate(draw(st.lists(NAMES, unique=True, max_size=4)))
    ]
    anonymous = draw(st.none() | ANONYMOUS)
    on_unidentified = draw(st.sampled_from(["Reject", "Anonymous"])) if anonymous else "Reject"
    quadratic = draw(st.none() | QUADRATIC)
    return Document(
        schema=1,
        policy=draw(st.text()),
        revision=draw(st.text()),
        mode="Enforce",
        engine=EngineSettings(
            draw(st.sampled_from(["TGI", "VLLM", "SGLang", "LlamaCpp", "OpenAI"])),
            draw(st.none() | st.integers(1, 65535)),
            draw(ENGINE_KEYS),
        ),
        identity=IdentitySettings(on_unidentified, tuple(draw(st.permutations(sources)))),
        groups=tuple(groups),
        tenants=tuple(tenants),
        anonymous=anonymous,
        cost=CostSettings(
            type="Quadratic" if quadratic else "Linear",
            input_token=draw(COUNTS),
            output_token=draw(POSITIVE),
            request=draw(COUNTS),
            cached_input_percent=draw(st.integers(0, 100)),
            prediction=draw(st.sampled_from(["Mean", "MaxTokens", "None"])),
            quadratic=quadratic,
        ),
        queue=QueueSettings(
            *(draw(POSITIVE) for _ in range(5)), hold_headers_seconds=draw(SECONDS), timeout_seconds=draw(SECONDS)
        ),
        backpressure=BackpressureSettings(draw(SECONDS), draw(OPTIONAL), draw(OPTIONAL), draw(OPTIONAL)),
        drain=DrainSettings(draw(SECONDS)),
    )


def example() -> dict[str, Any]:
    content = json.loads(render(load_policy(EXAMPLE), Keys()).to_json())
    assert isinstance(content, dict)
    return content


def parse(content: object) -> Document:
    return parse_document(json.dumps(content).encode()).document


@given(document=documents())
def test_a_round_trip_loses_nothing(document: Document) -> None:
    parsed = parse_document(document.to_json())
    assert parsed.document == document
    assert parsed.document.to_json() == document.to_json()
    assert parsed.unknown_fields == []


def test_the_json_is_canonical() -> None:
    content = example()
    add_subjects((0, "équipe"))(content)
    written = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert parse(content).to_json() == written


def test_equal_documents_have_the_same_hash() -> None:
    assert len({parse(example()), parse(example())}) == 1


def test_unknown_fields_are_passed_over_and_named_once() -> None:
    content = example()
    content["later"] = {"a": 1}
    content["queue"]["order"] = "by size"
    for tenant in content["tenants"]:
        tenant["priority"] = []
    parsed = parse_document(json.dumps(content).encode())
    assert parsed.document == parse(example())
    assert parsed.unknown_fields == ["later", "queue.order", "tenants[].priority"]


def test_of_a_field_that_is_there_twice_the_last_one_counts() -> None:
    content = json.dumps(example()).replace('"drain": {', '"drain": {"later": 1}, "drain": {"timeout_seconds": 9, ')
    parsed = parse_document(content.encode())
    assert parsed.document == parse(example())
    assert parsed.unknown_fields == []


def test_whole_seconds_may_be_written_without_a_fraction() -> None:
    assert parse(example() | {"drain": {"timeout_seconds": 5}}).drain == DrainSettings(5.0)


@pytest.mark.parametrize("schema", [2, 0, "1", True, 1.0, None])
def test_another_schema_is_refused(schema: object) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(example() | {"schema": schema, "engine": "as it will be"})
    assert str(caught.value) == (
        "document: schema: is not 1, the one that this version reads: run a proxy that matches it"
    )


def put(*path: str | int, value: object) -> Callable[[Any], object]:
    def change(content: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = value

    return change


def add_subjects(*places: tuple[int, str]) -> Callable[[Any], object]:
    """Identities of source `gateway` for the tenants with these numbers."""

    def change(content: Any) -> None:
        content["identity"]["sources"].append(GATEWAY)
        for number, value in places:
            content["tenants"][number]["subjects"].append({"source": "gateway", "value": value})

    return change


GATEWAY = {"name": "gateway", "type": "Header", "header": "x-tenant", "trusted_cidrs": ["10.0.0.0/8"]}
TWO_CHILDREN = [{"name": "a", "parent": "b", "weight": 1}, {"name": "b", "parent": "a", "weight": 1}]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda content: content.pop("queue"), "object missing required field `queue`"),
        (lambda content: content["queue"].pop("max_bytes"), "queue: object missing required field `max_bytes`"),
        (put("queue", value=[]), "queue: expected `object`, got `array`"),
        (put("tenants", value={}), "tenants: expected `array`, got `object`"),
        (put("tenants", 0, value="a"), "tenants[]: expected `object`, got `str`"),
        (put("tenants", 0, "weight", value="1"), "tenants[].weight: expected `int`, got `str`"),
        (put("tenants", 0, "weight", value=True), "tenants[].weight: expected `int`, got `bool`"),
        (put("tenants", 0, "weight", value=1.0), "tenants[].weight: expected `int`, got `float`"),
        (put("tenants", 0, "weight", value=0), "tenants[].weight: expected `int` >= 1"),
        (put("tenants", 0, "weight", value=10**19), "tenants[].weight: expected `int` <= 10000"),
        (put("tenants", 0, "key_digests", value=["a", 1]), "tenants[].key_digests[]: expected `str`, got `int`"),
        (put("tenants", 0, "name", value=None), "tenants[].name: expected `str`, got `null`"),
        (put("drain", "timeout_seconds", value=-1), "drain.timeout_seconds: expected `float` >= 0.0"),
        (put("drain", "timeout_seconds", value=3601), "drain.timeout_seconds: expected `float` <= 3600.0"),
        (put("drain", "timeout_seconds", value=True), "drain.timeout_seconds: expected `float`, got `bool`"),
        (put("drain", "timeout_seconds", value=float("nan")), "is not JSON"),
        (put("drain", "timeout_seconds", value=float("inf")), "is not JSON"),
        (put("groups", 1, "name", value="research"), "groups: repeats a name"),
        (put("groups", value=TWO_CHILDREN), "groups[].parent: names no top-level group"),
        (put("groups", 1, "parent", value="nobody"), "groups[].parent: names no top-level group"),
        (put("tenants", 1, "name", value="team-a"), "tenants: repeats a name"),
        (put("tenants", 1, "group", value="nobody"), "tenants[].group: names no group"),
        (put("cost", "type", value="Quadratic"), "cost.quadratic: does not go with cost.type"),
        (put("mode", value="Watch"), "mode: has a value that this version does not know"),
        (put("engine", "api_key", value=""), "engine.api_key: is not what a header can carry"),
        (put("engine", "api_key", value="a\r\nx-admin: 1"), "engine.api_key: is not what a header can carry"),
        (put("engine", "api_key", value="schlüssel"), "engine.api_key: is not what a header can carry"),
        (put("identity", "sources", 1, "name", value="api-key"), "identity.sources: repeats a name"),
        (
            put("identity", "sources", 0, "trusted_cidrs", value=["10.0.0.0/8"]),
            "identity.sources[].trusted_cidrs: does not go with the source's type",
        ),
        (
            put("identity", "sources", 0, value=GATEWAY | {"trusted_cidrs": []}),
            "identity.sources[].trusted_cidrs: does not go with the source's type",
        ),
        (
            put("identity", "sources", 0, value=GATEWAY | {"trusted_cidrs": ["10.0.0.0"]}),
            "identity.sources[].trusted_cidrs: holds what is no range of addresses",
        ),
        (
            put("identity", "on_unidentified", value="Anonymous"),
            "anonymous: is missing, and identity.on_unidentified is Anonymous",
        ),
        (add_subjects((0, "a"), (1, "b"), (2, "a")), "tenants[].subjects: gives one identity to two tenants"),
        (
            put("tenants", 0, "subjects", value=[{"source": "api-key", "value": "a"}]),
            "tenants[].subjects[].source: names no source that verifies identities",
        ),
        (
            put("tenants", 0, "subjects", value=[{"source": "nobody", "value": "a"}]),
            "tenants[].subjects[].source: names no source that verifies identities",
        ),
    ],
)
def test_a_broken_document_is_refused_with_its_path(change: Callable[[Any], object], line: str) -> None:
    content = example()
    change(content)
    with pytest.raises(DocumentError) as caught:
        parse(content)
    known = "run a proxy that matches it" if "does not know" in line else "render it again"
    assert str(caught.value) == f"document: {line}: {known}"


def test_one_tenant_may_be_several_identities() -> None:
    content = example()
    add_subjects((0, "a"), (0, "b"), (1, "c"))(content)
    assert [subject.value for subject in parse(content).tenants[0].subjects] == ["a", "b"]


def places(content: Any) -> Iterator[tuple[str | int, ...]]:
    """The path of everything that is in `content`."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in inner:
        yield (name,)
        yield from ((name, *rest) for rest in places(value))


@pytest.mark.parametrize(
    "secret", ["9182 73", "91`8273", " - at `$.918273`", ["918273"], {"918273": "918273"}, 918273, -918273.5]
)
def test_no_error_repeats_what_the_document_holds(secret: object) -> None:
    whole = example()
    add_subjects((0, "a"))(whole)
    whole["anonymous"] = {"weight": 1, "per_identity": True, "limits": whole["tenants"][0]["limits"]}
    said = []
    for place in places(whole):
        content = deepcopy(whole)
        put(*place, value=secret)(content)
        try:
            parse(content)
        except DocumentError as error:
            said.append(f"{error} {error!r}")
    assert len(said) > 30
    assert "8273" not in "".join(said)


def test_neither_key_nor_digest_is_shown() -> None:
    engine = EngineSettings("TGI", None, "sk-engine")
    tenant = TenantSettings("a", "b", 1, "None", LimitSettings(None, None, None), (), ("0123abcd",))
    assert repr(engine) == "EngineSettings(kind='TGI', port=None)"
    assert repr(tenant) == (
        "TenantSettings(name='a', group='b', weight=1, fair_within='None', limits=LimitSettings(max_in_flight=None, "
        "max_queued=None, tokens_per_minute=None), subjects=())"
    )


@pytest.mark.parametrize("value", ["Triton", "", "TGI - at `$.mode`"])
def test_an_engine_that_this_version_does_not_know_is_refused(value: object) -> None:
    content = example()
    content["engine"]["kind"] = value
    with pytest.raises(DocumentError) as caught:
        parse(content)
    assert str(caught.value) == (
        "document: engine.kind: has a value that this version does not know: run a proxy that matches it"
    )


def test_one_key_for_two_tenants_is_refused() -> None:
    content = example()
    content["tenants"][1]["key_digests"] = content["tenants"][0]["key_digests"][:1]
    with pytest.raises(DocumentError) as caught:
        parse(content)
    assert str(caught.value) == "document: tenants[].key_digests: gives one key to two tenants: render it again"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "document: is not JSON: render it again"),
        (b"{", "document: is not JSON: render it again"),
        (b"\xff\xfe", "document: is not JSON: render it again"),
        (b"[" * 200_000, "document: is not JSON: render it again"),
        (b'{"schema":' + b"1" * 5000 + b"}", "document: is not JSON: render it again"),
        (b'{"schema":1,"drain":1e999}', "document: is not JSON: render it again"),
        (b'{"schema":1,"policy":"\\ud800"}', "document: is not JSON: render it again"),
        (b'{"schema":1,"policy":"\xff"}', "document: is not JSON: render it again"),
        (b'{"schema":1,"later":' + b"[" * 200_000, "document: is not JSON: render it again"),
        (b"[]", "document: is not a JSON object: render it again"),
        (b"null", "document: is not a JSON object: render it again"),
    ],
)
def test_what_is_no_document_at_all_is_refused(content: bytes, line: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_document(content)
    assert str(caught.value) == line


@given(content=st.binary(max_size=40))
def test_no_bytes_raise_anything_but_a_document_error(content: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_document(content)
