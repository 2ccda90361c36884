"""One look for all pictures: colours are names that the page fills in for light and for dark."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Ink(Enum):
    """
    A colour's role. Its value is the stand-in that a drawing carries until `themed` names it.

    The stand-ins are no colours to be seen: a drawing library wants digits, a page wants names.
    """

    TEXT = "#010101"
    MUTED = "#010102"
    GRID = "#010103"
    PAPER = "#010104"
    OFFERED = "#010105"
    ANSWERED = "#010106"
    CPU = "#010107"
    HOT = "#010108"
    COLD = "#010109"
    SERVING = "#01010a"
    WANTED = "#01010b"
    P50 = "#01010c"
    P95 = "#01010d"
    COST = "#01010e"
    SHADE = "#01010f"

    @property
    def variable(self) -> str:
        """The page's name for it."""
        return f"var(--{self.name.lower()})"


LIGHT: Final[dict[Ink, str]] = {
    Ink.TEXT: "#1b1f24",
    Ink.MUTED: "#5c6570",
    Ink.GRID: "#dfe3e8",
    Ink.PAPER: "#ffffff",
    Ink.OFFERED: "#8a63d2",
    Ink.ANSWERED: "#1f9d78",
    Ink.CPU: "#d9730d",
    Ink.HOT: "#d1383d",
    Ink.COLD: "#2f7fd6",
    Ink.SERVING: "#1f6feb",
    Ink.WANTED: "#1b1f24",
    Ink.P50: "#3aa0a8",
    Ink.P95: "#c2418f",
    Ink.COST: "#7a8b1c",
    Ink.SHADE: "#8a63d2",
}

DARK: Final[dict[Ink, str]] = {
    Ink.TEXT: "#e8ebef",
    Ink.MUTED: "#98a2ae",
    Ink.GRID: "#2c333c",
    Ink.PAPER: "#14181d",
    Ink.OFFERED: "#b596f0",
    Ink.ANSWERED: "#3fcf9f",
    Ink.CPU: "#f59a42",
    Ink.HOT: "#ff6b6b",
    Ink.COLD: "#6cb2ff",
    Ink.SERVING: "#5fa4ff",
    Ink.WANTED: "#e8ebef",
    Ink.P50: "#5fd0d8",
    Ink.P95: "#f07ac0",
    Ink.COST: "#b9cc4f",
    Ink.SHADE: "#b596f0",
}


def themed(svg: str) -> str:
    """Replace each stand-in by the page's variable."""
    for ink in Ink:
        svg = svg.replace(ink.value, ink.variable)
    return svg


def variables(colours: dict[Ink, str]) -> str:
    """The CSS declarations of one theme."""
    return "".join(f"--{ink.name.lower()}:{colour};" for ink, colour in colours.items())
