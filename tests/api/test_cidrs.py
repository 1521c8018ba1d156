"""Ranges of addresses: what Kubernetes' `isCIDR` takes is read, all else is refused without being repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.api_server import is_cidr
from fairqueue_api.cidrs import CidrError, parse_cidr


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("127.0.0.1/32", "127.0.0.1/32"),
        ("FD00::1/8", "fd00::/8"),
        ("::/0", "::/0"),
        ("::10.0.0.1/128", "::a00:1/128"),
    ],
)
def test_a_range_is_its_network(text: str, network: str) -> None:
    assert str(parse_cidr(text)) == network
    assert is_cidr(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "/8", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/-1",
        "10.0.0.0/255.0.0.0", "10.0.0.0/8/8", "010.0.0.0/8", "10.0.0/8", " 10.0.0.0/8", "10.0.0.0/8\n", "::/129",
        "::ffff:10.0.0.1/128", "::ffff:0:0/96", "::ffff:0.0.0.0/0", "fe80::1%eth0/64",
        "\u0661.0.0.0/8", "10.0.0.0/\u0668", "localhost/8", "1/8",
    ],
)  # fmt: skip
def test_what_is_no_range_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(CidrError) as caught:
        parse_cidr(text)
    assert str(caught.value) == ""
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not is_cidr(text)


@given(text=st.text("0123456789abcdf.:/%", max_size=20) | st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}"))
def test_what_kubernetes_takes_is_taken_and_nothing_else(text: str) -> None:
    try:
        parse_cidr(text)
    except CidrError:
        assert not is_cidr(text)
    else:
        assert is_cidr(text)
