"""A shell that means one cloud is understood; one that means two is refused with the next step."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exotide.access.errors import NoAccess
from exotide.access.shell import (
    Kind,
    Shell,
    check_agents,
    check_one_api,
    is_local_authority,
    is_public,
    public_endpoint,
    read_shell,
)
from exotide.cloud.proxy.authority import Authority
from exotide.cloud.proxy.environment import environment
from exotide.cloud.service import Access

CA = Path("/var/lib/exotide/ca/ca.pem")
CLOUD = Access(port=8480, key="EXOlocal", secret="hush")
PROXY = environment(CLOUD, ca_file=CA, mode="proxy")
"""As `exotide cloud env` sets a shell."""
DIRECT = environment(CLOUD, ca_file=None, mode="direct")
OWN_PROXY = {"HTTPS_PROXY": "http://proxy.example:3128", "https_proxy": "http://127.0.0.1:3128"}
GENEVA = "https://api-ch-gva-2.exoscale.com/v2"


def read(environ: dict[str, str]) -> Shell:
    return read_shell(environ, zone="at-vie-1", is_local=lambda file: file == str(CA))


def test_an_empty_shell_means_the_real_cloud() -> None:
    shell = read({})
    assert (shell.kind, shell.endpoint) == (Kind.EXOSCALE, "https://api-at-vie-1.exoscale.com/v2")
    assert not shell.is_proxied


def test_a_proxy_and_authorities_of_one_s_own_mean_no_local_cloud() -> None:
    shell = read({**OWN_PROXY, "SSL_CERT_FILE": "/etc/ssl/company.pem", "NO_PROXY": "exoscale.com"})
    assert shell.kind is Kind.EXOSCALE
    assert read({"EXOSCALE_API_ENDPOINT": GENEVA}).endpoint == GENEVA


def test_a_shell_as_a_local_cloud_sets_it_means_that_cloud() -> None:
    assert read(PROXY).kind is Kind.LOCAL
    assert read(PROXY).is_proxied
    assert read(DIRECT).kind is Kind.LOCAL
    assert not read(DIRECT).is_proxied, "only tools that ask for the endpoint go there"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        pytest.param(
            {name: each for name, each in PROXY.items() if name != "EXOSCALE_API_ENDPOINT"},
            "HTTPS_PROXY=http://127.0.0.1:8480.*, but EXOSCALE_API_ENDPOINT is not set",
            id="no-endpoint",
        ),
        pytest.param(
            {**PROXY, "EXOSCALE_API_ENDPOINT": GENEVA},
            f"but EXOSCALE_API_ENDPOINT is {GENEVA}",
            id="the-real-endpoint",
        ),
        pytest.param({"SSL_CERT_FILE": str(CA)}, f"SSL_CERT_FILE={CA}, but", id="trust-alone"),
        pytest.param(
            {**PROXY, "EXOSCALE_API_ENDPOINT": "http://127.0.0.1:9999/v2"},
            "HTTPS_PROXY=http://127.0.0.1:8480 leads elsewhere",
            id="two-local-clouds",
        ),
        pytest.param(
            {**PROXY, "https_proxy": "http://proxy.example:3128"},
            "https_proxy=http://proxy.example:3128 leads elsewhere",
            id="two-proxies",
        ),
        pytest.param(
            {**PROXY, "NO_PROXY": "localhost, .exoscale.com"},
            "NO_PROXY=localhost, .exoscale.com lets exoscale.com pass by",
            id="bypass",
        ),
        pytest.param({"EXOSCALE_API_ENDPOINT": "api"}, "must be a URL .* got: 'api'", id="no-url"),
        pytest.param(
            {"EXOSCALE_API_ENDPOINT": "http://[::1"}, "must be a URL", id="half-an-address"
        ),
    ],
)
def test_a_shell_that_means_two_clouds_is_refused(environ: dict[str, str], words: str) -> None:
    with pytest.raises(NoAccess, match=words):
        read(environ)


@given(st.sets(st.sampled_from(sorted(set(PROXY) - {"TF_VAR_agents_api_endpoint"}))))
def test_no_part_of_a_local_cloud_s_shell_leads_a_tool_to_the_real_one(kept: set[str]) -> None:
    """Whatever is unset of it: it is refused, it is all local, or nothing local is left in it."""
    environ = {name: PROXY[name] for name in kept}
    try:
        shell = read(environ)
    except NoAccess:
        return
    leads = {"HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    if "EXOSCALE_API_ENDPOINT" in kept:
        assert shell.kind is Kind.LOCAL
        assert shell.is_proxied == bool({"HTTPS_PROXY", "https_proxy"} & kept)
    elif {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & kept:
        pytest.fail(f"{kept} was taken for the real cloud's")
    assert shell.kind is Kind.LOCAL or not leads - {"HTTPS_PROXY", "https_proxy"} & kept


def test_an_authority_of_a_local_cloud_is_known_by_its_name(tmp_path: Path) -> None:
    ca = Authority.open(tmp_path / "anywhere", now=datetime.now(UTC))
    assert is_local_authority(str(ca.file))
    bundle = tmp_path / "company.pem"
    for text in ("no certificate", "-----BEGIN CERTIFICATE-----%-----END CERTIFICATE-----"):
        bundle.write_text(text)
        assert not is_local_authority(str(bundle))
    bundle.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert not is_local_authority(str(bundle))
    assert not is_local_authority(str(tmp_path / "gone.pem"))
    assert is_local_authority(str(tmp_path / "exotide/ca/ca.pem")), "gone, and where they are kept"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://api-at-vie-1.exoscale.com/v2", True),
        ("http://api-at-vie-1.exoscale.com/v2", True),
        ("https://exoscale.com/v2", True),
        ("https://api.exoscale.com.example/v2", False),
        ("https://notexoscale.com/v2", False),
        ("http://127.0.0.1:8480/v2", False),
        ("", False),
    ],
)
def test_the_real_cloud_is_known_by_its_domain(endpoint: str, expected: bool) -> None:
    assert is_public(endpoint) is expected


def test_a_third_api_is_refused() -> None:
    check_one_api({})
    check_one_api({"EXOSCALE_API_ENVIRONMENT": "api"})
    with pytest.raises(NoAccess, match="unset EXOSCALE_API_ENVIRONMENT"):
        check_one_api({"EXOSCALE_API_ENVIRONMENT": "ppapi"})


def test_agents_call_the_cloud_that_their_servers_are_of() -> None:
    real, local = read({}), read(PROXY)
    inside = PROXY["TF_VAR_agents_api_endpoint"]
    check_agents(real, "")
    check_agents(real, public_endpoint("at-vie-1"))
    check_agents(local, inside)
    with pytest.raises(NoAccess, match="on the real Exoscale, and their agents call http://127"):
        check_agents(real, inside)
    for endpoint in ("", GENEVA):
        with pytest.raises(NoAccess, match="and their agents call the real Exoscale"):
            check_agents(local, endpoint)
