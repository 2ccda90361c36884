"""What must hold before anything is made that costs money; found out by calls without effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exotide.access.errors import NoAccess
from exotide.access.quota import read_quotas
from exotide.access.rights import BUILDING, GIVING_KEYS, IAM, LOOKING, SCALING, Found, try_rights
from exotide.access.templates import choice, offered
from exotide.stack.api import Api
from exotide.stack.errors import CloudUnavailable, StackError
from exotide.stack.resources import BALANCER, INSTANCE, POOL, listed

from .errors import CannotRun
from .module import Module
from .room import UNKNOWN, Has, Size, fit, unread
from .state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One stack that is about to be made, or changed."""

    api: Api
    module: Module
    known: State

    def opened(self, agents: Api | None) -> Iterator[str]:
        """
        See that the keys may do what they shall, and that the template is there.

        Args:
            agents: With the key that the agents are given. None: they get keys of their own, or
                theirs is not known here.

        Yields:
            What is to be said of it.

        Raises:
            CannotRun: with what is missing, and the next step.
            StackError: The API cannot be asked.
        """
        wanted = (*LOOKING, *BUILDING, *(GIVING_KEYS if self.module.makes_keys else ()))
        try:
            found = try_rights(self.api, wanted)
            _check(found)
            yield found.remark(right.service for right in wanted)
            if agents is not None:
                _check_agents(try_rights(agents, SCALING))
        except NoAccess as error:
            raise CannotRun(f"{error}; nothing was made") from error
        self._check_template()

    def size(self, *, before: int | None, lowered_from: int) -> Size:
        """
        Tell how large the pool may get.

        Args:
            before: The largest size with which the stack was applied last. None: it was not.
            lowered_from: From what that had been lowered for the quota. 0: it had not.

        Raises:
            CannotRun: Not even the smallest stack fits.
        """
        smallest, wanted = self.module.min_size, self.module.max_size
        try:
            quotas, has = read_quotas(self.api), self._has()
        except StackError as error:
            return unread(str(error), max_size=wanted)
        if not wanted:
            fit(quotas, min_size=smallest, max_size=smallest, has=has, stays=False)
            return Size(max_size=wanted, remark=UNKNOWN)
        if has.monitoring and before is not None and wanted == (lowered_from or before):
            return fit(quotas, min_size=smallest, max_size=before, has=has, stays=True)
        return fit(quotas, min_size=smallest, max_size=wanted, has=has, stays=False)

    def _has(self) -> Has:
        """Look what of the state exists: what has gone by other hands uses no quota."""
        ids = self.known.ids
        pools = [each for each in listed(self.api, POOL) if each["id"] in ids]
        return Has(
            members=sum(int(each["size"]) for each in pools),
            monitoring=any(each["id"] in ids for each in listed(self.api, INSTANCE)),
            balancer=any(each["id"] in ids for each in listed(self.api, BALANCER)),
        )

    def _check_template(self) -> None:
        module = self.module
        if not module.template:
            return
        try:
            names = offered(self.api)
        except CloudUnavailable:
            return  # Terraform will look for it, too, before it makes anything
        if module.template not in names.values():
            raise CannotRun(
                f"zone {module.zone} has no template '{module.template}'; nothing was made. Set "
                f"the variable template to one that there is: {choice(names)}"
            )


def _check(found: Found) -> None:
    if not found.missing:
        return
    lines = ["the key may not do what the stack needs; nothing was made", found.table]
    if len(found.of(IAM)) == len(found.missing):
        lines.append(
            "iam is needed to give each agent a key of its own. Use a key whose role allows it, "
            "or give the agents one that may use compute (the same key will do): export "
            "TF_VAR_agents_key and TF_VAR_agents_secret, both"
        )
    else:
        lines.append("use a key whose role allows these (portal: IAM, Roles; then IAM, API keys)")
    raise CannotRun("\n".join(lines))


def _check_agents(found: Found) -> None:
    if found.missing:
        raise CannotRun(
            f"agents_key may not do what the agents need; nothing was made\n{found.table}\n"
            "give them a key whose role allows these, or none, so that the stack makes them keys"
        )
