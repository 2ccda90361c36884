"""
Which cloud the variables of a shell mean, and whether all tools would agree: PURE but for one file.

A local cloud is named by EXOSCALE_API_ENDPOINT. The provider up to 0.70 asks that address for some
calls only, and for the rest the real Exoscale, unless HTTPS_PROXY leads those to the local cloud
too. A shell in which a part is left over would mix clouds; it is refused.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from exotide.stack.settings import ZONE

from .errors import NoAccess

ENDPOINT: Final = "EXOSCALE_API_ENDPOINT"
ENVIRONMENT: Final = "EXOSCALE_API_ENVIRONMENT"
AGENTS_ENDPOINT: Final = "TF_VAR_agents_api_endpoint"
PUBLIC_DOMAIN: Final = "exoscale.com"
LOCAL_AUTHORITY: Final = "exotide local cloud"
"""How the names of local clouds' authorities begin."""
DEFAULT_ZONE: Final = "at-vie-1"
ENTER: Final = 'eval "$(exotide cloud env)"'
"""What sets a shell for a local cloud."""
_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL
)
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy")
_TRUST: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_BYPASS: Final = ("NO_PROXY", "no_proxy")
LEAVE: Final = "for the real Exoscale: a new shell, with nothing but your own key"


class Kind(StrEnum):
    """Which cloud it is. Used verbatim in JSON."""

    EXOSCALE = "exoscale"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """What a shell's variables mean, once they do not contradict each other."""

    kind: Kind
    endpoint: str
    """As the variables name it, or the real one of the zone; perhaps of another zone."""
    is_proxied: bool
    """Whether tools that do not ask EXOSCALE_API_ENDPOINT are led to the same cloud."""

    def why_silent(self, fault: str) -> str:
        """Say what to do if nothing answers."""
        if self.kind is Kind.EXOSCALE:
            return f"{fault}; is this machine connected, and {ENDPOINT} unset?"
        return (
            f"{fault}. This shell is set for a local cloud, which has ended or is another now: "
            f"start it (exotide cloud), then {ENTER}; {LEAVE}"
        )


def public_endpoint(zone: str) -> str:
    """The real cloud's endpoint of a zone."""
    return f"https://api-{zone}.{PUBLIC_DOMAIN}/v2"


def check_zone(zone: str) -> None:
    """Raise NoAccess for what cannot be a zone's name: it becomes part of a host's."""
    if not ZONE.fullmatch(zone):
        raise NoAccess(f"a zone must look like at-vie-1 or ch-dk-2, got: {zone!r}")


def is_public(endpoint: str) -> bool:
    """Whether an endpoint is the real cloud's."""
    return f".{_place(endpoint)[0]}".endswith(f".{PUBLIC_DOMAIN}")


def read_shell(
    environ: Mapping[str, str], *, zone: str, is_local: Callable[[str], bool] | None = None
) -> Shell:
    """
    Tell which cloud is meant.

    Args:
        is_local: Tells whether a file of certificates is a local cloud's authority.

    Raises:
        NoAccess: variables contradict each other, or the zone is none; names the next step.
    """
    check_zone(zone)
    endpoint = environ.get(ENDPOINT, "").strip() or public_endpoint(zone)
    _check_url(endpoint)
    is_authority = is_local or is_local_authority
    trust = [name for name in _TRUST if environ.get(name) and is_authority(environ[name])]
    proxies = _local_proxies(environ, endpoint, has_local_trust=bool(trust))
    shell = Shell(
        kind=Kind.EXOSCALE if is_public(endpoint) else Kind.LOCAL,
        endpoint=endpoint.rstrip("/"),
        is_proxied=bool(proxies),
    )
    _check_leftovers(shell, environ, [*proxies, *trust])
    _check_proxies(shell, environ)
    _check_bypass(shell, environ)
    return shell


def is_local_authority(file: str) -> bool:
    """
    Whether a file holds the certificate of a local cloud's authority; one that is gone may.

    The name is looked for in the bytes: this is no judgement of trust, and a system's bundle holds
    certificates that no strict parser takes.
    """
    try:
        blocks = _CERTIFICATE.findall(Path(file).read_bytes())
        return any(LOCAL_AUTHORITY.encode() in b64decode(block) for block in blocks)
    except (OSError, ValueError):
        return Path(file).parts[-3:] == ("exotide", "ca", "ca.pem")


