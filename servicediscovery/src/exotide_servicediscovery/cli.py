"""The program: settings in, TERM out."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from .credentials import with_credentials
from .errors import ListenError, ServiceDiscoveryError, SettingsError
from .settings import Settings, read_settings

HELP = """\
Keep a Prometheus file_sd file equal to the members of an Exoscale instance pool.

All settings are environment variables.
Needed: EXOSCALE_KEY, EXOSCALE_SECRET, EXOSCALE_ZONE, EXOSCALE_INSTANCEPOOL_ID, TARGET_PORT.
Optional: EXOSCALE_API_ENDPOINT, EXOTIDE_REFRESH_S, EXOTIDE_TARGETS_FILE, EXOTIDE_METRICS_PORT,
EXOTIDE_METRICS_ADDRESS, EXOTIDE_LISTEN_ADDRESS.
Key and secret may be files in CREDENTIALS_DIRECTORY (LoadCredential of systemd).
Exit: 0 stopped by TERM or INT, 1 fault, 2 wrong settings or a port that is taken."""

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until TERM or INT; returns the exit code."""
    # Blocked from the very start until they are heeded: no moment, not even the slow imports, in
    # which TERM would kill the program.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    parser = argparse.ArgumentParser(
        "exotide-servicediscovery",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    try:
        settings = read_settings(with_credentials(os.environ))
        run(settings)
    except (SettingsError, ListenError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ServiceDiscoveryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(settings: Settings) -> None:
    """Keep the file until TERM or INT. Raises ListenError."""
    from .service import run  # noqa: PLC0415 - after the settings were checked: it takes a while

    asyncio.run(run(settings, signals=SIGNALS))
