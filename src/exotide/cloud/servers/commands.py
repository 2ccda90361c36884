"""Run a short system command without blocking the event loop."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE

from exotide.cloud.servers.errors import CommandFailed
from exotide.cloud.servers.programs import find


async def run(program: str, *arguments: str, stdin: str = "") -> str:
    """
    Run a program of `programs.SOURCES` to its end and give what it printed.

    Raises:
        MissingProgram: when it is not installed.
        CommandFailed: when it ended with anything but 0; carries its own words.
    """
    process = await asyncio.create_subprocess_exec(
        find(program), *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate(stdin.encode())
    if process.returncode != 0:
        said = err.decode(errors="replace").strip() or f"exit code {process.returncode}"
        shown = " ".join([program, *arguments])
        raise CommandFailed(f"{shown}: {said}")
    return out.decode(errors="replace")
