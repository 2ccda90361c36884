"""How far the monitoring server's set-up is, as it tells itself until everything runs."""

from __future__ import annotations

from contextlib import suppress
from typing import Self

import msgspec

from .errors import WebFault
from .scene import Scene


class Bootstrap(msgspec.Struct, frozen=True, kw_only=True):
    """The state that terraform/userdata/monitoring/bootstrap.py shows."""

    steps: tuple[str, ...]
    done: tuple[str, ...]
    now: str = ""
    error: str = ""

    @property
    def text(self) -> str:
        """The state as a part of a sentence."""
        failed = f" failed: {self.error}" if self.error else ""
        return f"{len(self.done)} of {len(self.steps)} steps done, now '{self.now}'{failed}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read what the page says; None if it says nothing of the kind."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError:
            return None


def bootstrap(scene: Scene) -> Bootstrap | None:
    """
    Ask the monitoring server; None if it is not being set up, or does not say.

    It says so where the autoscaler will be, and once that is there, where Grafana will be.
    """
    for url in (scene.status_url, scene.grafana_url):
        with suppress(WebFault):
            page = scene.web.get(f"{url}/bootstrap.json")
            if page.status == 503 and (state := Bootstrap.read(page.text)):
                return state
    return None
