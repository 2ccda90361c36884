"""Where this host gets Debian packages from: its mirrors and proxies, whatever they are."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import structlog

from exotide.cloud.servers.commands import run
from exotide.cloud.servers.errors import CommandFailed

log = structlog.get_logger(__name__)

OPTIONS_FILE: Final = "etc/apt/apt.conf.d/99mmdebstrap"
"""Where mmdebstrap leaves the options in what it made."""
FORMAT: Final = "$(ORIGIN)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)"
PASSED_ON: Final = (
    *("Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::Check-Valid-Until"),
)
"""Settings by which a host reaches its mirrors: proxies, time-outs, certificates."""


async def mirrors(suite: str) -> tuple[str, ...]:
    """
    Give the host's own sources of a Debian release, one line of sources.list each.

    None when the host has another release or another system; then Debian's own mirror serves.
    """
    found = sources_of(await _targets(), suite)
    if not found:
        found = sources_of(await _fresh_targets(), suite)
    if not found:
        log.info("default_mirror_is_used", reason=f"apt here has no source of Debian {suite}")
    return found


async def options() -> tuple[str, ...]:
    """Give apt's settings that say how to reach mirrors."""
    shown = await run("apt-config", "dump", *PASSED_ON)
    return tuple(line.rstrip(";") for line in shown.splitlines() if not line.endswith('"";'))


def sources_of(targets: str, suite: str) -> tuple[str, ...]:
    """
    Choose a release's sources from what apt reports in FORMAT.

    Debian's own alone: what else the host trusts is no part of a plain Debian.
    """
    wanted = {suite, f"{suite}-updates", f"{suite}-security"}
    rows = [line.split("|") for line in targets.splitlines()]
    return tuple(
        dict.fromkeys(
            f"deb {uri} {release} main"
            for origin, release, component, uri in rows
            if origin == "Debian" and release in wanted and component == "main"
        )
    )


async def _targets(*settings: str) -> str:
    shown = await run(
        *("apt-get", *settings, "indextargets", "--format", FORMAT, "Created-By: Packages")
    )
    return "\n".join(line for line in shown.splitlines() if line.count("|") == FORMAT.count("|"))


async def _fresh_targets() -> str:
    """Read the host's sources where it has thrown their lists away, as images of Debian do."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "partial").mkdir()
        settings = (f"-oDir::State::lists={folder}", "-oAPT::Sandbox::User=root")
        try:
            await run("apt-get", "-q", *settings, "update")
        except CommandFailed as error:
            log.warning("apt_cannot_update", reason=str(error))
            return ""
        return await _targets(*settings)
