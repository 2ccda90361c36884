"""Typed reading of JSON objects: every refusal names the field and what was expected."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from exotide.cloud.api.errors import Invalid

T = TypeVar("T")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Fields:
    """
    A JSON object of a request.

    Each reader answers None if the field is absent or null, and raises Invalid if it is wrong.
    """

    values: Mapping[str, object]
    prefix: str = ""

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def must(self, name: str, value: T | None) -> T:
        """Insist on a field: `fields.must("name", fields.text("name"))`."""
        if value is None:
            raise Invalid(f"{self.prefix}{name}: missing; this field is required")
        return value

    def text(self, name: str, *, least: int = 1, most: int = 255) -> str | None:
        value = self.values.get(name)
        if value is None:
            return None
        wanted = f"a text of {least} to {most} characters"
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise self._wrong(name, wanted, value)
        if _CONTROL.search(value):
            raise self._wrong(name, f"{wanted} without control characters", value)
        return value

    def integer(self, name: str, *, least: int, most: int) -> int | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(name, f"a whole number from {least} to {most}", value)
        return value

    def boolean(self, name: str) -> bool | None:
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(name, "true or false", value)

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in allowed:
            raise self._wrong(name, f"one of {', '.join(sorted(allowed))}", value)
        return value

    def nested(self, name: str) -> Fields | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(name, "an object", value)
        return Fields(value, prefix=f"{self.prefix}{name}.")

    def objects(self, name: str) -> list[Fields] | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(name, "a list of objects", value)
        return [Fields(item, prefix=f"{self.prefix}{name}[{i}].") for i, item in enumerate(value)]

    def uuid(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None:
            return None
        canonical = uuid_of(value)
        if canonical is None:
            raise self._wrong(name, "a UUID", value)
        return canonical

    def uuids(self, name: str) -> list[str] | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self._wrong(name, "a list of UUIDs", value)
        found = [uuid_of(item) for item in value]
        if None in found:
            raise self._wrong(name, "a list of UUIDs", value)
        return [item for item in found if item is not None]

    def texts(self, name: str) -> tuple[str, ...] | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of texts", value)
        return tuple(value)

    def ref(self, name: str) -> str | None:
        """The id of a reference object; clients often send more than the id, which is ignored."""
        inner = self.nested(name)
        return None if inner is None else inner.must("id", inner.uuid("id"))

    def refs(self, name: str) -> list[str] | None:
        inner = self.objects(name)
        if inner is None:
            return None
        return list(dict.fromkeys(item.must("id", item.uuid("id")) for item in inner))

    def labels(self, name: str = "labels") -> dict[str, str] | None:
        inner = self.nested(name)
        if inner is None:
            return None
        if any(not key or len(key) > 255 or _CONTROL.search(key) for key in inner.values):
            raise self._wrong(name, "keys of 1 to 255 characters", list(inner.values))
        return {key: inner.must(key, inner.text(key, least=0)) for key in inner.values}

    def _wrong(self, name: str, expected: str, got: object) -> Invalid:
        return Invalid.field(self.prefix + name, expected, got)


def uuid_of(value: object) -> str | None:
    """Return the canonical spelling, or None if the value is no UUID."""
    if not isinstance(value, str) or len(value) != 36:
        return None
    try:
        return str(UUID(value))
    except ValueError:
        return None
