"""Why a command cannot begin, as one class; its message is for the user and names the next step."""

from __future__ import annotations


class NoAccess(Exception):
    """Shell, key or account do not let the command begin; nothing was changed."""
