"""Logging as JSON lines on standard output. Nothing here knows what is secret: whoever logs does."""

import logging
import sys
from typing import Any

from fairqueue_api.json_lines import JsonLines

log = logging.getLogger("fairqueue")


def configure(level: int = logging.INFO) -> None:
    """All logging as JSON lines on standard output. A closed pipe loses lines, never admissions."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.raiseExceptions = False
    logging.basicConfig(level=level, handlers=[handler], force=True)


def info(message: str, **fields: Any) -> None:
    """One line of what happens."""
    log.info(message, extra={"fields": fields})


def warning(message: str, **fields: Any) -> None:
    """One line of what somebody should look at."""
    log.warning(message, extra={"fields": fields})
