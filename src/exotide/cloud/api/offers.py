"""What can be ordered: instance types and templates."""

from __future__ import annotations

from exotide.cloud.api.catalogue import INSTANCE_TYPES, TEMPLATES
from exotide.cloud.api.errors import NotFound
from exotide.cloud.api.routing import Call, Endpoint
from exotide.cloud.api.world import World


def list_instance_types(_world: World, _call: Call) -> dict[str, object]:
    """List all instance types; no signature is needed, as for the zones."""
    return {"instance-types": [kind.view() for kind in INSTANCE_TYPES.values()]}


def get_instance_type(_: World, call: Call) -> dict[str, object]:
    """Show one instance type."""
    kind = INSTANCE_TYPES.get(call.path["id"])
    if kind is None:
        raise NotFound.of("instance type", call.path["id"])
    return kind.view()


def list_templates(_: World, call: Call) -> dict[str, object]:
    """List the public templates of a zone; there are no private ones."""
    visibility = call.choice("visibility", ("public", "private"), "public")
    family = call.argument("family")
    return {
        "templates": [
            template.view()
            for template in TEMPLATES.values()
            if template.zone == call.zone
            and visibility == "public"
            and family in {None, template.family}
        ]
    }


def get_template(_: World, call: Call) -> dict[str, object]:
    """Show one template."""
    template = TEMPLATES.get(call.path["id"])
    if template is None or template.zone != call.zone:
        raise NotFound.of("template", call.path["id"])
    return template.view()


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/instance-type",
        operation="list-instance-types",
        handler=list_instance_types,
        public=True,
    ),
    Endpoint(
        method="GET",
        path="/instance-type/{id}",
        operation="get-instance-type",
        handler=get_instance_type,
    ),
    Endpoint(method="GET", path="/template", operation="list-templates", handler=list_templates),
    Endpoint(method="GET", path="/template/{id}", operation="get-template", handler=get_template),
)
