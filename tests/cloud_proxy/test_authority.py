"""The certificate authority: made once, private, renewed, and trusted for Exoscale's names only."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from exotide.cloud.errors import AuthorityUnusable
from exotide.cloud.proxy.authority import Authority, default_folder
from exotide.cloud.proxy.tls import Tls

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
YEAR = timedelta(days=365)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "exotide/ca"


def verify(authority: Authority, leaf: bytes, name: str, at: datetime) -> None:
    """Check a chain by an implementation that is not OpenSSL's."""
    store = Store([authority.certificate])
    verifier = PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(name))
    verifier.verify(x509.load_pem_x509_certificate(leaf), [])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_all_may_read_the_certificate_and_only_the_owner_the_key(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Authority.open(folder, now=NOW)
    finally:
        os.umask(before)
    assert mode(folder) == mode(folder.parent) == 0o755
    assert mode(folder / "ca.pem") == 0o644
    assert mode(folder / "private") == 0o700
    assert mode(folder / "private/key.pem") == 0o600
    assert sorted(path.name for path in folder.rglob("*")) == ["ca.pem", "key.pem", "private"]


def test_it_survives_and_leaves_are_new_each_time(folder: Path) -> None:
    first, again = Authority.open(folder, now=NOW), Authority.open(folder, now=NOW + 0.9 * YEAR)
    assert again.certificate == first.certificate
    leaves = first.issue(now=NOW), again.issue(now=NOW)
    assert leaves[0].key != leaves[1].key
    for leaf in leaves:
        verify(again, leaf.certificate, "api-at-vie-1.exoscale.com", NOW)


def test_clouds_that_start_together_make_one_authority(folder: Path) -> None:
    with ThreadPoolExecutor(8) as workers:
        made = list(workers.map(lambda _: Authority.open(folder, now=NOW), range(16)))
    assert len({authority.certificate for authority in made}) == 1


def test_renewal_keeps_the_key_so_that_running_clouds_stay_trusted(folder: Path) -> None:
    old = Authority.open(folder, now=NOW)
    later = NOW + 1.1 * YEAR
    running = old.issue(now=later)
    fresh = Authority.open(folder, now=later)
    assert fresh.certificate != old.certificate
    assert fresh.certificate.not_valid_after_utc > later + 1.9 * YEAR
    verify(fresh, running.certificate, "api.exoscale.com", later)
    verify(fresh, fresh.issue(now=later).certificate, "api.exoscale.com", later)


def test_a_certificate_from_the_future_or_of_another_key_is_signed_anew(folder: Path) -> None:
    future = Authority.open(folder, now=NOW + YEAR)
    assert Authority.open(folder, now=NOW).certificate != future.certificate
    (folder / "private/key.pem").unlink()
    replaced = Authority.open(folder, now=NOW)
    verify(replaced, replaced.issue(now=NOW).certificate, "api.exoscale.com", NOW)
    (folder / "ca.pem").write_text("-----BEGIN nothing")
    assert Authority.open(folder, now=NOW).certificate.subject == replaced.certificate.subject


@pytest.mark.parametrize("name", ["exoscale.com", "a.b.exoscale.com", "example.com"])
def test_leaves_are_for_one_label_below_the_domain(folder: Path, name: str) -> None:
    authority = Authority.open(folder, now=NOW)
    with pytest.raises(VerificationError):
        verify(authority, authority.issue(now=NOW).certificate, name, NOW)


@pytest.mark.parametrize(
    ("san", "check"),
    [
        (x509.DNSName("bank.test"), ["-verify_hostname", "bank.test"]),
        (x509.IPAddress(ip_address("192.0.2.1")), ["-verify_ip", "192.0.2.1"]),
        (x509.IPAddress(ip_address("2001:db8::1")), ["-verify_ip", "2001:db8::1"]),
        (x509.RFC822Name("boss@bank.test"), ["-verify_email", "boss@bank.test"]),
    ],
)
def test_even_with_the_key_nobody_can_pose_as_anybody_else(
    folder: Path, tmp_path: Path, san: x509.GeneralName, check: list[str]
) -> None:
    now = datetime.now(UTC)
    authority = Authority.open(folder, now=now)
    real = x509.load_pem_x509_certificate(authority.issue(now=now).certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + YEAR / 4)
        .add_extension(x509.SubjectAlternativeName([san]), critical=False)
    )
    for extension in real.extensions:
        kept = (x509.BasicConstraints, x509.KeyUsage, x509.AuthorityKeyIdentifier)
        if isinstance(extension.value, kept):
            forged = forged.add_extension(extension.value, critical=extension.critical)
    leaf = tmp_path / "forged.pem"
    signed = forged.sign(authority.key, hashes.SHA256())
    leaf.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    said = subprocess.run(
        ["openssl", "verify", *check, "-CAfile", str(authority.file), str(leaf)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode != 0
    assert "permitted subtree violation" in said.stderr or "excluded subtree" in said.stderr
    if isinstance(san, x509.DNSName):
        with pytest.raises(VerificationError, match=r"name constraint|permitted"):
            verify(authority, leaf.read_bytes(), san.value, now)


def test_an_authority_of_an_earlier_version_is_limited_anew_with_its_key(folder: Path) -> None:
    authority = Authority.open(folder, now=NOW)
    lax = (
        x509.CertificateBuilder()
        .subject_name(authority.certificate.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(authority.key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + 10 * YEAR)
        .sign(authority.key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(lax.public_bytes(serialization.Encoding.PEM))
    again = Authority.open(folder, now=NOW)
    assert again.certificate.serial_number != 7
    assert again.certificate.public_key() == authority.certificate.public_key()


def test_openssl_accepts_the_chain_and_its_purpose(folder: Path, tmp_path: Path) -> None:
    authority = Authority.open(folder, now=datetime.now(UTC))
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(authority.issue(now=datetime.now(UTC)).certificate)
    checks = ["-x509_strict", "-purpose", "sslserver", "-verify_hostname", "api.exoscale.com"]
    said = subprocess.run(
        ["openssl", "verify", *checks, "-CAfile", str(authority.file), str(leaf)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda key: key.chmod(0o640), r"others may read it \(mode 640\)"),
        (lambda key: key.write_text("nothing"), "it holds no private key"),
    ],
)
def test_a_key_that_is_damaged_or_not_private_is_refused_with_the_way_out(
    folder: Path, damage: object, reason: str
) -> None:
    Authority.open(folder, now=NOW)
    assert callable(damage)
    damage(folder / "private/key.pem")
    with pytest.raises(AuthorityUnusable, match=f"key.pem: {reason}.*--ca-dir"):
        Authority.open(folder, now=NOW)


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuthorityUnusable, match="file/ca"):
        Authority.open(tmp_path / "file/ca", now=NOW)


def test_the_default_folder_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_folder() == Path("/var/lib/exotide/ca")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_folder() == Path("/home/ann/.local/share/exotide/ca")
    monkeypatch.setenv("XDG_DATA_HOME", "/data/ann")
    assert default_folder() == Path("/data/ann/exotide/ca")


def test_a_cloud_that_runs_for_years_renews_its_certificate(folder: Path) -> None:
    now = NOW
    tls = Tls(folder, now=lambda: now)
    first = tls.context()
    now = NOW + timedelta(days=59)
    assert tls.context() is first
    now = NOW + timedelta(days=61)
    second = tls.context()
    assert second is not first
    assert tls.context() is second


def test_if_renewal_fails_the_old_certificate_goes_on(folder: Path) -> None:
    now = NOW
    tls = Tls(folder, now=lambda: now)
    first = tls.context()
    (folder / "private/key.pem").chmod(0o644)
    now = NOW + timedelta(days=80)
    assert tls.context() is first


def test_keys_of_leaves_never_stay_on_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    Tls(folder)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [file.name for file in (folder / "private").iterdir()] == ["key.pem"]
