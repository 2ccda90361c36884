"""Talks to the control API of a cloud on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from exotide.cloud.control import SOCKET
from exotide.cloud.directory import Entry
from exotide.cloud.errors import CloudUnusable
from exotide.cloud.web import short_path

ANSWER_WITHIN_S = 60.0


class ControlFailed(CloudUnusable):
    """The control API refuses, or does not answer."""


class ControlClient:
    """The control API of one cloud."""

    def __init__(self, cloud: Entry, *, run_dir: Path) -> None:
        self._cloud = cloud
        self._socket = run_dir / cloud.cloud_id / SOCKET

    def ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """
        Make one request and return the answer.

        Raises:
            ControlFailed: With the reason of the refusal, or who may open the socket.
        """
        if not os.access(self._socket, os.W_OK):
            raise self._unreachable("it is not there, or not yours")
        try:
            with (
                short_path(self._socket) as short,
                httpx2.Client(
                    transport=httpx2.HTTPTransport(uds=short),
                    base_url="http://control",
                    timeout=ANSWER_WITHIN_S,
                ) as client,
            ):
                answer = client.request(method, path, json=body)
        except (httpx2.TransportError, OSError) as error:
            raise self._unreachable(str(error)) from error
        content = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if answer.status_code != 200:
            raise ControlFailed(str(content.get("message", f"status {answer.status_code}")))
        return dict(content)

    def _unreachable(self, reason: str) -> ControlFailed:
        return ControlFailed(
            f"cloud {self._cloud.cloud_id} cannot be controlled through {self._socket}: "
            f"{reason}; only the user who started it may do so"
        )
