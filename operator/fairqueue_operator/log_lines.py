"""Logging as JSON, one line for each record, on standard output: level, time, message and the record's own fields.

`log.info("policies listed", extra={"fields": {"policies": 3}})` is how fields are given. Nothing here knows what is
secret: whoever logs does.
"""

import logging
import sys
import time
from typing import Any

import msgspec

log = logging.getLogger("fairqueue.injector")


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


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
