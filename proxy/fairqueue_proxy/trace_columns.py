"""The columns of a trace file: what was asked for and when, in lengths and times only, never content.

CSV with a header, sorted by arrival: `arrival_seconds,tenant,prompt_tokens,output_tokens`, and optionally `max_tokens,
user,cached_tokens,outcome`. An empty optional field says nothing.
"""

from typing import Final

REQUIRED: Final = ("arrival_seconds", "tenant", "prompt_tokens", "output_tokens")
OPTIONAL: Final = ("max_tokens", "user", "cached_tokens", "outcome")
COLUMNS: Final = (*REQUIRED, *OPTIONAL)
