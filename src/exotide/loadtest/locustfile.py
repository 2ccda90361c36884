"""
Open load by Locust: `locust -f locustfile.py --headless --users 1 --host http://ADDRESS`.

Runs in its own process, since Locust patches the standard library. One Locust user starts every
request of the Poisson process in a greenlet of its own, so a slow answer delays no other request.
Environment: EXOTIDE_LOAD_CONTROL, the file that says the rate; EXOTIDE_LOAD_RESULTS, the file
that gets one JSON line per second; EXOTIDE_LOAD_SEED. Ends by itself when the control file is
gone or its writer has been silent for ten seconds.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random
from typing import Final

import gevent
from locust import FastHttpUser, task
from locust.exception import StopUser

from exotide.loadtest.arrivals import Arrivals
from exotide.loadtest.control import Control, read_control
from exotide.loadtest.results import Second, Tally, to_line

TICK_S: Final = 0.1
SILENCE_S: Final = 10.0
TIMEOUT_S: Final = 60.0


class OpenLoad(FastHttpUser):
    """Starts requests when they are due, answers or not."""

    # The default of 10 connections would make the load a closed one.
    concurrency = 100_000
    connection_timeout = TIMEOUT_S
    network_timeout = TIMEOUT_S
    max_retries = 0
    max_redirects = 0

    def on_start(self) -> None:
        """Read the environment; a missing name ends the process."""
        self._control_file = Path(os.environ["EXOTIDE_LOAD_CONTROL"])
        self._results = Path(os.environ["EXOTIDE_LOAD_RESULTS"])
        self._arrivals = Arrivals(Random(os.environ.get("EXOTIDE_LOAD_SEED", "1")))  # noqa: S311 - load, no secret
        self._tally = Tally()

    @task
    def run_until_told_to_end(self) -> None:
        """One endless task: plan the next tick, hand over the last second."""
        planned_s, counted = time.monotonic(), int(time.time())
        while True:
            control = self._wanted()
            now_s = time.monotonic()
            self._plan(planned_s, now_s + TICK_S, now_s, control)
            planned_s = now_s + TICK_S
            # Cut where the wall clock's seconds end: who reads in between never misses one.
            if int(time.time()) != counted:
                counted = int(time.time())
                self._report(self._tally.cut(at=time.time(), rate_rps=control.rate_rps))
            gevent.sleep(max(0.0, planned_s - time.monotonic()))

    def _wanted(self) -> Control:
        try:
            age_s = time.time() - self._control_file.stat().st_mtime
            if age_s < SILENCE_S:
                return read_control(self._control_file)
        except FileNotFoundError:
            pass
        self.environment.runner.quit()
        raise StopUser

    def _report(self, second: Second) -> None:
        with self._results.open("a", encoding="utf-8") as results:
            results.write(to_line(second))

    def _plan(self, start_s: float, end_s: float, now_s: float, control: Control) -> None:
        for due_s in self._arrivals.between(start_s, end_s, rate_rps=control.rate_rps):
            gevent.spawn_later(max(0.0, due_s - now_s), self._request, due_s, control.path)

    def _request(self, due_s: float, path: str) -> None:
        self._tally.started()
        good = False
        try:
            # The balancer spreads connections: each request opens its own, as a new visitor would.
            response = self.client.get(path, name="work", headers={"Connection": "close"})
            good = response.status_code == 200
        finally:
            self._tally.finished(latency_s=time.monotonic() - due_s, good=good)
