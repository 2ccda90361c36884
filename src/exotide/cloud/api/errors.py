"""
Everything that the API refuses, as one tree; each class is one HTTP status.

* ApiError
  x Invalid        400  a field is missing or wrong; names the field and what was expected
  x Forbidden      403  the signature is missing, wrong or expired
    + Protected         the instance is protected
  x NotFound       404  no such path, or no such id in this zone
  x NotAllowed     405  the path exists, the method does not
  x Conflict       409  the name is taken
    + Busy              the resource is not in a state that allows this; try again later
    + InUse             something else still needs the resource
  x QuotaExceeded  412  the organisation may not have that many
  x TooLarge       413  the body is larger than any valid one
  x Refused        4xx  a fault on demand says so

`OperationFailed` is apart: it ends an accepted operation, not a request.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

PROTECTED: Final = (
    "Operation {operation} on resource {id} is forbidden - reason: manual instance protection"
)
"""In the words of the real API, which says so of delete-instance."""


class ApiError(Exception):
    """A refusal; its text is the `message` that clients show."""

    status: int = 500


class Invalid(ApiError):
    status = 400

    @classmethod
    def field(cls, name: str, expected: str, got: object) -> Invalid:
        """Name the field, what was expected, and (shortened) what came instead."""
        shown = repr(got)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        return cls(f"{name}: expected {expected}, got: {shown}")


class Forbidden(ApiError):
    status = 403


class Protected(Forbidden):
    @classmethod
    def of(cls, operation: str, key: str) -> Protected:
        return cls(PROTECTED.format(operation=operation, id=key))


class NotFound(ApiError):
    status = 404

    @classmethod
    def of(cls, what: str, key: str) -> NotFound:
        return cls(f"{what} not found: {key}")


class NotAllowed(ApiError):
    status = 405


class Conflict(ApiError):
    status = 409


class Busy(Conflict):
    @classmethod
    def of(cls, what: str, key: str, state: str) -> Busy:
        return cls(f"{what} {key} is busy: its state is {state}; try again when it is running")


class InUse(Conflict):
    pass


class QuotaExceeded(ApiError):
    status = 412

    @classmethod
    def of(cls, resource: str, *, limit: int, usage: int, wanted: int) -> QuotaExceeded:
        return cls(
            f"quota exceeded: {resource} limit is {limit}, {usage} in use, {wanted} more wanted"
        )


class TooLarge(ApiError):
    status = 413


class Refused(ApiError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FailureReason(StrEnum):
    """Why an operation failed, in the words of the real API."""

    BUSY = "busy"
    CONFLICT = "conflict"
    FAULT = "fault"
    INTERRUPTED = "interrupted"
    PARTIAL = "partial"
    UNKNOWN = "unknown"


class OperationFailed(Exception):
    """The work behind an accepted operation did not succeed."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
