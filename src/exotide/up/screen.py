"""What one sees: a line that lives on a terminal, a line a minute elsewhere; all of it in a log."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .text import moment

LOG: Final = "up.log"
PLAIN_PERIOD_S: Final = 60.0


class Screen(Protocol):
    """Adapters: Paper, and a list in the tests."""

    def say(self, text: str, *, loud: bool = False) -> None:
        """Tell something for good."""

    def show(self, line: str) -> None:
        """Tell how it is at this moment."""

    def hold(self) -> None:
        """Be silent: a question is open."""

    def release(self) -> None:
        """Tell what was held back."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Paper:
    """
    Writes to a terminal or a file, and everything to the log too.

    When the terminal is gone, or nobody reads the pipe any more, the log alone goes on: what must
    be destroyed is destroyed all the same.
    """

    def __init__(
        self, console: Console, log: TextIO, *, now: Callable[[], float], hidden: Iterable[str]
    ) -> None:
        self._console: Console | None = console
        self._log = log
        self._now = now
        self._hidden = tuple(filter(None, hidden))
        """Secrets that nothing may show, whoever says it."""
        self._live: Live | None = None
        self._held: list[tuple[str, bool]] | None = None
        self._shown_s = now()

    def say(self, text: str, *, loud: bool = False) -> None:
        """Print, above the line that lives."""
        for secret in self._hidden:
            text = text.replace(secret, "***")
        if self._held is not None:
            self._held.append((text, loud))
            return
        self._note(text)
        self._write(text, loud=loud)

    def show(self, line: str) -> None:
        """Redraw the line that lives; without a terminal print it from time to time."""
        if self._held is not None:
            return
        now_s = self._now()
        if now_s - self._shown_s >= PLAIN_PERIOD_S:
            self._shown_s = now_s
            self._note(line)
            if self._console is not None and not self._console.is_terminal:
                self._write(line)
        if self._console is not None and self._console.is_terminal:
            self._redraw(self._console, line)

    def hold(self) -> None:
        """Be silent."""
        self.close()
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """Print what was held back."""
        held, self._held = self._held or [], None
        for text, loud in held:
            self.say(text, loud=loud)

    def close(self) -> None:
        """Leave the terminal as it was."""
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            except OSError:
                self._lose()

    def _write(self, text: str, *, loud: bool = False) -> None:
        if self._console is None:
            return
        try:
            for line in text.split("\n"):
                # What is indented or marked may be a command, which is copied as a whole.
                is_whole = not self._console.is_terminal or line.startswith((" ", "!!"))
                shown = Text(line, style="bold red" if loud else "")
                self._console.print(shown, highlight=False, soft_wrap=is_whole)
        except OSError:
            self._lose()

    def _redraw(self, console: Console, line: str) -> None:
        try:
            if self._live is None:
                self._live = Live(
                    console=console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        except OSError:
            self._lose()

    def _note(self, text: str) -> None:
        with suppress(OSError):  # a full disk must not keep anything from being destroyed
            self._log.write(f"{moment(self._now())}  {text}\n")
            self._log.flush()

    def _lose(self) -> None:
        """Go on without the terminal; nothing may try to write to it at the end either."""
        console, self._console, self._live = self._console, None, None
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, console.file.fileno() if console is not None else nowhere)
            os.close(nowhere)


def opened_log(folder: Path) -> TextIO:
    """Open the log of a folder, to go on with it."""
    descriptor = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a", encoding="utf-8")
