"""The program: settings in, TERM out."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from .credentials import with_credentials
from .errors import ListenFailed, SettingsError
from .settings import Settings, read_settings

HELP = """\
Keep a Prometheus file_sd file equal to the members of an Exoscale instance pool.

All settings are environment variables.
Needed: EXOSCALE_KEY, EXOSCALE_SECRET, EXOSCALE_ZONE, EXOSCALE_INSTANCEPOOL_ID, TARGET_PORT.
Optional: EXOSCALE_API_ENDPOINT, EXOTIDE_REFRESH_S, EXOTIDE_TARGETS_FILE, EXOTIDE_METRICS_PORT,
EXOTIDE_METRICS_ADDRESS, EXOTIDE_LISTEN_ADDRESS.
Key and secret may be files in CREDENTIALS_DIRECTORY (LoadCredential of systemd).
Exit: 0 stopped by TERM or INT, 1 fault, 2 settings."""

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until TERM or INT; returns the exit code."""
    # Blocked in all threads from the very start, and waited for in one: no moment, not even the
    # slow import of the SDK, in which TERM would kill the program.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    parser = argparse.ArgumentParser(
        "exotide-servicediscovery",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    try:
        run(read_settings(with_credentials(os.environ)))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except ListenFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run(settings: Settings) -> None:
    """Keep the file until TERM or INT. Raises ListenFailed."""
    from .agent import Agent  # noqa: PLC0415 - after TERM is blocked: this takes half a second
    from .logs import make_log  # noqa: PLC0415
    from .metrics import Metrics, MetricsServer  # noqa: PLC0415
    from .pools import ExoscalePools  # noqa: PLC0415

    log, metrics = make_log(), Metrics()
    server = MetricsServer(metrics, address=settings.metrics_address, port=settings.metrics_port)
    agent = Agent(
        settings=settings, connect=lambda: ExoscalePools(settings), metrics=metrics, log=log
    )
    threading.Thread(target=_end_on_signal, args=(agent.stop,), name="signals", daemon=True).start()
    log.info(
        "started",
        pool=settings.pool_id,
        endpoint=settings.endpoint,
        file=str(settings.targets_file),
        refresh_s=settings.refresh_s,
        metrics_port=server.port,
    )
    agent.run()
    log.info("stopped")


def _end_on_signal(stop: Future[None]) -> None:
    signal.sigwait(SIGNALS)
    stop.set_result(None)
