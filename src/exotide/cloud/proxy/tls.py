"""The server side of TLS in tunnels: a certificate in memory, replaced long before it ends."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.errors import AuthorityUnusable
from exotide.cloud.proxy.authority import Authority, Leaf

_log: Final = structlog.get_logger(__name__)

_RENEWED_BEFORE_END: Final = timedelta(days=30)


class Tls:
    """
    Gives the TLS context for the next connection; the first leaf is issued at once.

    Raises:
        AuthorityUnusable: The authority cannot be read or made.
    """

    def __init__(self, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self._folder, self._now = folder, now
        self.ca_file, self._context, self._until = self._issued()

    def context(self) -> ssl.SSLContext:
        """Return a context that holds for a month at least, or as long as can be had."""
        if self._now() > self._until - _RENEWED_BEFORE_END:
            try:
                self.ca_file, self._context, self._until = self._issued()
            except AuthorityUnusable as error:
                _log.warning("certificate_not_renewed", error=str(error), until=str(self._until))
        return self._context

    def _issued(self) -> tuple[Path, ssl.SSLContext, datetime]:
        now = self._now()
        authority = Authority.open(self._folder, now=now)
        leaf = authority.issue(now=now)
        return authority.file, _context(leaf), leaf.until


def _context(leaf: Leaf) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # The library reads keys from files only; this one is 0600 and gone at once.
    with tempfile.NamedTemporaryFile(prefix="exotide-") as file:
        file.write(leaf.key + leaf.certificate)
        file.flush()
        context.load_cert_chain(file.name)
    return context
