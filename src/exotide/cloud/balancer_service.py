"""
One service of a load balancer: a HAProxy process and the life of its members.

               first good check          taken off the list
    joining ───────────────────► serving ───────────────────► leaving ──► (gone)
       └──────────────────── taken off the list ────────────────▲  no connection left, or time up

An attentive balancer is told of each change at once. A plain one learns of newcomers one interval
later, and that a member has left by nothing but its failing checks: until then it gets traffic.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud import balancer_config
from exotide.cloud.balancer_config import Line
from exotide.cloud.balancer_process import Haproxy, Place, Wish
from exotide.cloud.balancer_runtime import Row
from exotide.cloud.ports import ServiceSpec
from exotide.cloud.servers.errors import BalancerFailed

log = structlog.get_logger(__name__)

BUSY_LOOK_S: Final = 0.05
"""While a member joins or leaves."""
CALM_LOOK_S: Final = 0.25
RESTART_AFTER_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0


class Stage(StrEnum):
    """Where a member is in its life."""

    JOINING = "joining"
    SERVING = "serving"
    LEAVING = "leaving"


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """One address behind the service."""

    name: str
    ip: str
    stage: Stage = Stage.JOINING
    healthy: bool = False
    checked: bool = False
    """Whether a check of it has ended."""
    unwanted_at_s: float = math.inf
    """When a plain balancer took it off the list, which it does not act upon."""
    cut_at_s: float = 0.0


class Service:
    """One HAProxy with its members; all methods are for one event loop."""

    def __init__(self, spec: ServiceSpec, place: Place) -> None:
        balancer_config.check_service(spec)
        self.spec, self.place = spec, place
        self._plain = place.manner == "plain"
        self._members: list[Member] = []
        self._noticed_at_s: dict[str, float] = {}
        """When each wanted address may join."""
        self._joins = 0
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._haproxy = Haproxy(spec.id[:8], place)
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """HAProxy's process id; None while it does not run."""
        return self._haproxy.pid

    async def start(self) -> None:
        """Start HAProxy; raises BalancerFailed with its words when it does not come up."""
        async with self._lock:
            await self._launch()
        self._watch = asyncio.create_task(self._keep())

    async def adopt(self, pids: Sequence[int]) -> None:
        """
        Take over the HAProxy that a predecessor started; one that is not as it should be hands its
        port over to a fresh one, and one that is gone is started anew.

        Args:
            pids: Processes of the balancer's control group.
        """
        async with self._lock:
            found = await self._haproxy.adopt(pids)
            if found is None:
                await self._launch()
            else:
                text, rows = found
                self._members = self._known(rows)
                self._joins = max((int(member.name[1:]) for member in self._members), default=0)
                if text != self._text(self._haproxy.runtime.socket, ()):
                    await self._launch()
        self._watch = asyncio.create_task(self._keep())

    async def leave(self) -> None:
        """Watch no more; HAProxy serves on."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await self._haproxy.leave()

    async def stop(self) -> None:
        """End HAProxy and its connections."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        async with self._lock:
            await self._haproxy.stop()

    async def change(self, spec: ServiceSpec) -> None:
        """Serve by a new specification; connections live on with the process that has them."""
        balancer_config.check_service(spec)
        async with self._lock:
            if spec == self.spec:
                return
            before, self.spec = self.spec, spec
            try:
                await self._launch()
            except BalancerFailed:
                self.spec = before
                raise

    async def want(self, ips: Sequence[str]) -> None:
        """Bring the members to these addresses; newcomers wait for their first good check."""
        now_s = asyncio.get_running_loop().time()
        lag_s = self.spec.healthcheck.interval_s / self.place.speed if self._plain else 0.0
        async with self._lock:
            known = self._noticed_at_s
            self._noticed_at_s = {ip: known.get(ip, now_s + lag_s) for ip in ips}
            for member in self._present():
                if member.ip in self._noticed_at_s:
                    member.unwanted_at_s = math.inf
                elif self._plain and member.stage is Stage.SERVING:
                    member.unwanted_at_s = min(member.unwanted_at_s, now_s)
                else:
                    await self._leave(member)
            await self._welcome()
        self._wake.set()

    async def wait_drained(self, ip: str, *, within_s: float) -> bool:
        """Wait until an address that left has no connection any more; True when that is so."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while any(member.ip == ip and self._goes(member) for member in self._members):
            if loop.time() > deadline_s:
                return False
            await asyncio.sleep(BUSY_LOOK_S / 2)
        return True

    def health(self) -> dict[str, bool]:
        """
        Give the last known health of every member that is wanted.

        A plain balancer gives what it knows: all that it has checked, wanted or not.
        """
        return {m.ip: m.healthy for m in self._present() if m.checked or not self._plain}

    def _present(self) -> list[Member]:
        return [member for member in self._members if member.stage is not Stage.LEAVING]

    def _goes(self, member: Member) -> bool:
        return member.stage is Stage.LEAVING or member.unwanted_at_s < math.inf

    async def _welcome(self) -> None:
        """Let join who may."""
        now_s = asyncio.get_running_loop().time()
        present = {member.ip for member in self._present()}
        for ip, noticed_at_s in self._noticed_at_s.items():
            if ip not in present and noticed_at_s <= now_s:
                await self._join(ip)

    async def _join(self, ip: str) -> None:
        self._joins += 1
        member = Member(name=f"m{self._joins}", ip=ip)
        self._members.append(member)
        await self._try(self._add(member))

    async def _leave(self, member: Member) -> None:
        member.stage, member.healthy = Stage.LEAVING, False
        member.cut_at_s = asyncio.get_running_loop().time() + self.place.drain_within_s
        await self._try(self._haproxy.runtime.drain(member.name))

    async def _add(self, member: Member) -> None:
        address = f"{member.ip}:{self.spec.target_port}"
        words = balancer_config.check_words(self.spec, self.place.speed, self.place.manner)
        await self._haproxy.runtime.add(member.name, address, words)

    async def _try(self, step: Awaitable[None]) -> None:
        """Do a step that the next look makes good if HAProxy is gone."""
        try:
            await step
        except BalancerFailed as error:
            log.warning("balancer_step_failed", service=self.spec.name, reason=str(error))

    async def _keep(self) -> None:
        """Watch over process and members, until cancelled."""
        pause_s = RESTART_AFTER_S
        while True:
            try:
                async with self._lock:
                    await self._look()
                pause_s = RESTART_AFTER_S
                await self._rest()
            except BalancerFailed as error:
                log.warning("balancer_failed", service=self.spec.name, reason=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _rest(self) -> None:
        busy = any(member.stage is not Stage.SERVING for member in self._members)
        self._wake.clear()
        # In Python 3.11, wait_for forgets a cancellation that comes with the event: stop would wait
        # for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BUSY_LOOK_S if busy else CALM_LOOK_S):
                await self._wake.wait()

    async def _look(self) -> None:
        if self._haproxy.dead:
            log.warning("balancer_restarted", service=self.spec.name)
            await self._launch()
        await self._welcome()
        rows = await self._haproxy.runtime.rows()
        for member in list(self._members):
            await self._step(member, rows.get(member.name))

    async def _step(self, member: Member, row: Row | None) -> None:
        if row is None:
            if member.stage is Stage.LEAVING:
                self._members.remove(member)
            else:  # a step before failed half-way
                member.stage = Stage.JOINING
                await self._add(member)
            return
        member.checked = row.checked
        if member.stage is Stage.LEAVING:
            await self._part(member, row)
        elif member.stage is Stage.SERVING:
            member.healthy = row.up
            await self._notice(member)
        elif row.status.startswith("MAINT"):  # `add` failed half-way
            await self._haproxy.runtime.admit(member.name)
        elif row.good:
            await self._haproxy.runtime.ready(member.name)
            member.stage, member.healthy = Stage.SERVING, True
            log.info("member_joined", service=self.spec.name, ip=member.ip)

    async def _notice(self, member: Member) -> None:
        """Let go of a member that was taken off the list, once its checks fail."""
        late_at_s = member.unwanted_at_s + self.place.drain_within_s
        late = asyncio.get_running_loop().time() >= late_at_s  # its address may be another's now
        if self._goes(member) and (late or not member.healthy):
            await self._leave(member)

    async def _part(self, member: Member, row: Row) -> None:
        late = asyncio.get_running_loop().time() >= member.cut_at_s
        if row.sessions and not late:
            return
        if await self._haproxy.runtime.remove(member.name, cut=late):
            self._members.remove(member)
            log.info("member_left", service=self.spec.name, ip=member.ip, cut=row.sessions)

    async def _launch(self) -> None:
        """Start a process with the serving members."""
        serving = [
            Line(name=member.name, ip=member.ip)
            for member in self._members
            if member.stage is Stage.SERVING
        ]
        wish = Wish(
            name=self.spec.name,
            port=self.place.served_port(self.spec.port),
            text=lambda socket: self._text(socket, serving),
        )
        await self._haproxy.launch(wish)
        self._members = self._present()
        for member in self._members:
            if member.stage is Stage.JOINING:
                await self._add(member)

    def _text(self, socket: Path, members: Sequence[Line]) -> str:
        return balancer_config.render(
            replace(self.spec, port=self.place.served_port(self.spec.port)),
            socket=socket,
            members=members,
            speed=self.place.speed,
            manner=self.place.manner,
        )

    def _known(self, rows: Mapping[str, Row]) -> list[Member]:
        """Read a predecessor's members: who has traffic keeps it, all others leave."""
        cut_at_s = asyncio.get_running_loop().time() + self.place.drain_within_s
        return [
            Member(
                name=name,
                ip=row.ip,
                stage=Stage.SERVING if row.serves else Stage.LEAVING,
                healthy=row.up,
                checked=row.checked,
                cut_at_s=cut_at_s,
            )
            for name, row in rows.items()
        ]
