"""The log: one event per line on stderr, JSON unless a person looks at it."""

from __future__ import annotations

import os
import sys
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor


def make_log(stream: TextIO = sys.stderr) -> FilteringBoundLogger:
    """Return a logger that writes to this stream."""
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    last: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=colours, exception_formatter=structlog.dev.plain_traceback
        )
        if stream.isatty()
        else structlog.processors.JSONRenderer()
    )
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return log
