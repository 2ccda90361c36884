"""
Expressions of policy rules, in Google's Common Expression Language (CEL).

Its official runtime does the work; here are Exoscale's additions (`parameters.has('name')`) and
the promise that nothing but this module's own error comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from cel_expr_python import cel

BINDINGS: Final = (
    "api_key",
    "now",
    "operation",
    "parameters",
    "resources",
    "service",
    "source_ip",
    "zone",
)
"""Every name that an expression may use."""

_KEPT: Final = 4096
_ERRORS: Final = (RuntimeError, TypeError, ValueError, OverflowError, SystemError)
"""What the runtime raises: for syntax, and for values that CEL does not have."""


class BadExpression(Exception):
    """The text is no CEL; says where and why."""


def check(expression: str) -> None:
    """
    Make sure that a text is an expression; names and types are left to the request.

    Raises:
        BadExpression: It is not.
    """
    _compiled(expression)


def is_true(expression: str, bindings: Mapping[str, object]) -> bool | None:
    """
    Evaluate; None if that is not possible, or if the result is neither true nor false.

    Texts in the bindings must not have NUL characters: the runtime would cut them there.
    """
    try:
        found = _compiled(expression).eval(data=bindings)
        # Other values stay unread: the runtime miscounts its references to None.
        return bool(found.value()) if found.type() == cel.Type.BOOL else None
    except (BadExpression, *_ERRORS):
        return None


@lru_cache(maxsize=_KEPT)
def _compiled(expression: str) -> Any:
    try:
        return _ENVIRONMENT.compile(expression, disable_check=True)
    except _ERRORS as error:
        raise BadExpression(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    line = str(error).partition("\n")[0]
    return line.removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: <input>:")[:200]


def _environment() -> Any:
    parameter_map = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    has = cel.Overload(
        "map_has_string",
        return_type=cel.Type.BOOL,
        parameters=[parameter_map, cel.Type.STRING],
        is_member=True,
        impl=lambda values, name: name in values,
    )
    return cel.NewEnv(
        variables=dict.fromkeys(BINDINGS, cel.Type.DYN),
        functions=[cel.FunctionDecl("has", [has])],
    )


_ENVIRONMENT: Final = _environment()
