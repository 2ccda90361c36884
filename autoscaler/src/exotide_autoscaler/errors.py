"""
Everything that can go wrong, as one tree:

* AutoscalerError
  x SettingsError         the program cannot start           exit 2
  x ListenError           an address is taken or forbidden   exit 2
  x JournalError          nothing can be remembered: webhooks get 503, the pool stays as it is
  x CloudError            the pool stays as it is, the intent is kept, the next interval retries
    + Unauthorized        401, 403: the key may not do this
    + PoolNotFound        404: wrong id or zone, or the pool is gone
    + QuotaExceeded       no room in the organisation's quota
    + Busy                409, 423: the pool has something else to do; surely not done
    + Refused             any other 4xx, or an operation that failed; surely not done
      - MemberRefused       a member cannot go: it is protected, or no member
    + CloudUnavailable    429, 5xx, timeout, no connection: the outcome is unknown
    + NonsenseAnswer      an answer that cannot be true: the outcome is unknown
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class AutoscalerError(Exception):
    """Base of all errors of this distribution."""


class SettingsError(AutoscalerError):
    """Settings are missing or wrong; carries all problems at once, as (name, what to do)."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        noun = "setting is" if count == 1 else "settings are"
        width = max(len(name) for name, _ in self.problems)
        lines = [f"  {name:<{width}}  {text}" for name, text in self.problems]
        super().__init__("\n".join([f"{count} {noun} missing or wrong", *lines]))


class ListenError(AutoscalerError):
    """A listener could not be bound."""


class JournalError(AutoscalerError):
    """The journal could not be read or written."""


class CloudError(AutoscalerError):
    """
    A call to the cloud did not give what was asked for.

    The text is one short line and holds nothing of the key; `said` is what the API itself said.
    """

    outcome_unknown: ClassVar[bool] = False
    """Whether the call may have changed the pool all the same."""

    def __init__(self, text: str, *, said: str = "") -> None:
        super().__init__(text)
        self.said = said


class Unauthorized(CloudError):
    """The key is unknown, its signature is wrong, or its role may not do this."""


class PoolNotFound(CloudError):
    """There is no such pool in this zone."""


class QuotaExceeded(CloudError):
    """The organisation's quota has no room; the old size still holds."""


class Busy(CloudError):
    """The pool has something else to do; the old size still holds, try later."""


class Refused(CloudError):
    """The cloud understood the request and said no; the old size still holds."""


class MemberRefused(Refused):
    """Members that were to go cannot; the old size still holds."""

    def __init__(self, text: str, *, members: frozenset[str], said: str = "") -> None:
        super().__init__(text, said=said)
        self.members = members
        """Those that the cloud named, or all that were to go if it named none."""


class CloudUnavailable(CloudError):
    """No answer, or one that says "later"; read the pool before acting again."""

    outcome_unknown = True


class NonsenseAnswer(CloudError):
    """An answer that is not what the API promises; read the pool before acting again."""

    outcome_unknown = True
