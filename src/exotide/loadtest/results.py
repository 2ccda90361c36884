"""What a load generator saw, second by second, as JSON lines from one process to another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """One second of load. A latency counts from the moment at which the request was due."""

    at: float
    """End of the second, Unix time."""
    rate_rps: float
    """The rate that was asked for."""
    arrivals: int
    completed: int
    """Answers with a good status."""
    failed: int
    """Bad status, refused, cut or timed out."""
    in_flight: int
    p50_s: float | None
    """None: no answer in this second, which is not the same as a fast one."""
    p95_s: float | None


def quantile(values: Sequence[float], q: float) -> float | None:
    """The smallest value that at least the share q of values do not exceed; None of none."""
    if not values:
        return None
    return sorted(values)[max(0, ceil(q * len(values)) - 1)]


class Tally:
    """Counts requests between two cuts."""

    def __init__(self) -> None:
        self._arrivals = 0
        self._failed = 0
        self._in_flight = 0
        self._latencies: list[float] = []

    def started(self) -> None:
        """A request is due now."""
        self._arrivals += 1
        self._in_flight += 1

    def finished(self, *, latency_s: float, good: bool) -> None:
        """A request that was started has ended; only good ones count as latency."""
        self._in_flight -= 1
        if good:
            self._latencies.append(latency_s)
        else:
            self._failed += 1

    def cut(self, *, at: float, rate_rps: float) -> Second:
        """What happened since the last cut."""
        second = Second(
            at=at,
            rate_rps=rate_rps,
            arrivals=self._arrivals,
            completed=len(self._latencies),
            failed=self._failed,
            in_flight=self._in_flight,
            p50_s=quantile(self._latencies, 0.5),
            p95_s=quantile(self._latencies, 0.95),
        )
        self._arrivals, self._failed, self._latencies = 0, 0, []
        return second


def to_line(second: Second) -> str:
    """One line of the results file."""
    return json.dumps(asdict(second)) + "\n"


class Tail:
    """Follows a results file that another process appends to."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0

    def read(self) -> list[Second]:
        """New whole lines since the last call; a file that is not there yet has none."""
        try:
            with self._file.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [Second(**json.loads(line)) for line in whole.splitlines()]
