"""The package as others see it: cheap to import, and its names are what it says."""

import subprocess
import sys

import pytest

import fairqueue_api
from api.policies import EXAMPLE, Keys
from fairqueue_api import digest, load_policy, render

READ_A_DOCUMENT = """
import sys
from fairqueue_api import parse_document
assert parse_document(sys.stdin.buffer.read()).document.tenants
print(sorted({name.partition(".")[0] for name in sys.modules} & {"pydantic", "yaml", "asyncio"}))
"""


def test_reading_a_document_needs_neither_pydantic_nor_yaml() -> None:
    document = render(load_policy(EXAMPLE), Keys()).to_json()
    done = subprocess.run([sys.executable, "-c", READ_A_DOCUMENT], input=document, capture_output=True, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize("name", fairqueue_api.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(fairqueue_api, name).__module__.startswith("fairqueue_api.")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = fairqueue_api.nothing


def test_a_digest_is_the_sha_256_of_the_bare_key() -> None:
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
