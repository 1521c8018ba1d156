"""Properties whose examples are slow, in `make test`; in `make test-long` they are tried on as many as all others."""

from hypothesis import settings


def at_most(count: int) -> settings:
    thorough = settings.get_current_profile_name() == "thorough"
    return settings() if thorough else settings(max_examples=count)
