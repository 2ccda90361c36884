"""
Everything that can go wrong, as one tree:

* ServiceDiscoveryError
  x SettingsError         the program cannot start              exit 2
  x ListenFailed          the metrics port cannot be opened     exit 1
  x RefreshError          one pass failed; the targets file stays, the next pass tries again
    + CloudError          the API did not say who the members are
      - Unauthorized        401, 403: the key is wrong or may not read the pool
      - NotFound            404: no such pool here, which is not the same as an empty one
      - RequestRefused      another 4xx: the request itself is at fault
      - CloudUnavailable    429, 5xx, no connection, no answer in time
      - AnswerInvalid       200, but not what the API's contract says
    + TargetsNotWritten   the members are known, but the file cannot be written
"""

from __future__ import annotations

from collections.abc import Sequence


class ServiceDiscoveryError(Exception):
    """Base of all errors of this program; the message is one that a person can act on."""


class SettingsError(ServiceDiscoveryError):
    """Settings are missing or wrong; `problems` holds a line for each of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        count = len(problems)
        what = "1 setting is" if count == 1 else f"{count} settings are"
        super().__init__("\n  ".join([f"error: {what} missing or wrong", *problems]))
        self.problems = tuple(problems)


class ListenFailed(ServiceDiscoveryError):
    """The metrics' address and port cannot be opened."""


class RefreshError(ServiceDiscoveryError):
    """A pass failed; the targets file stays as it is and the next pass tries again."""

    kind = "unknown"
    """Used verbatim as log value and as metric label."""
    needs_action = False
    """Whether it can only end when someone acts."""


class CloudError(RefreshError):
    """The API did not say who the members are."""


class Unauthorized(CloudError):
    """401 or 403."""

    kind = "unauthorized"
    needs_action = True


class NotFound(CloudError):
    """404."""

    kind = "not-found"
    needs_action = True


class RequestRefused(CloudError):
    """Any other 4xx."""

    kind = "refused"
    needs_action = True


class CloudUnavailable(CloudError):
    """429, 5xx, no connection, no answer in time."""

    kind = "unavailable"


class AnswerInvalid(CloudError):
    """The answer is broken JSON, or lacks what the API's contract promises."""

    kind = "invalid-answer"


class TargetsNotWritten(RefreshError):
    """The folder is missing, read-only or full, or the file may not be replaced."""

    kind = "not-written"
    needs_action = True


KINDS = tuple(
    error.kind
    for error in (
        Unauthorized,
        NotFound,
        RequestRefused,
        CloudUnavailable,
        AnswerInvalid,
        TargetsNotWritten,
    )
)
