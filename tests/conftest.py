"""How many examples a property is tried on: few in `make test`, many in `make test-long`, which runs them all again."""

import os

import pytest
from hypothesis import settings

# They need an environment of their own: `make test-vllm`.
collect_ignore = [] if os.environ.get("FAIRQUEUE_VLLM") else ["real_vllm"]

# Without a deadline: on a shared machine it would say how busy that is.
settings.register_profile("short", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile(config.getoption("hypothesis_profile") or "short")
