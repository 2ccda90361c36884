"""
Everything that can go wrong, as one tree:

* ServiceDiscoveryError
  x SettingsError         the program cannot start           exit 2
  x ListenError           the metrics port is taken or forbidden   exit 2
  x RefreshError          one pass failed; the targets file stays, the next pass tries again
    + CloudError            the cloud did not say who the members are
      - Unauthorized          401, 403: the key may not do this
      - PoolNotFound          404: wrong id or zone, which is not the same as an empty pool
      - QuotaExceeded, Busy   the client has one vocabulary for both agents; reads meet neither
      - Refused               any other 4xx: the request itself is at fault
      - CloudUnavailable      429, 5xx, timeout, no connection
      - NonsenseAnswer        an answer that cannot be true
    + TargetsNotWritten     the members are known, but the file cannot be written
    + Unexpected            a fault of this program
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ServiceDiscoveryError(Exception):
    """Base of all errors of this distribution."""


class SettingsError(ServiceDiscoveryError):
    """Settings are missing or wrong; carries all problems at once, as (name, what to do)."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        noun = "setting is" if count == 1 else "settings are"
        width = max(len(name) for name, _ in self.problems)
        lines = [f"  {name:<{width}}  {text}" for name, text in self.problems]
        super().__init__("\n".join([f"{count} {noun} missing or wrong", *lines]))


class ListenError(ServiceDiscoveryError):
    """A listener could not be bound."""


class RefreshError(ServiceDiscoveryError):
    """A pass failed; the targets file stays as it is and the next pass tries again."""

    needs_action: ClassVar[bool] = False
    """Whether it can only end when someone acts."""


class CloudError(RefreshError):
    """
    A call to the cloud did not give what was asked for.

    The text is one short line and holds nothing of the key; `said` is what the API itself said.
    """

    def __init__(self, text: str, *, said: str = "") -> None:
        super().__init__(text)
        self.said = said


class Unauthorized(CloudError):
    """The key is unknown, its signature is wrong, or its role may not do this."""

    needs_action = True


class PoolNotFound(CloudError):
    """There is no such pool in this zone."""

    needs_action = True


class QuotaExceeded(CloudError):
    """The organisation's quota has no room."""

    needs_action = True


class Busy(CloudError):
    """The pool has something else to do; try later."""


class Refused(CloudError):
    """The cloud understood the request and said no."""

    needs_action = True


class CloudUnavailable(CloudError):
    """No answer, or one that says "later"."""


class NonsenseAnswer(CloudError):
    """An answer that is not what the API promises."""


class TargetsNotWritten(RefreshError):
    """The folder is missing, read-only or full, or the file may not be replaced."""

    needs_action = True


class Unexpected(RefreshError):
    """Something that this program does not know, and that ends one pass only."""

    needs_action = True


KINDS = (
    *(Unauthorized, PoolNotFound, QuotaExceeded, Busy, Refused, CloudUnavailable, NonsenseAnswer),
    *(TargetsNotWritten, Unexpected),
)
"""All ways in which a pass can fail; their names are values of the metric."""
