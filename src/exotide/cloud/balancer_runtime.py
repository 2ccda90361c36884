"""HAProxy's runtime API: one command per connection to its Unix socket."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exotide.cloud.servers.errors import BalancerFailed

ANSWER_WITHIN_S: Final = 5.0
BACKEND: Final = "members"
GOOD: Final = frozenset({"L4OK", "L6OK", "L7OK"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One member as HAProxy sees it."""

    status: str
    """UP, DOWN, DRAIN, MAINT, and variants such as `UP 1/2`."""
    check: str
    """Outcome of the last finished check; empty before the first one."""
    sessions: int
    """Connections that are open now."""
    ip: str = ""

    @property
    def checked(self) -> bool:
        """Whether a check of it has ended."""
        return self.check not in {"", "INI"}

    @property
    def good(self) -> bool:
        """Whether its last check succeeded."""
        return self.check in GOOD

    @property
    def serves(self) -> bool:
        """Whether it has been given traffic, and not been asked to leave since."""
        return not self.status.startswith(("DRAIN", "MAINT"))

    @property
    def up(self) -> bool:
        """Whether it gets traffic."""
        return self.status.startswith("UP")


class Runtime:
    """Commands to one HAProxy process."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    async def ask(self, command: str) -> str:
        """
        Send a command and give the answer.

        Raises:
            BalancerFailed: when HAProxy does not answer; it may be gone.
        """
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._ask(command)
        except (OSError, TimeoutError) as error:
            raise BalancerFailed(f"HAProxy did not answer `{command}`: {error!r}") from error

    async def rows(self) -> dict[str, Row]:
        """Give all members by name."""
        return parse_rows(await self.ask(f"show stat {BACKEND} 4 -1"))

    async def pid(self) -> int:
        """Give the process that answers. Raises BalancerFailed when none does."""
        for line in (await self.ask("show info")).splitlines():
            key, _, value = line.partition(": ")
            if key == "Pid":
                return int(value)
        raise BalancerFailed(f"HAProxy at {self.socket} does not say which process it is")

    async def add(self, name: str, address: str, words: str) -> None:
        """
        Add a member that is checked and gets no traffic yet.

        `enable server` would send it traffic before its first check; draining first does not.
        """
        await self._expect(f"add server {BACKEND}/{name} {address} {words}", "registered")
        await self.admit(name)

    async def admit(self, name: str) -> None:
        """Begin to check a member that was added."""
        await self._expect(f"enable health {BACKEND}/{name}")
        await self._expect(f"set server {BACKEND}/{name} state drain")

    async def ready(self, name: str) -> None:
        """Give the member traffic."""
        await self._expect(f"set server {BACKEND}/{name} state ready")

    async def drain(self, name: str) -> None:
        """Send it no new connection."""
        await self._expect(f"set server {BACKEND}/{name} state drain")

    async def remove(self, name: str, *, cut: bool) -> bool:
        """
        Remove a drained member; False while connections are attached to it.

        Args:
            cut: End these connections.
        """
        await self._expect(f"set server {BACKEND}/{name} state maint")
        if cut:
            await self._expect(f"shutdown sessions server {BACKEND}/{name}")
        answer = await self.ask(f"del server {BACKEND}/{name}")
        return "deleted" in answer or "No such server" in answer

    async def _expect(self, command: str, word: str = "") -> None:
        answer = (await self.ask(command)).strip()
        if word not in answer or (not word and answer):
            raise BalancerFailed(f"HAProxy refused `{command}`: {answer}")

    async def _ask(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        try:
            writer.write(f"{command}\n".encode())
            await writer.drain()
            return (await reader.read()).decode(errors="replace")
        finally:
            writer.close()


def parse_rows(table: str) -> dict[str, Row]:
    """Read the CSV of `show stat`."""
    lines = table.removeprefix("# ").strip().splitlines()
    return {
        line["svname"]: Row(
            status=line["status"],
            # A star marks a check under way, beside the outcome of the one before.
            check=line["check_status"].removeprefix("* "),
            sessions=int(line["scur"] or 0),
            ip=(line.get("addr") or "").rpartition(":")[0],
        )
        for line in csv.DictReader(lines)
    }
