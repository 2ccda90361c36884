"""The log: one event per line on stderr, JSON unless a person looks at it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor


class _Unbreakable(structlog.PrintLogger):
    """A log that nobody takes (disk full, reader gone) may cost lines and never a pass."""

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = critical = exception = msg


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
        _Unbreakable(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return log
