"""What Exoscale offers: zones, instance types, templates, limits. Facts, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

ZONES: Final = (
    "at-vie-1",
    "at-vie-2",
    "bg-sof-1",
    "ch-dk-2",
    "ch-gva-2",
    "de-fra-1",
    "de-muc-1",
    "hr-zag-1",
)
DEFAULT_ZONE: Final = "at-vie-1"

QUOTAS: Final[Mapping[str, int]] = {
    "instance": 20,
    "network-load-balancer": 5,
    "elastic-ip": 5,
    "private-network": 32,
    "template": 30,
    "snapshot": 30,
}
"""How many an organisation may have of each, as a new one starts with."""

SERVICES_PER_BALANCER: Final = 10
INSTANCES_PER_ANTI_AFFINITY_GROUP: Final = 8

_NAMESPACE: Final = UUID("5f0e7c3e-6a4c-4f0a-9d2b-0e3c1d9a7b11")
ORGANISATION_ID: Final = str(uuid5(_NAMESPACE, "organization"))

_MOST_DISK_GIB: Final[Mapping[str, int]] = (
    {"micro": 200}
    | dict.fromkeys(("tiny", "small", "medium", "large"), 400)
    | dict.fromkeys(("extra-large", "huge", "mega"), 800)
)
_MIB: Final = 1024**2
_GIB: Final = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    family: str
    size: str
    cpus: int
    memory_bytes: int

    @property
    def id(self) -> str:
        return str(uuid5(_NAMESPACE, f"instance-type/{self.family}.{self.size}"))

    @property
    def most_disk_gib(self) -> int:
        """Largest local disk."""
        return _MOST_DISK_GIB.get(self.size, 51_200)

    def view(self) -> dict[str, object]:
        """Return the type as the API shows it."""
        return {
            "id": self.id,
            "family": self.family,
            "size": self.size,
            "cpus": self.cpus,
            "memory": self.memory_bytes,
            "authorized": True,
            "zones": list(ZONES),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    id: str
    zone: str
    name: str
    family: str
    version: str
    created_at: str
    default_user: str
    disk_bytes: int

    def view(self) -> dict[str, object]:
        """Return the template as the API shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "family": self.family,
            "version": self.version,
            "build": self.created_at[:10],
            "visibility": "public",
            "created-at": self.created_at,
            "default-user": self.default_user,
            "size": self.disk_bytes,
            "boot-mode": "legacy",
            "ssh-key-enabled": True,
            "password-enabled": True,
            "checksum": self.id.replace("-", ""),
            "maintainer": "exotide",
            "description": self.name,
            "zones": [self.zone],
        }


def _standard(size: str, cpus: int, memory_bytes: int) -> InstanceType:
    return InstanceType(family="standard", size=size, cpus=cpus, memory_bytes=memory_bytes)


_ALL_TYPES: Final = (
    _standard("micro", 1, 512 * _MIB),
    _standard("tiny", 1, 1 * _GIB),
    _standard("small", 2, 2 * _GIB),
    _standard("medium", 2, 4 * _GIB),
    _standard("large", 4, 8 * _GIB),
    _standard("extra-large", 4, 16 * _GIB),
    _standard("huge", 8, 32 * _GIB),
    _standard("mega", 12, 64 * _GIB),
    _standard("titan", 16, 128 * _GIB),
    _standard("jumbo", 24, 225 * _GIB),
    _standard("colossus", 40, 320 * _GIB),
    InstanceType(family="cpu", size="extra-large", cpus=8, memory_bytes=16 * _GIB),
    InstanceType(family="memory", size="extra-large", cpus=4, memory_bytes=32 * _GIB),
)

INSTANCE_TYPES: Final[Mapping[str, InstanceType]] = {kind.id: kind for kind in _ALL_TYPES}
"""By id. The ids are stable from one local cloud to the next, but are not Exoscale's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Release:
    """The current build of an operating system; `exo` refuses a name that is listed twice."""

    name: str
    version: str
    built: str
    default_user: str

    def of(self, zone: str) -> Template:
        return Template(
            id=str(uuid5(_NAMESPACE, f"template/{zone}/{self.name}/{self.built}")),
            zone=zone,
            name=self.name,
            family=f"linux {self.default_user}",
            version=self.version,
            created_at=f"{self.built}T00:00:00Z",
            default_user=self.default_user,
            disk_bytes=10 * _GIB,
        )


def _debian(version: str, nick: str, built: str) -> _Release:
    name = f"Linux Debian {version} ({nick}) 64-bit"
    return _Release(name=name, version=version, built=built, default_user="debian")


def _ubuntu(version: str, built: str) -> _Release:
    name = f"Linux Ubuntu {version} LTS 64-bit"
    return _Release(name=name, version=version, built=built, default_user="ubuntu")


_RELEASES: Final = (
    _debian("12", "Bookworm", "2026-06-01"),
    _debian("13", "Trixie", "2026-05-18"),
    _ubuntu("22.04", "2026-04-20"),
    _ubuntu("24.04", "2026-05-04"),
)

TEMPLATES: Final[Mapping[str, Template]] = {
    template.id: template for zone in ZONES for template in (each.of(zone) for each in _RELEASES)
}
"""By id; a template exists in one zone."""
