"""Logging as JSON, one line for each record: level, time, message and the record's own fields.

`log.info("policies listed", extra={"fields": {"policies": 3}})` is how fields are given. Nothing here knows what is
secret: whoever logs does.
"""

import logging
import time
from typing import Any

import msgspec


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
