"""A development authority and one certificate per process.

`init` makes DIR/ca.pem and DIR/ca.key; `issue` adds DIR/<role>-<id>.pem and .key. Nothing that is still valid is
overwritten, unless it is to be renewed. `revoke` adds to DIR/revoked.txt, which servers read. The authority's key lies
beside what it signs, which suits one machine; a run over several hosts keeps it elsewhere.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostrakon.common.errors import OstrakonError
from ostrakon.common.files import write_atomically
from ostrakon.common.identity import ADVERSARY_NAME, ROLES, Identity, Role, parse
from ostrakon.common.identity.credentials import RENEW_DAYS, UNREADABLE, Credentials, parse_whole, read_certificate
from ostrakon.common.identity.revocation import REVOKED, read_revoked, revocation_list, revoked_text
from ostrakon.common.settings import TlsFiles, build
from ostrakon.deploy.validity import AUTHORITY_DAYS, CERTIFICATE_DAYS

LOOPBACK = ("localhost", "127.0.0.1")
SERVING: tuple[Role, ...] = ("server", "adversary")  # others call them

_HOST = re.compile(r"(?=.{1,253}\Z)(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_CLOCK_SKEW = timedelta(hours=1)


def init(directory: Path, days: int = AUTHORITY_DAYS) -> None:
    """Make the authority, unless there is one.

    Raises:
        OstrakonError: the folder holds an authority that cannot be read or has expired.
    """
    if (directory / "ca.pem").exists():
        _authority_certificate(directory)
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ostrakon development authority")])
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _dated(days)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The certificate last: where it exists, the authority is whole.
    write_atomically(directory / "ca.key", _pem(key), mode=0o600)
    write_atomically(directory / "ca.pem", certificate.public_bytes(Encoding.PEM))


def issue(
    directory: Path,
    role: Role,
    id: str,
    hosts: Sequence[str] = (),
    days: int = CERTIFICATE_DAYS,
    *,
    renew: bool = False,
) -> TlsFiles:
    """Give one process its certificate, unless it holds one that still serves and is not to be renewed.

    A renewed certificate keeps the names of the old one; processes that are running take it up by themselves.

    Args:
        hosts: further names and IP addresses by which a server is reached, beside localhost and 127.0.0.1; an adversary
            has one name of its own wherever it is.

    Returns:
        The three files to put into the process's settings.

    Raises:
        OstrakonError: role, id or a host cannot be used or is revoked, or there is no readable authority to sign.
    """
    identity = parse(Identity(role, id).urn)
    stem = directory / f"{role}-{id}"
    paths = {"ca": directory / "ca.pem", "certificate": Path(f"{stem}.pem"), "key": Path(f"{stem}.key")}
    files = build(TlsFiles, paths, source="certificates")
    if hosts and role != "server":
        raise OstrakonError(f"--host is for servers: nobody calls a {role} by the name of its host")
    if role == "adversary":
        names: tuple[str, ...] = (ADVERSARY_NAME,)
    else:
        names = (*LOOPBACK, *hosts) if role == "server" else ()
    if identity in read_revoked(revocation_list(files)):
        raise OstrakonError(
            f"{role} {id} is revoked: no certificate in this name is let in any more. Take another id, and a new run "
            "whose roster names it"
        )
    if renew and role == "server":
        names = (*names, *(host for host in _hosts(files.certificate) if host not in names))
    if renew or not _serves(files, identity, names):
        _sign(directory, identity, files, names, days)
    return files


def revoke(directory: Path, role: Role, id: str) -> Path:
    """Shut one process out of the runs of this authority, under any certificate; returns the list it is now on.

    Raises:
        OstrakonError: role or id cannot be used, or it is not a server that decides about this role.
    """
    identity = parse(Identity(role, id).urn)
    if role in SERVING:
        raise OstrakonError(
            f"a {role} cannot be revoked: those who call it do not read the list. Make a new authority in another "
            "folder, and issue every certificate anew"
        )
    path = directory / REVOKED
    write_atomically(path, revoked_text(read_revoked(path) | {identity}).encode())
    return path


@dataclass(frozen=True)
class Issued:
    """A process's certificate in an authority's folder; `until` is None for one that is revoked and not there."""

    identity: Identity
    until: datetime | None
    revoked: bool

    @property
    def state(self) -> str:
        """In a few words, whether it lets its process in."""
        if self.revoked or self.until is None:
            return "revoked"
        left = self.until - datetime.now(UTC)
        if left < timedelta(0):
            return "expired"
        return f"valid, {left.days} days left" + (": renew it" if left.days < RENEW_DAYS else "")


def issued(directory: Path) -> list[Issued]:
    """Every certificate of a process in the folder, and who is revoked, by role and id.

    Raises:
        OstrakonError: the folder holds no authority, or a certificate in it is damaged.
    """
    _authority_certificate(directory)
    revoked = read_revoked(directory / REVOKED)
    ends = dict(read_certificate(path) for path in directory.glob("*.pem"))  # the authority's own names nobody
    processes = {identity for identity in ends if identity is not None} | revoked
    return [
        Issued(identity, ends.get(identity), identity in revoked)
        for identity in sorted(processes, key=lambda identity: (ROLES.index(identity.role), identity.id))
    ]


def _sign(directory: Path, identity: Identity, files: TlsFiles, names: Sequence[str], days: int) -> None:
    authority, authority_key = _authority_certificate(directory), _authority_key(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if identity.role in SERVING else ExtendedKeyUsageOID.CLIENT_AUTH
    alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.urn)]
    alternatives.extend(_name(name) for name in names)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _dated(days)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{identity.role} {identity.id}"[:64])]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(own, critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_atomically(files.key, _pem(key), mode=0o600)
    write_atomically(files.certificate, certificate.public_bytes(Encoding.PEM))


def _serves(files: TlsFiles, identity: Identity, names: Sequence[str]) -> bool:
    """Whether the process already holds a certificate that would be accepted under all these names."""
    try:
        credentials = Credentials.load(files, identity.role)
    except OstrakonError:
        return False
    certificate = x509.load_pem_x509_certificate(credentials.certificate)
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return credentials.identity == identity and all(_name(name) in held for name in names)


def _hosts(certificate: Path) -> tuple[str, ...]:
    """The names and addresses in a certificate; none where there is none."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, *UNREADABLE, x509.ExtensionNotFound):
        return ()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _authority_certificate(directory: Path) -> x509.Certificate:
    path = directory / "ca.pem"
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        parse_whole(certificate)
    except FileNotFoundError:
        raise OstrakonError(f"{directory} holds no authority: run `ostrakon certificates init {directory}`") from None
    except (OSError, *UNREADABLE) as error:
        raise OstrakonError(f"authority {path} cannot be read ({error}): expected PEM, restore or remove it") from None
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise OstrakonError(
            f"authority {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: make a new one in another folder"
        )
    return certificate


def _authority_key(directory: Path) -> ec.EllipticCurvePrivateKey:
    path = directory / "ca.key"
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise OstrakonError(f"authority key {path} does not exist: without it nothing can be signed") from None
    except (OSError, *UNREADABLE) as error:
        raise OstrakonError(f"authority key {path} cannot be read ({error}): restore it from a copy") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise OstrakonError(
            f"authority key {path} is no elliptic-curve key: this tool signs with its own authority only"
        )
    return key


def _dated(days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise OstrakonError(
                f"{host!r} is no name of a host: expected an IP address, or letters, digits, dashes and dots, as in "
                "server.example.org; other letters in their ASCII form, as in xn--bcher-kva.example"
            ) from None
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
