"""HOST:PORT, as the options of all commands take it."""

import pytest

from fairqueue_api.address import Address, read_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("localhost:0", Address("localhost", 0)),
        ("[::]:65535", Address("::", 65535)),
        (":8080", Address("0.0.0.0", 8080)),
    ],
)
def test_a_host_and_a_port_are_read(text: str, address: Address) -> None:
    assert read_address(text, "--listen") == address


@pytest.mark.parametrize("text", ["", "80", "host", "host:", "host:65536", "host:-1", "host:8o", "host:\u0662", "::x"])
def test_what_is_none_is_refused_in_a_line_that_names_the_option(text: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT") as caught:
        read_address(text, "--admin", "10.0.0.1:1")
    assert str(caught.value) == f"--admin {text}: must be HOST:PORT, e.g. 10.0.0.1:1"
