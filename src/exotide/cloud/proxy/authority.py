"""
A certificate authority of one user, made once, for the names of Exoscale's API only.

Its certificate carries a name constraint: whoever trusts it does so for exoscale.com and nothing
else, even if the key is stolen. The key stays when the certificate is renewed, so that clouds that
run already are still trusted.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from exotide.cloud.errors import AuthorityUnusable

DOMAIN: Final = "exoscale.com"
CERTIFICATE: Final = "ca.pem"
PRIVATE: Final = "private"
KEY: Final = "key.pem"

_LIFE: Final = timedelta(days=730)
_RENEWED_BEFORE_END: Final = timedelta(days=365)
"""So it is renewed each year, and a copy of it is good for another."""
LEAF_LIFE: Final = timedelta(days=90)
_SKEW: Final = timedelta(days=1)
"""Certificates begin this much before now: clocks of containers may be behind."""


_ONLY_EXOSCALE: Final = x509.NameConstraints(
    # A kind of name that is not mentioned is not limited: so no address, and no mailbox but those
    # of a domain that cannot exist.
    permitted_subtrees=[x509.DNSName(DOMAIN), x509.RFC822Name("invalid")],
    excluded_subtrees=[
        x509.IPAddress(ip_network("0.0.0.0/0")),
        x509.IPAddress(ip_network("::/0")),
    ],
)


def default_folder() -> Path:
    """Return the folder that survives: of the system for root, of the user for others."""
    if os.geteuid() == 0:
        return Path("/var/lib/exotide/ca")
    data = os.environ.get("XDG_DATA_HOME", "")
    home = Path(data) if Path(data).is_absolute() else Path.home() / ".local/share"
    return home / "exotide/ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A server certificate with its key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A key, and the certificate that clients trust."""

    file: Path
    """The certificate, PEM; readable by all, since tools of other users trust it, too."""
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def open(cls, folder: Path, *, now: datetime) -> Authority:
        """
        Read the authority in this folder; make or renew what is missing or ends within a year.

        Args:
            folder: `ca.pem` (0644) and `private/key.pem` (0600 in 0700) are kept here.
            now: Aware time.

        Raises:
            AuthorityUnusable: The folder cannot be written, or its key is damaged or not private.
        """
        try:
            _make(folder.parent, folder)
            with _locked(folder / PRIVATE):
                key = _key(folder / PRIVATE / KEY)
                certificate = _certificate(folder / CERTIFICATE, key, now)
        except OSError as error:
            raise AuthorityUnusable(folder, str(error)) from error
        return cls(file=folder / CERTIFICATE, certificate=certificate, key=key)

    def issue(self, *, now: datetime) -> Leaf:
        """Return a fresh certificate for any `*.exoscale.com`, with a key of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = now + LEAF_LIFE
        name = f"*.{DOMAIN}"
        authority_id = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        certificate = (
            _builder(name, self.certificate.subject, key.public_key(), now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(issuer_id, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Leaf(
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            key=_pem(key),
            until=until,
        )


def _make(*folders: Path) -> None:
    """Make folders that all may enter, whatever the umask; those that exist stay as they are."""
    for folder in folders:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)  # clouds may start together
            folder.chmod(0o755)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time make keys; clouds may start together."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        status = file.stat()
    except FileNotFoundError:
        key = ec.generate_private_key(ec.SECP256R1())
        _write(file, _pem(key), 0o600)
        return key
    if status.st_mode & 0o077:
        raise AuthorityUnusable(file, f"others may read it (mode {status.st_mode & 0o777:o})")
    try:
        key_read = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise AuthorityUnusable(file, "it holds no private key") from error
    if not isinstance(key_read, ec.EllipticCurvePrivateKey):
        raise AuthorityUnusable(file, "it holds a key of another kind than EC")
    return key_read


def _certificate(file: Path, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Read it, or sign it anew: all of it follows from the key."""
    try:
        known = x509.load_pem_x509_certificate(file.read_bytes())
    except (FileNotFoundError, ValueError):
        known = None
    if (
        known is not None
        and known.public_key() == key.public_key()
        and known.not_valid_before_utc <= now < known.not_valid_after_utc - _RENEWED_BEFORE_END
        and known.not_valid_after_utc - known.not_valid_before_utc <= _LIFE + _SKEW
        and _is_limited(known)
    ):
        return known
    fresh = _self_signed(key, now)
    _write(file, fresh.public_bytes(serialization.Encoding.PEM), 0o644)
    return fresh


def _is_limited(certificate: x509.Certificate) -> bool:
    """Whether it is good for nothing else; earlier versions said less."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints)
        certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return False
    return found.value == _ONLY_EXOSCALE


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = f"exotide local cloud {identifier.digest.hex()[:8]}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        _builder(name, subject, key.public_key(), now, now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_ONLY_EXOSCALE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(file: Path, content: bytes, mode: int) -> None:
    """Put a file there in one step, never readable by more than its mode says."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        os.fchmod(opened.fileno(), mode)
    fresh.replace(file)
