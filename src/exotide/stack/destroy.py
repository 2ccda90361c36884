"""Removing a stack down to nothing, whatever state it is in."""

from __future__ import annotations

from .api import Api, connect
from .errors import LeftOver, NotFound, OperationFailed, Refused, TookTooLong
from .model import Action, Progress, Step, silent
from .resources import BALANCER, Resource, get, inventory, remove
from .settings import StackSettings
from .waiting import Patience


def destroy(
    settings: StackSettings, *, progress: Progress = silent, patience: Patience | None = None
) -> None:
    """
    Remove everything that bears the stack's names; what is gone already is fine.

    One resource that resists does not keep the others from being removed.

    Raises:
        LeftOver: with what could not be removed, and why.
        AccessDenied, CloudUnavailable, Interrupted: at once; destroy again goes on.
    """
    with connect(settings, patience) as api:
        tear_down(api, settings, progress=progress)


def tear_down(api: Api, settings: StackSettings, *, progress: Progress) -> None:
    """Destroy with a given client."""
    reasons = []
    for resource in inventory(api, settings):
        try:
            remove_whole(api, resource)
        except (Refused, OperationFailed, TookTooLong) as error:
            reasons.append(str(error))
        else:
            progress(_step(resource))
    if left := inventory(api, settings):
        raise LeftOver(tuple(map(str, left)), tuple(reasons))


def leftovers(settings: StackSettings) -> tuple[str, ...]:
    """Name everything of the stack that exists, for a person to read."""
    with connect(settings) as api:
        return tuple(map(str, inventory(api, settings)))


def remove_whole(api: Api, resource: Resource) -> None:
    """Remove a resource, a balancer with its services; what is gone already is fine."""
    if resource.kind is BALANCER:
        _remove_services(api, resource.id)
    remove(api, resource.kind, resource.id)


def _remove_services(api: Api, balancer_id: str) -> None:
    """Let go of the pool first: a balancer that is being deleted may still hold it."""
    try:
        for service in get(api, BALANCER, balancer_id).get("services", []):
            api.change("delete_load_balancer_service", id=balancer_id, service_id=service["id"])
    except NotFound:
        return


def _step(resource: Resource) -> Step:
    return Step(action=Action.REMOVED, kind=resource.kind.label, name=resource.name, id=resource.id)