def check_one_api(environ: Mapping[str, str]) -> None:
    """
    Make sure that no tool is sent to a third API.

    Raises:
        NoAccess: names the variable.
    """
    name = environ.get(ENVIRONMENT, "")
    if name not in {"", "api"}:
        raise NoAccess(
            f"{ENVIRONMENT}={name} sends some of Terraform's calls to {name}-ZONE.{PUBLIC_DOMAIN} "
            f"and others elsewhere; unset {ENVIRONMENT}"
        )


def check_agents(shell: Shell, agents_endpoint: str) -> None:
    """
    Make sure that the servers' agents would call the cloud that their servers are of.

    Args:
        agents_endpoint: The root module's variable agents_api_endpoint.

    Raises:
        NoAccess: they would call another.
    """
    calls_public = not agents_endpoint or is_public(agents_endpoint)
    if shell.kind is Kind.EXOSCALE and not calls_public:
        raise NoAccess(
            f"the servers would be on the real Exoscale, and their agents call {agents_endpoint}, "
            f"which is of a local cloud: unset {AGENTS_ENDPOINT}, or take agents_api_endpoint "
            "out of the variables"
        )
    if shell.kind is Kind.LOCAL and calls_public:
        raise NoAccess(
            f"the servers would be on the local cloud at {shell.endpoint}, and their agents call "
            f"the real Exoscale: set {AGENTS_ENDPOINT}, as {ENTER} does"
        )


def _check_url(endpoint: str) -> None:
    if not endpoint.startswith(("http://", "https://")) or not _place(endpoint)[0]:
        raise NoAccess(f"{ENDPOINT} must be a URL such as https://HOST/v2, got: {endpoint!r}")


def _check_leftovers(shell: Shell, environ: Mapping[str, str], names: list[str]) -> None:
    if shell.kind is Kind.LOCAL or not names:
        return
    shown = ", ".join(f"{name}={environ[name]}" for name in names)
    named = environ.get(ENDPOINT)
    endpoint = f"{ENDPOINT} is {named}" if named else f"{ENDPOINT} is not set"
    raise NoAccess(
        f"this shell is half set for a local cloud: {shown}, but {endpoint}. Tools would ask "
        f"different clouds. For the local one: {ENTER}; {LEAVE}"
    )


def _check_proxies(shell: Shell, environ: Mapping[str, str]) -> None:
    """Each tool goes by another of the two names, so both must lead to where the endpoint is."""
    if shell.kind is Kind.EXOSCALE or not shell.is_proxied:
        return
    for name in _PROXIES:
        proxy = environ.get(name, "")
        if proxy and _place(proxy)[1] != _place(shell.endpoint)[1]:
            raise NoAccess(
                f"{ENDPOINT} is {shell.endpoint}, but {name}={proxy} leads elsewhere: {ENTER}"
            )


def _check_bypass(shell: Shell, environ: Mapping[str, str]) -> None:
    if shell.kind is Kind.EXOSCALE or not shell.is_proxied:
        return
    for name in _BYPASS:
        entries = [each.strip().lstrip("*.") for each in environ.get(name, "").split(",")]
        if any(each and f".{PUBLIC_DOMAIN}".endswith(f".{each}") for each in entries):
            raise NoAccess(
                f"{name}={environ[name]} lets {PUBLIC_DOMAIN} pass by the local cloud's proxy, to "
                f"the real one: {ENTER}"
            )


def _local_proxies(
    environ: Mapping[str, str], endpoint: str, *, has_local_trust: bool
) -> list[str]:
    """Name the variables that lead to a local cloud's proxy; people have proxies of their own."""
    own = _place(endpoint)
    found = []
    for name in _PROXIES:
        proxy = environ.get(name, "")
        is_ours = _place(proxy) == own or (has_local_trust and _is_here(proxy))
        if proxy and is_ours:
            found.append(name)
    return found


def _place(url: str) -> tuple[str | None, int | None]:
    try:
        return urlsplit(url).hostname, urlsplit(url).port
    except ValueError:
        return None, None


def _is_here(url: str) -> bool:
    host, _ = _place(url)
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False
