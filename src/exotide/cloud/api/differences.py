"""
Where this API differs from the real one, or decides what the real one leaves open; as data.

docs/reference/local-cloud.md is made from it. Whoever changes a rule changes its sentence here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exotide.cloud.api.catalogue import INSTANCES_PER_ANTI_AFFINITY_GROUP, SERVICES_PER_BALANCER
from exotide.cloud.api.operations import KEPT

EVERYWHERE: Final = (
    "Ids of instance types and templates are the same in every local cloud, but not Exoscale's.",
    "Messages of refusals are ours, but for those of protected instances.",
    "Status codes: 400 validation, 403 signature or policy, 404 unknown here or in another zone.",
    "Status codes: 409 busy, in use or name taken, 412 quota.",
    "A query parameter that has a value and is not signed is refused with 403.",
    "A signature holds until its expiry, however far off that is: only slow clocks are refused.",
    "There is no rate limit, unless faults on demand make one.",
    "Fields that the document does not have are ignored.",
    "Metadata (169.254.169.254): instance-id and vm-id are the same; there is no password.",
    "Only IPv4: instances and load balancers have one public address, and no IPv6.",
)
"""True of all operations."""

_BUSY: Final = "A resource that is not `running` is refused with 409; the real cloud may wait."
_PROTECTED: Final = "If one of those that would go is protected: 403, and nobody leaves."
_ONCE_MORE: Final = "What is so already is no error."
_BELOW: Final = "A size below `min-available` is refused with 400."

BY_OPERATION: Final[Mapping[str, tuple[str, ...]]] = {
    "get-operation": (
        f"The last {KEPT:,} operations stay readable.",
        "Reasons of failures: busy, conflict, fault, interrupted, partial, unknown.",
    ),
    "create-instance-pool": (
        "A pool of which a member does not boot is removed again, and the operation fails.",
        f"At most {INSTANCES_PER_ANTI_AFFINITY_GROUP} members fit into an anti-affinity group.",
    ),
    "create-anti-affinity-group": (
        "There is one host here: a group limits how many are in it, and keeps nobody apart.",
    ),
    "get-instance-pool": (
        "There are as many members as the size says, unless faults on demand decide otherwise.",
        "States are those of the document, unless a fault says another word.",
        "Newer clients of the real API also know the state `degraded`.",
    ),
    "scale-instance-pool": (
        "The oldest members leave first.",
        "A member that has not come is dropped first, and asked for again by the same size.",
        "0 is allowed: the pool then shows size 0, which the document does not foresee.",
        "Members that boot stay when others of the same change do not: the reason is `partial`.",
        _BELOW,
        _PROTECTED,
        _BUSY,
    ),
    "evict-instance-pool-members": (
        "An id that is no member is refused with 400, and nobody leaves.",
        _BELOW,
        _PROTECTED,
        _BUSY,
    ),
    "update-instance-pool": (_BUSY,),
    "delete-instance": (
        "A protected one is refused with 403, in the real cloud's words.",
        "A pool replaces a member that is deleted or whose server dies in one step and at once.",
        "A replacement that does not boot is tried again after 1 s, later after up to 30 s.",
    ),
    "add-rule-to-security-group": (
        "The operation succeeds when every server concerned filters by the rule.",
        "Without a rule nothing reaches a server; it reaches all until an egress rule exists.",
        "A server always reaches 169.254.169.254, and answers to what was let in always leave.",
        "`public-nlb-healthcheck-sources` is the addresses of all load balancers of the cloud.",
        "Clients of a load balancer come from its address, too, not from their own.",
        "Servers have IPv4 only: rules for IPv6 networks and icmpv6 are kept and match nothing.",
    ),
    "get-instance": ("A default security group that was not asked for is not reported.",),
    "delete-instance-pool": ("While a service sends to the pool: 409.", _PROTECTED),
    "create-instance": (
        "A server's host name is made of the letters, digits, dots and hyphens of its name.",
    ),
    "update-instance": ("The server sees new labels and user-data when it is started next.",),
    "scale-instance": (
        "The disk must fit the new type, and the family stays.",
        "The same type again is no error.",
    ),
    "resize-instance-disk": ("The same size again is no error.",),
    "reset-instance": (
        "One that runs is stopped and booted; one that is stopped stays so.",
        "The disk may become smaller, since it is empty after.",
    ),
    "update-reverse-dns-instance": ("The name is kept, and nothing here resolves it.",),
    "attach-instance-to-security-group": (_ONCE_MORE,),
    "detach-instance-from-security-group": ("An instance that is not in the group: 400.",),
    "add-external-source-to-security-group": (_ONCE_MORE,),
    "remove-external-source-from-security-group": ("A network that is no source: 400.",),
    "add-service-to-load-balancer": (
        f"At most {SERVICES_PER_BALANCER} services per load balancer.",
        "A member that leaves is drained, unless with `--balancer plain`; the real one may not.",
        "A check in mode https connects and does not verify the certificate.",
        "A service of protocol udp fails where servers are real: HAProxy serves tcp alone.",
    ),
}
"""By operationId."""
