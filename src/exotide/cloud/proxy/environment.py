"""The environment in which tools use the local cloud, and nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from exotide.cloud.errors import NoCloud
from exotide.cloud.service import HOST, Access

Mode = Literal["proxy", "direct"]

_FOREIGN: Final = ("EXOSCALE_API_ENVIRONMENT", "EXOSCALE_ACCOUNT")
"""What may point tools at another API or account; it must not be set."""


def environment(
    access: Access, *, ca_file: Path | None, mode: Mode, fabric_ip: str = HOST
) -> dict[str, str]:
    """
    Return variables by name, those of the repository's root module included.

    In direct mode only tools that ask EXOSCALE_API_ENDPOINT reach the local cloud. In proxy mode so
    do all others: every https connection goes through the proxy or fails, since the proxy serves
    `*.exoscale.com` alone and its certificates are the only trusted ones.

    Args:
        fabric_ip: Where the emulated servers reach the API.

    Raises:
        NoCloud: Proxy mode is asked of a cloud without a certificate authority.
    """
    variables = access.environment() | {
        "EXOSCALE_KEY": access.key,
        "EXOSCALE_SECRET": access.secret,
        "TF_VAR_exoscale_key": access.key,
        "TF_VAR_exoscale_secret": access.secret,
        "TF_VAR_agents_api_endpoint": access.endpoint_at(fabric_ip),
        "NO_PROXY": f"localhost,{HOST},::1",
        "no_proxy": f"localhost,{HOST},::1",
    }
    if mode == "direct":
        return variables
    if ca_file is None:
        raise NoCloud(
            f"the cloud on port {access.port} has no certificate authority, so it is no proxy; "
            "use --mode direct, or start it by: exotide cloud"
        )
    proxy = f"http://{HOST}:{access.port}"
    return variables | {
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "SSL_CERT_FILE": str(ca_file),
        "REQUESTS_CA_BUNDLE": str(ca_file),
        "CURL_CA_BUNDLE": str(ca_file),
    }


def exports(variables: Mapping[str, str]) -> str:
    """Return lines for `eval` in any POSIX shell."""
    foreign = f"unset {' '.join(_FOREIGN)}"
    values = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return "\n".join([foreign, *values])


def unsets(variables: Mapping[str, str]) -> str:
    """Return the line for `eval` that takes the exports back."""
    return f"unset {' '.join(variables)}"
