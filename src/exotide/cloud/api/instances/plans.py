"""Reading what an instance or a pool's members shall be: the fields that both creates share."""

from __future__ import annotations

import binascii
import zlib
from base64 import b64decode
from collections.abc import Container
from dataclasses import replace
from typing import Final

from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES, InstanceType, Template
from exotide.cloud.api.errors import Invalid
from exotide.cloud.api.fields import Fields
from exotide.cloud.api.instances.model import Plan
from exotide.cloud.api.world import World

_NOT_OFFERED: Final = ("elastic-ips", "private-networks")
_NEVER_ON: Final = (
    "ipv6-enabled",
    "tpm-enabled",
    "secureboot-enabled",
    "application-consistent-snapshot-enabled",
)
_MOST_BOOT_DATA: Final = 1024 * 1024
_GZIP: Final = b"\x1f\x8b"
_WITH_GZIP_HEADER: Final = 16 + zlib.MAX_WBITS


def read_plan(world: World, zone: str, body: Fields) -> Plan:
    """Read the plan of a create; type, template and disk are required."""
    kind = body.must("instance-type", read_type(body))
    template = body.must("template", read_template(zone, body))
    disk = body.must("disk-size", read_disk(body, kind))
    return changed_plan(
        world, zone, body, Plan(instance_type=kind, template=template, disk_gib=disk)
    )


def changed_plan(world: World, zone: str, body: Fields, plan: Plan) -> Plan:
    """Read an update: absent or null leaves a field as it is, an empty list clears it."""
    refuse_what_is_not_offered(body)
    kind = read_type(body) or plan.instance_type
    disk_gib = read_disk(body, kind) or plan.disk_gib
    require_disk_fits(kind, disk_gib)
    groups = _known(body, "security-groups", world.security_groups)
    apart = _known(body, "anti-affinity-groups", world.anti_affinity_groups)
    keys = _keys(world, body)
    labels = body.labels()
    plan = replace(
        plan,
        instance_type=kind,
        template=read_template(zone, body) or plan.template,
        disk_gib=disk_gib,
        labels=plan.labels if labels is None else labels,
        security_groups=plan.security_groups if groups is None else groups,
        anti_affinity_groups=plan.anti_affinity_groups if apart is None else apart,
        ssh_keys=plan.ssh_keys if keys is None else keys,
    )
    return read_user_data(body, plan)


def read_user_data(body: Fields, plan: Plan) -> Plan:
    """Put the user-data of a request, if there is any, into a plan."""
    user_data = body.text("user-data", most=32_768)
    if user_data is None:
        return plan
    return replace(plan, user_data=user_data, boot_data=decode_user_data(user_data))


def decode_user_data(sent: str) -> bytes:
    """
    Return what a server finds: base64 undone, and gzip if there is any.

    Raises:
        Invalid: It is no base64, or unpacks to nonsense or to more than 1 MiB.
    """
    try:
        raw = b64decode(sent, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid.field("user-data", "base64", sent) from error
    if not raw.startswith(_GZIP):
        return raw
    unzip = zlib.decompressobj(_WITH_GZIP_HEADER)
    try:
        plain = unzip.decompress(raw, _MOST_BOOT_DATA)
    except zlib.error as error:
        raise Invalid.field("user-data", "valid gzip behind its gzip header", sent) from error
    if not unzip.eof:
        raise Invalid.field("user-data", "complete gzip of at most 1 MiB", sent)
    return plain


def read_type(body: Fields) -> InstanceType | None:
    """Read the reference to an instance type."""
    key = body.ref("instance-type")
    if key is None:
        return None
    if key not in INSTANCE_TYPES:
        raise Invalid.field("instance-type.id", "an id that GET /instance-type lists", key)
    return INSTANCE_TYPES[key]


def read_template(zone: str, body: Fields) -> Template | None:
    """Read the reference to a template, which must be of this zone."""
    key = body.ref("template")
    if key is None:
        return None
    if key not in TEMPLATES or TEMPLATES[key].zone != zone:
        raise Invalid.field("template.id", f"a template of zone {zone}", key)
    return TEMPLATES[key]


def read_disk(body: Fields, kind: InstanceType | None, *, least_gib: int = 10) -> int | None:
    """Read the size of a disk, in GiB, as the type allows."""
    most = 51_200 if kind is None else kind.most_disk_gib
    return body.integer("disk-size", least=least_gib, most=most)


def require_disk_fits(kind: InstanceType, disk_gib: int) -> None:
    """
    Check that a disk is not too large for a type that it was not ordered with.

    Raises:
        Invalid: It is.
    """
    if disk_gib > kind.most_disk_gib:
        wanted = f"a type that may have a disk of {disk_gib} GiB"
        raise Invalid.field("instance-type.id", wanted, f"{kind.family}.{kind.size}")


def _known(body: Fields, name: str, known: Container[str]) -> tuple[str, ...] | None:
    keys = body.refs(name)
    if keys is None:
        return None
    for key in keys:
        if key not in known:
            raise Invalid.field(name, f"existing {name.replace('-', ' ')}", key)
    return tuple(keys)


def _keys(world: World, body: Fields) -> tuple[str, ...] | None:
    """An `ssh-key` with no or an empty name means none: clients send both."""
    single, several = body.nested("ssh-key"), body.objects("ssh-keys")
    if several is not None:
        names = [item.must("name", item.text("name")) for item in several]
    elif single is not None:
        name = single.text("name", least=0)
        names = [name] if name else []
    else:
        return None
    for name in names:
        if name not in world.ssh_keys:
            raise Invalid.field("ssh-key.name", "a registered SSH key", name)
    return tuple(dict.fromkeys(names))


def refuse_what_is_not_offered(body: Fields) -> None:
    """
    Better a clear refusal than a setting that silently has no effect.

    Raises:
        Invalid: Something is switched on that the local cloud does not have.
    """
    for name in _NOT_OFFERED:
        if body.refs(name):
            raise Invalid.field(name, "none: the local cloud does not offer them", body.refs(name))
    if body.has("deploy-target"):
        raise Invalid("deploy-target: expected none: the local cloud does not offer them")
    for name in _NEVER_ON:
        if body.boolean(name):
            raise Invalid.field(name, "false: the local cloud does not offer it", got=True)
    body.choice("public-ip-assignment", ("inet4",))
