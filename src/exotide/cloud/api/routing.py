"""The table of operations: which method and path is which operation, without any HTTP library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from exotide.cloud.api.errors import Invalid, NotAllowed, NotFound
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that may be carried out: authentic, and read."""

    zone: str
    endpoint_of: Callable[[str], str]
    """A zone's base URL as the client reaches it, so that answers can name it."""
    body: Fields
    query: Sequence[tuple[str, str]] = ()
    path: Mapping[str, str] = field(default_factory=dict)
    """The parameters in the path."""
    source_ip: str = ""
    """Where the request came from; policies may look at it."""

    def argument(self, name: str) -> str | None:
        """Return a query parameter, or None if it is absent or empty."""
        values = [value for key, value in self.query if key == name]
        if len(values) > 1:
            raise Invalid.field(name, "one value", values)
        return values[0] or None if values else None

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        """Return a parameter in the path that has only these values."""
        value = self.path[name]
        if value not in allowed:
            raise Invalid.field(name, f"one of {', '.join(allowed)}", value)
        return value

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        """Return a query parameter that has only these values."""
        value = self.argument(name) or default
        if value not in allowed:
            raise Invalid.field(name, f"one of {', '.join(allowed)}", value)
        return value


Handler = Callable[[World, Call], Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    method: str
    path: str
    """Below /v2: `/instance-pool/{id}:scale`."""
    operation: str
    """The operationId of the official OpenAPI document; policies name it."""
    handler: Handler
    public: bool = False
    """Whether it answers unsigned requests."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of a path: a fixed text, or a parameter with perhaps an action behind a colon."""

    text: str
    is_parameter: bool = False

    def takes(self, part: str) -> bool:
        if not self.is_parameter:
            return part == self.text
        value, _, action = part.partition(":")
        return value != "" and action == self.text


_Pattern = tuple[_Part, ...]


class Router:
    """
    Finds the endpoint of a method and path; fixed texts win over parameters.

    Every path begins with a fixed text, the kind of resource.
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._methods: dict[_Pattern, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            self._methods.setdefault(_pattern_of(endpoint.path), {})[endpoint.method] = endpoint
        self._by_kind: dict[tuple[str, int], list[_Pattern]] = {}
        for pattern in sorted(self._methods, key=lambda parts: [p.is_parameter for p in parts]):
            self._by_kind.setdefault((pattern[0].text, len(pattern)), []).append(pattern)

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        """
        Return the endpoint and the parameters in the path.

        Raises:
            NotFound: No such path.
            NotAllowed: The path has other methods.
        """
        parts = path.removeprefix("/").split("/")
        for pattern in self._by_kind.get((parts[0], len(parts)), ()):
            if all(expected.takes(part) for expected, part in zip(pattern, parts, strict=True)):
                methods = self._methods[pattern]
                if method not in methods:
                    allowed = ", ".join(sorted(methods))
                    raise NotAllowed(f"{method} is not allowed here; use {allowed}")
                return methods[method], _parameters(methods[method].path, parts)
        raise NotFound(f"no such path: {path}")


def _pattern_of(path: str) -> _Pattern:
    parts = []
    for part in path.removeprefix("/").split("/"):
        _, is_parameter, action = part.partition("}")
        parts.append(
            _Part(action.removeprefix(":"), is_parameter=True) if is_parameter else _Part(part)
        )
    return tuple(parts)


def _parameters(template: str, parts: Sequence[str]) -> dict[str, str]:
    return {
        name.partition("}")[0].removeprefix("{"): value.partition(":")[0]
        for name, value in zip(template.removeprefix("/").split("/"), parts, strict=True)
        if name.startswith("{")
    }
