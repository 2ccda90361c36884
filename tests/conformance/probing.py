"""Finds out what each operation does with each documented field, by trying and watching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from exotide.cloud.api.errors import ApiError
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.routing import Call, Endpoint

from .document import OPERATIONS
from .samples import UNKNOWN, Furnished, bodies, body_schema, resolved, values

ZONE: Final = "at-vie-1"
NOT_OFFERED: Final = "the local cloud"
"""Refusals with these words would be none on the real cloud."""


class Use(StrEnum):
    HONOURED = "honoured"
    PARTLY = "honoured in part"
    IGNORED = "ignored"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What becomes of one documented field of a body, or of one parameter of a query."""

    name: str
    """`healthcheck.port` is inside another; `?labels` is of the query."""
    use: Use
    refusals: tuple[str, ...] = ()
    """What the API said to those documented values that it refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one request came to."""

    read: bool
    """Whether the field in question was looked at."""
    refusal: str
    """Empty if the request was accepted."""
    names_it: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """A value inside an object; what is around it matters where the request has no such object."""

    around: Mapping[str, Any]
    value: Any


class Recorded(dict[str, object]):
    """A JSON object that notes which of its fields are looked at."""

    def __init__(self, content: Mapping[str, Any], reads: set[str], prefix: str = "") -> None:
        super().__init__(
            {name: recorded(value, reads, f"{prefix}{name}.") for name, value in content.items()}
        )
        self._reads, self._prefix = reads, prefix

    def get(self, name: str, default: Any = None) -> Any:
        self._note(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> object:
        self._note(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        self._note(*super().keys())
        return super().__iter__()

    def _note(self, *names: str) -> None:
        self._reads.update(self._prefix + name for name in names)


def recorded(value: Any, reads: set[str], prefix: str) -> Any:
    """Wrap every object inside a JSON value."""
    if isinstance(value, dict):
        return Recorded(value, reads, prefix)
    if isinstance(value, list):
        return [recorded(each, reads, prefix) for each in value]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _WatchedCall(Call):
    reads: set[str] = field(default_factory=set)

    def argument(self, name: str) -> str | None:
        self.reads.add(f"?{name}")
        return Call.argument(self, name)


class Prober:
    """Carries out requests, each on a cloud as good as new."""

    def __init__(self) -> None:
        self._furnished: Furnished | None = None

    def close(self) -> None:
        if self._furnished is not None:
            self._furnished.close()
            self._furnished = None

    def findings(self, endpoint: Endpoint) -> list[Finding]:
        """Try every documented value of every documented field and parameter."""
        if not self.is_there(endpoint):
            return []
        bases = self._bases(endpoint)
        found = []
        for name, tries in _tries(endpoint.operation, self._cloud().known):
            outcomes = [[self._try(endpoint, base, name, each) for base in bases] for each in tries]
            found.append(_finding(name, outcomes))
        return found

    def refusal(self, endpoint: Endpoint) -> str:
        """Say why an operation exists but never works; empty if it does."""
        said = self._try(endpoint, self._bases(endpoint)[0], "", None).refusal
        return said if NOT_OFFERED in said else ""

    def is_there(self, endpoint: Endpoint) -> bool:
        """Whether anything exists that the operation may be about, or be made by it."""
        parameters = self._cloud().parameters(endpoint).values()
        return UNKNOWN not in parameters and not self.refusal(endpoint)

    def _bases(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        bases = bodies(endpoint.operation, self._cloud().known)
        is_create = endpoint.method == "POST"
        return [
            {**base, "name": "another-name"} if is_create and "name" in base else base
            for base in bases or [{}]
        ]

    def _cloud(self) -> Furnished:
        if self._furnished is None:
            self._furnished = Furnished()
        return self._furnished

    def _try(self, endpoint: Endpoint, base: Mapping[str, Any], name: str, value: Any) -> Outcome:
        cloud, reads = self._cloud(), set[str]()
        is_query = name.startswith("?")
        content = dict(base) if is_query or not name else _with(base, name, value)
        call = _WatchedCall(
            zone=ZONE,
            endpoint_of=lambda zone: f"http://cloud.test/z/{zone}/v2",
            body=Fields(Recorded(content, reads)),
            query=[(name[1:], str(value))] if is_query else [],
            path=cloud.parameters(endpoint),
            reads=reads,
        )
        refusal = cloud.local.run(lambda: _refusal(endpoint, cloud, call))
        if endpoint.method != "GET" and not refusal:
            self.close()
        read = name in reads or any(each.startswith(f"{name}.") for each in reads)
        return Outcome(read=read, refusal=refusal, names_it=refusal.startswith(name.lstrip("?")))


def _refusal(endpoint: Endpoint, cloud: Furnished, call: Call) -> str:
    try:
        endpoint.handler(cloud.local.world, call)
    except ApiError as error:
        return str(error)
    return ""


def _with(base: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    outer, _, inner = name.partition(".")
    if not inner:
        return {**base, name: value}
    return {**base, outer: {**base.get(outer, value.around), inner: value.value}}


def _tries(operation: str, known: Mapping[str, list[str]]) -> Iterable[tuple[str, list[Any]]]:
    schema = body_schema(operation) or {}
    for name, each in schema.get("properties", {}).items():
        whole = values(name, each, known)
        yield name, whole
        inner = resolved(each).get("properties", {})
        if "id" not in inner and name != "ssh-key":
            for part, deeper in inner.items():
                yield f"{name}.{part}", [_Part(whole[0], v) for v in values(part, deeper, known)]
    for parameter in OPERATIONS[operation].definition.get("parameters", ()):
        if parameter["in"] == "query":
            yield f"?{parameter['name']}", values(parameter["name"], parameter["schema"], known)


def _finding(name: str, outcomes: Sequence[Sequence[Outcome]]) -> Finding:
    """By value, then by kind of request: a value counts as refused if no kind takes it."""
    refusals = [
        kinds[0].refusal for kinds in outcomes if all(o.refusal and o.names_it for o in kinds)
    ]
    if len(refusals) == len(outcomes) and all(NOT_OFFERED in each for each in refusals):
        use = Use.REFUSED
    elif 0 < len(refusals) < len(outcomes):
        use = Use.PARTLY
    else:
        read = any(each.read for kinds in outcomes for each in kinds)
        use = Use.HONOURED if read else Use.IGNORED
    shown = refusals if use in {Use.REFUSED, Use.PARTLY} else ()
    return Finding(name=name, use=use, refusals=tuple(dict.fromkeys(shown)))
