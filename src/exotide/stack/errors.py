"""
Everything that can go wrong with a stack, as one tree:

* StackError
  x SettingsError         values that cannot work, all at once       nothing was called
  x AccessDenied          the endpoint refused the key (403)         do not retry
  x NotFound              404: what was asked for is not there
  x Refused               any other 4xx: carries status
  x CloudUnavailable      5xx, 429, no connection, not JSON          create again resumes
  x OperationFailed       the cloud took the request, then failed
  x TookTooLong           a wait ended without what it waited for
  x Ambiguous             two resources bear the stack's name
  x LeftOver              destroy could not remove everything        carries what and why
  x Interrupted           the caller asked to stop                   create again resumes
"""

from __future__ import annotations


class StackError(Exception):
    """Base of all errors of the stack."""


class SettingsError(StackError):
    """Settings that cannot work; the message lists all of them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        count = len(problems)
        head = f"{count} setting{'s are' if count > 1 else ' is'} missing or wrong"
        super().__init__("\n  ".join([head, *problems]))


class AccessDenied(StackError):
    """The endpoint does not accept the key, or the key may not do this."""


class Refused(StackError):
    """The cloud refused the request; repeating it as it is will not help."""

    def __init__(self, message: str, *, status: int) -> None:
        self.status = status
        super().__init__(message)


class NotFound(Refused):
    """What the request named does not exist (any more)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=404)


class CloudUnavailable(StackError):
    """The cloud could not be reached or had a fault; what a change did is unknown."""


class OperationFailed(StackError):
    """The cloud accepted a change and reported later that it failed."""


class TookTooLong(StackError):
    """A wait reached its limit; the message tells the last state seen."""


class Ambiguous(StackError):
    """More than one resource bears a name that the stack uses."""


class LeftOver(StackError):
    """Something of the stack could not be removed."""

    def __init__(self, resources: tuple[str, ...], reasons: tuple[str, ...]) -> None:
        self.resources = resources
        self.reasons = reasons
        lines = [f"{len(resources)} resources could not be removed; destroy again:", *resources]
        super().__init__("\n  ".join([*lines, *(f"because {reason}" for reason in reasons)]))


class Interrupted(StackError):
    """The caller asked to stop; what exists stays, and create or destroy go on from there."""
