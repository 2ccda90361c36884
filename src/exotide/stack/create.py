"""Creating a stack: each resource is looked for by name and made only if it is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .agents import Agents, require_right
from .api import Api, Json, connect
from .errors import NotFound, OperationFailed
from .model import Action, Progress, Stack, Step, silent
from .resources import (
    BALANCER,
    INSTANCE,
    POOL,
    POOL_LABEL,
    SECURITY_GROUP,
    STACK_LABEL,
    Kind,
    await_ready,
    find,
    get,
    remove,
)
from .rules import Rule, member_rules, monitoring_rules
from .settings import StackSettings
from .userdata import APP_PORT, ServerText, StackText
from .waiting import Patience

SERVICE_NAME: Final = "http"
HEALTHCHECK: Final = {
    "mode": "http",
    "port": APP_PORT,
    "uri": "/health",
    "interval": 5,
    "timeout": 3,
    "retries": 2,
}


def create(
    settings: StackSettings,
    *,
    progress: Progress = silent,
    patience: Patience | None = None,
    text: StackText | None = None,
) -> Stack:
    """
    Bring the stack into being and give it back; does nothing for what exists already.

    Interrupted at any point, it goes on from there when called again. It returns when the cloud
    reports every resource as running; the programs on them may need longer: see `probes`.

    Args:
        text: Writes the servers' user-data. None: what servers of the local cloud need.

    Raises:
        StackError: and below it, what went wrong; nothing is rolled back.
    """
    with connect(settings, patience) as api:
        return build(api, settings, progress=progress, text=text)


def build(
    api: Api, settings: StackSettings, *, progress: Progress, text: StackText | None = None
) -> Stack:
    """Create with a given client."""
    builder = _Builder(
        api=api, settings=settings, progress=progress, text=text or ServerText(settings=settings)
    )
    parts = builder.parts()
    require_right(api, settings)
    monitoring_group = builder.group(settings.monitoring_name)
    members_group = builder.group(settings.members_name)
    builder.rules(monitoring_group, monitoring_rules(settings))
    builder.rules(members_group, member_rules(monitoring_group_id=monitoring_group["id"]))
    pool = builder.pool(parts, group_id=members_group["id"])
    balancer = builder.balancer()
    service_id = builder.service(balancer, pool_id=pool["id"])
    agents = Agents(api=api, settings=settings, pool_id=pool["id"], progress=progress)
    agents.make_roles()
    monitoring = builder.monitoring(parts, agents, group_id=monitoring_group["id"])
    return Stack(
        name=settings.name,
        zone=settings.zone,
        members_group_id=members_group["id"],
        monitoring_group_id=monitoring_group["id"],
        pool_id=pool["id"],
        pool_name=pool["name"],
        nlb_id=balancer["id"],
        nlb_ip=balancer["ip"],
        service_id=service_id,
        monitoring_id=monitoring["id"],
        monitoring_ip=monitoring["public-ip"],
        http_port=settings.http_port,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Ids of what the zone offers, looked up before anything is made."""

    template_id: str
    member_type_id: str
    monitoring_type_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Builder:
    api: Api
    settings: StackSettings
    progress: Progress
    text: StackText

    def parts(self) -> _Parts:
        types = {
            f"{item['family']}.{item['size']}": item["id"]
            for item in self.api.call("list_instance_types")["instance-types"]
        }
        return _Parts(
            template_id=_template_id(self.api, self.settings),
            member_type_id=_type_id(types, self.settings.member_type),
            monitoring_type_id=_type_id(types, self.settings.monitoring_type),
        )

    def group(self, name: str) -> Json:
        if found := find(self.api, SECURITY_GROUP, name):
            self._tell(Action.FOUND, SECURITY_GROUP.label, found)
            return found
        self.api.change("create_security_group", name=name, description="made by exotide")
        return self._made(SECURITY_GROUP, name)

    def rules(self, group: Json, rules: tuple[Rule, ...]) -> None:
        for rule in rules:
            if not any(rule.allows_like(shown) for shown in group.get("rules", [])):
                self.api.change("add_rule_to_security_group", id=group["id"], **rule.arguments())

    def pool(self, parts: _Parts, *, group_id: str) -> Json:
        name = self.settings.name
        found = find(self.api, POOL, name)
        if found is None:
            self.api.change(
                "create_instance_pool",
                name=name,
                description="made by exotide; the autoscaler owns the size",
                size=self.settings.min_size,
                instance_prefix=name,
                user_data=self.text.member(),
                **self._server(parts.member_type_id, parts, group_id),
                labels={"role": "member", STACK_LABEL: name},
            )
            found = self._made(POOL, name)
        else:
            self._tell(Action.FOUND, POOL.label, found)
        return await_ready(self.api, POOL, found["id"])

    def balancer(self) -> Json:
        name = self.settings.name
        found = find(self.api, BALANCER, name)
        if found is None:
            self.api.change("create_load_balancer", name=name, description="made by exotide")
            found = self._made(BALANCER, name)
        else:
            self._tell(Action.FOUND, BALANCER.label, found)
        return await_ready(self.api, BALANCER, found["id"])

    def service(self, balancer: Json, *, pool_id: str) -> str:
        """Make the one service; one that feeds a pool of the past is replaced."""
        action = Action.CREATED
        for service in _services(balancer):
            if service["instance-pool"]["id"] == pool_id:
                self._tell(Action.FOUND, "service", service)
                return str(service["id"])
            self._drop_service(balancer["id"], service["id"])
            action = Action.REPLACED
        self.api.change(
            "add_service_to_load_balancer",
            id=balancer["id"],
            name=SERVICE_NAME,
            instance_pool={"id": pool_id},
            protocol="tcp",
            strategy="round-robin",
            port=80,
            target_port=APP_PORT,
            healthcheck=HEALTHCHECK,
        )
        made = _services(get(self.api, BALANCER, balancer["id"]))[0]
        self._tell(action, "service", made)
        return str(made["id"])

    def monitoring(self, parts: _Parts, agents: Agents, *, group_id: str) -> Json:
        """Make the monitoring server; one of a pool of the past or without keys is replaced."""
        name, action = self.settings.monitoring_name, Action.CREATED
        found = find(self.api, INSTANCE, name)
        if found is not None and not self._is_of_use(found, agents):
            remove(self.api, INSTANCE, found["id"])
            found, action = None, Action.REPLACED
        if found is None:
            keys = agents.make_keys()
            self.api.change(
                "create_instance",
                name=name,
                user_data=self.text.monitoring(pool_id=agents.pool_id, keys=keys),
                **self._server(parts.monitoring_type_id, parts, group_id),
                labels={
                    "role": "monitoring",
                    STACK_LABEL: self.settings.name,
                    POOL_LABEL: agents.pool_id,
                    **agents.labels,
                },
            )
            found = self._made(INSTANCE, name, action=action)
        else:
            self._tell(Action.FOUND, INSTANCE.label, found)
        return await_ready(self.api, INSTANCE, found["id"])

    def _is_of_use(self, server: Json, agents: Agents) -> bool:
        return server.get("labels", {}).get(POOL_LABEL) == agents.pool_id and agents.suit(server)

    def _server(self, type_id: str, parts: _Parts, group_id: str) -> Json:
        return {
            "instance_type": {"id": type_id},
            "template": {"id": parts.template_id},
            "disk_size": self.settings.disk_gib,
            "security_groups": [{"id": group_id}],
        }

    def _drop_service(self, balancer_id: str, service_id: str) -> None:
        self.api.change("delete_load_balancer_service", id=balancer_id, service_id=service_id)

    def _made(self, kind: Kind, name: str, *, action: Action = Action.CREATED) -> Json:
        made = find(self.api, kind, name)
        if made is None:
            raise OperationFailed(f"{kind.label} {name} was made, but is not there; try again")
        self._tell(action, kind.label, made)
        return made

    def _tell(self, action: Action, kind: str, resource: Json) -> None:
        self.progress(Step(action=action, kind=kind, name=resource["name"], id=resource["id"]))


def _services(balancer: Json) -> list[Json]:
    """The contract allows exactly one service, so every one found is ours to judge."""
    return [item for item in balancer.get("services", []) if item.get("state") != "deleting"]


def _template_id(api: Api, settings: StackSettings) -> str:
    known: list[str] = []
    for visibility in ("public", "private"):
        templates = api.call("list_templates", visibility=visibility).get("templates", [])
        named = [item for item in templates if item["name"] == settings.template]
        if named:
            return str(max(named, key=lambda item: item["created-at"])["id"])
        known += [item["name"] for item in templates]
    raise NotFound(
        f"zone {settings.zone} has no template of this name, got: {settings.template!r}; "
        f"{_offer(known)}"
    )


def _type_id(types: dict[str, str], name: str) -> str:
    if name in types:
        return types[name]
    raise NotFound(f"there is no instance type of this name, got: {name!r}; {_offer([*types])}")


def _offer(names: list[str], *, most: int = 8) -> str:
    more = ", …" if len(names) > most else ""
    return f"there are: {', '.join(sorted(names)[:most]) or 'none'}{more}"
