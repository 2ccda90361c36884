"""The system's clocks."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from exotide_autoscaler.domain import Instant


class SystemClock:
    """Adapter of ports.Clock."""

    def __init__(self) -> None:
        try:
            self._boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:  # not Linux: every start counts as another boot
            self._boot = uuid.uuid4().hex

    def now(self) -> Instant:
        """The present moment."""
        return Instant(wall_s=time.time(), monotonic_s=time.monotonic(), boot=self._boot)
