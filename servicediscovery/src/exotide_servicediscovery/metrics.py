"""What can be measured about this program, and the small server that tells Prometheus."""

from __future__ import annotations

import socket
import socketserver
import threading
from http.server import ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import MetricsHandler

from .errors import KINDS, ListenError


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.last_success = Gauge(
            "exotide_discovery_last_success_timestamp_seconds",
            "When the targets file was last known to be right; 0: not yet",
            registry=self.registry,
        )
        self.fresh = Gauge(
            "exotide_discovery_fresh",
            "1: the last pass succeeded. 0: the targets file is kept from an earlier one",
            registry=self.registry,
        )
        self.targets = Gauge(
            "exotide_discovery_targets",
            "Targets at the last success",
            registry=self.registry,
        )
        self.skipped = Gauge(
            "exotide_discovery_skipped_instances",
            "Members left out at the last success: no address, an unusable one, or never to answer",
            registry=self.registry,
        )
        self.unusable = Gauge(
            "exotide_discovery_unusable_addresses",
            "Members whose address no member can have, at the last success",
            registry=self.registry,
        )
        self.errors = Counter(
            "exotide_discovery_errors",
            "Passes that failed, by kind of error",
            ["error"],
            registry=self.registry,
        )
        self.writes = Counter(
            "exotide_discovery_writes",
            "Times the targets file was replaced",
            registry=self.registry,
        )
        self.pass_seconds = Histogram(
            "exotide_discovery_pass_seconds",
            "How long passes took, failed ones too",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        for kind in KINDS:
            self.errors.labels(kind.__name__)


class MetricsServer(ThreadingHTTPServer):
    """Serves the metrics on a daemon thread until closed."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, metrics: Metrics, *, address: str, port: int) -> None:
        """Open the port and start. Raises ListenError. Port 0: see `port` for the choice."""
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        handler = type("Handler", (MetricsHandler.factory(metrics.registry),), {"timeout": 5})
        try:
            super().__init__((address, port), handler)
        except OSError as error:
            raise ListenError(
                f"cannot serve metrics on {address} port {port}: {error.strerror}; "
                "set EXOTIDE_METRICS_ADDRESS, EXOTIDE_METRICS_PORT"
            ) from error
        threading.Thread(target=self.serve_forever, name="metrics", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that is served."""
        return int(self.server_address[1])

    def server_bind(self) -> None:
        """Bind without http.server's reverse look-up, which hangs where no name server answers."""
        socketserver.TCPServer.server_bind(self)

    def close(self) -> None:
        """Stop serving and free the port."""
        self.shutdown()
        self.server_close()
