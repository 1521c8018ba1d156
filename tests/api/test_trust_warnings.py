"""Ranges that are allowed and seldom meant are warned about, with field and fix; gateways' own ranges are not."""

from typing import Any

import pytest

from api.policies import load, policy
from fairqueue_api import policy_warnings

EVERY = "trusts every address: anybody can name any tenant: write your gateway's addresses"
WIDE_4 = "trusts a wide range (shorter than /16): anybody in it can name any tenant: write your gateway's addresses"
WIDE_6 = "trusts a wide range (shorter than /48): anybody in it can name any tenant: write your gateway's addresses"
LOOPBACK = (
    "trusts loopback: every process beside the proxy, and every port-forward, can name any tenant: "
    "leave loopback out, unless your gateway runs there"
)


def warnings(*cidrs: str, **spec: Any) -> list[str]:
    sources = [
        {"name": "keys", "type": "APIKey", "apiKey": {}},
        {"name": "gateway", "type": "Header", "header": {"trustedCIDRs": list(cidrs)}},
    ]
    loaded = load(policy(identity={"sources": sources}, **spec))
    return [str(problem) for problem in policy_warnings(loaded, "policy.yaml")]


def line(text: str, index: int = 0) -> str:
    return f"policy.yaml: spec.identity.sources[1].header.trustedCIDRs[{index}]: {text}"


@pytest.mark.parametrize("cidr", ["10.1.0.0/16", "192.168.7.9/32", "fd00:1:2::/48", "2001:db8::7/128", "126.0.0.0/16"])
def test_a_gateways_own_range_is_not_warned_about(cidr: str) -> None:
    assert warnings(cidr) == []


@pytest.mark.parametrize(
    ("cidr", "texts"),
    [
        ("0.0.0.0/0", [EVERY, LOOPBACK]),
        ("::/0", [EVERY, LOOPBACK]),
        ("10.0.0.0/15", [WIDE_4]),
        ("10.0.0.0/8", [WIDE_4]),
        ("64.0.0.0/2", [WIDE_4, LOOPBACK]),
        ("fd00::/47", [WIDE_6]),
        ("::/8", [WIDE_6, LOOPBACK]),
        ("127.0.0.1/32", [LOOPBACK]),
        ("127.0.0.0/8", [WIDE_4, LOOPBACK]),
        ("::1/128", [LOOPBACK]),
    ],
)
def test_a_range_that_lets_others_speak_for_the_gateway_is_warned_about(cidr: str, texts: list[str]) -> None:
    assert warnings(cidr) == [line(text) for text in texts]


def test_each_range_is_looked_at_by_itself() -> None:
    assert warnings("10.1.0.0/16", "::1/128", "10.0.0.0/8") == [line(LOOPBACK, 1), line(WIDE_4, 2)]


def test_without_a_file_the_policy_is_named() -> None:
    source = {"name": "g", "type": "Header", "header": {"trustedCIDRs": ["::1/128"]}}
    (problem,) = policy_warnings(load(policy(identity={"sources": [source]})))
    assert problem.source == "policy default/two-teams"


def test_a_policy_without_trusted_headers_has_no_warnings() -> None:
    assert policy_warnings(load(policy())) == []
