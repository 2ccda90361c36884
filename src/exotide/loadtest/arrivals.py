"""When requests of an open load arrive: a Poisson process whose rate may change at any time."""

from __future__ import annotations

from random import Random


class Arrivals:
    """
    Draws arrival times that do not depend on any answer.

    Exact for a rate that is constant between two calls: what is left until the next arrival is
    kept as an area under the rate, so a change of the rate neither loses nor adds a request.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._left = rng.expovariate(1.0)

    def between(self, start_s: float, end_s: float, *, rate_rps: float) -> list[float]:
        """Times of the arrivals in [start_s, end_s) at rate_rps requests per second."""
        times: list[float] = []
        at_s = start_s
        while rate_rps > 0 and at_s + self._left / rate_rps < end_s:
            at_s += self._left / rate_rps
            times.append(at_s)
            self._left = self._rng.expovariate(1.0)
        self._left = max(0.0, self._left - (end_s - at_s) * rate_rps)
        return times
