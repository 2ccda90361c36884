"""The command `exotide-autoscaler`: no arguments, all settings from the environment."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType
from typing import Final, NoReturn

import structlog

from exotide_autoscaler.credentials import with_credentials
from exotide_autoscaler.errors import AutoscalerError, ListenError, SettingsError
from exotide_autoscaler.settings import Settings, read_settings

_HELP: Final = """
Settings come from the environment:
  EXOSCALE_KEY, EXOSCALE_SECRET   the API key (also EXOSCALE_API_KEY, EXOSCALE_API_SECRET)
  EXOSCALE_ZONE                   the zone of the pool, for example at-vie-1
  EXOSCALE_INSTANCEPOOL_ID        the pool to scale
  EXOSCALE_API_ENDPOINT           a base URL instead of the zone's public API
  LISTEN_PORT                     where webhooks arrive (8090)
  EXOTIDE_LISTEN_ADDRESS          (0.0.0.0)
  EXOTIDE_INTERVAL_S              at most one change in this time (60)
  EXOTIDE_COOLDOWN_S              further rest after a change (0)
  EXOTIDE_MIN_SIZE, EXOTIDE_MAX_SIZE   limits of the pool's size (1, 10)
  EXOTIDE_ENFORCE_LIMITS          1: limits that are set hold without a webhook; 0: only for
                                  webhooks, a pool that was resized by hand stays (1)
  EXOTIDE_INTENT_TTL_S            how long a request may wait (900)
  EXOTIDE_ALERT_HOLDS_S           so long after its last word an alert's waiting /up outranks
                                  /down: a bit more than the time between repeats (330)
  EXOTIDE_SETTLE_S                how long a change may take until the pool is judged by the size
                                  asked for (600, at most 2/3 of EXOTIDE_INTENT_TTL_S)
  EXOTIDE_STRICT_BODIES           1: refuse bodies that are no alert of Alertmanager or Grafana (0)
  EXOTIDE_JOURNAL                 file that remembers requests and decisions
  EXOTIDE_WEBHOOK_TOKEN           what senders must know; empty: open to all
  EXOTIDE_METRICS_PORT, EXOTIDE_METRICS_ADDRESS   a listener of its own for reading
  EXOTIDE_API_TIMEOUT_S           time for one call to the cloud (10)
  EXOTIDE_LOG_LEVEL               debug, info, warning or error (info)
  CREDENTIALS_DIRECTORY           folder with EXOSCALE_KEY, EXOSCALE_SECRET, EXOTIDE_WEBHOOK_TOKEN
                                  as files, as systemd's LoadCredential makes it
Exit: 0 stopped by TERM or INT, 1 fault, 2 wrong settings or a port that is taken.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the autoscaler until TERM; returns the exit code: 0, or 2 if it could not start."""
    parser = argparse.ArgumentParser(
        prog="exotide-autoscaler",
        description="Scales an Exoscale instance pool when webhooks ask for it.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {version('exotide-autoscaler')}"
    )
    parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)  # until the service has its own handler
    try:
        settings = read_settings(with_credentials(os.environ))
        _configure_logging(settings.log_level)
        _run(settings)
    except (SettingsError, ListenError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except AutoscalerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


class _Unbreakable(structlog.PrintLogger):
    """A log that nobody takes (disk full, reader gone) may cost lines and never a webhook."""

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = critical = exception = msg


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _run(settings: Settings) -> None:
    from exotide_autoscaler.service import run  # noqa: PLC0415 - after the settings were checked: this takes a while to load

    asyncio.run(run(settings))


def _configure_logging(level: str) -> None:
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if terminal
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *_: _Unbreakable(sys.stderr),
        cache_logger_on_first_use=True,
    )
