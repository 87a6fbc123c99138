"""What a process shows of who it is, and trusts: certificate, key and authority, checked before they are used."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity, Role, only_identity
from ostrakon.common.settings import TlsFiles

_LONGEST_CHAIN = 8
UNREADABLE = (  # what cryptography says of keys and certificates that are damaged, or that it does not know
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
RENEW_DAYS = 30  # left, from which on a certificate is said to be due


def parse_whole(certificate: x509.Certificate) -> None:
    """Let parts that cryptography parses where they are asked raise one of `UNREADABLE` now, or never."""
    _ = certificate.subject, certificate.public_key(), certificate.extensions


@dataclass(frozen=True)
class Credentials:
    """A process's certificate, key and trusted authority, checked before anything is served or called."""

    identity: Identity
    ca: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)
    until: datetime
    warnings: tuple[str, ...] = ()
    """Sentences worth showing that do not stop the process."""

    @classmethod
    def load(cls, tls: TlsFiles, role: Role) -> Self:
        """Read and check the three files of a process that is to act as `role`.

        Raises:
            OstrakonError: a file is missing or damaged, the key is another certificate's, the certificate is not
                valid now, is signed by another authority, or names no identity or another role.
        """
        ca, certificate, key = _content(tls.ca), _content(tls.certificate), _content(tls.key)
        authorities, chain = _certificates(ca, tls.ca), _chain(certificate, tls.certificate)
        leaf = chain[0]
        _check_key(key, leaf, tls)
        for authority in authorities:
            _check_dates(authority, tls.ca)
        _check_dates(leaf, tls.certificate)
        if not _issued(chain, authorities):
            raise OstrakonError(
                f"certificate {tls.certificate} is not signed by the authority in {tls.ca}: "
                "use the ca.pem that came with the certificate, or have it issued anew"
            )
        identity = only_identity(_uris(leaf))
        if identity is None:
            raise OstrakonError(
                f"certificate {tls.certificate} names nobody: expected one URI urn:ostrakon:ROLE:ID among its "
                f"alternative names, found {', '.join(_uris(leaf)) or 'none'}"
            )
        if identity.role != role:
            raise OstrakonError(
                f"certificate {tls.certificate} is for another role: expected {role}, certificate says {identity.role}"
            )
        until = leaf.not_valid_after_utc
        return cls(
            identity, ca, certificate, key, until, (*_warn_of_key(tls.key), *_warn_of_end(tls.certificate, until))
        )

    def server_credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`; callers without a certificate of our authority are turned away."""
        pair = [(self.key, self.certificate)]
        return grpc.ssl_server_credentials(pair, root_certificates=self.ca, require_client_auth=True)

    def server_configuration(self) -> grpc.ServerCertificateConfiguration:
        """The same, for a server whose certificate may be renewed."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], root_certificates=self.ca)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For `secure_channel`."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


def read_certificate(path: Path) -> tuple[Identity | None, datetime]:
    """Whose a certificate is, and until when it is valid; nobody's where it names no identity.

    Raises:
        OstrakonError: the file is missing or holds no certificate.
    """
    leaf = _chain(_content(path), path)[0]
    return only_identity(_uris(leaf)), leaf.not_valid_after_utc


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise OstrakonError(f"TLS file {path} does not exist: issue it, or correct the path in the settings") from None
    except OSError as error:
        raise OstrakonError(f"TLS file {path} cannot be read ({error.strerror})") from None


def _certificates(content: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except UNREADABLE:
        raise OstrakonError(f"certificate {path} is damaged: expected PEM, have it issued anew") from None


def _chain(content: bytes, path: Path) -> list[x509.Certificate]:
    """The certificates of a process. An authority's file may hold others' too, of kinds that nobody here knows."""
    certificates = _certificates(content, path)
    try:
        for certificate in certificates:
            parse_whole(certificate)
    except UNREADABLE as error:
        raise OstrakonError(f"certificate {path} cannot be used ({error}): have it issued anew") from None
    return certificates


def _check_key(key: bytes, leaf: x509.Certificate, tls: TlsFiles) -> None:
    try:
        public = load_pem_private_key(key, password=None).public_key()
    except UNREADABLE:
        raise OstrakonError(f"key {tls.key} is damaged: expected an unencrypted private key as PEM") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise OstrakonError(
            f"key {tls.key} does not belong to certificate {tls.certificate}: give the two files issued together"
        )


def _check_dates(certificate: x509.Certificate, path: Path) -> None:
    now = datetime.now(UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < first:
        raise OstrakonError(f"certificate {path} is not valid before {first:%Y-%m-%d %H:%M} UTC: check this clock")
    if now > last:
        raise OstrakonError(f"certificate {path} expired on {last:%Y-%m-%d %H:%M} UTC: have it issued anew")


def _issued(chain: list[x509.Certificate], authorities: list[x509.Certificate]) -> bool:
    """Whether the chain's first certificate leads, over its other ones, to one of the authorities."""
    current, intermediates = chain[0], chain[1:]
    for _ in range(_LONGEST_CHAIN):
        if any(_signed(current, authority) for authority in authorities):
            return True
        issuer = next((other for other in intermediates if _signed(current, other)), None)
        if issuer is None:
            return False
        current = issuer
    return False


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _warn_of_key(key: Path) -> tuple[str, ...]:
    if key.stat().st_mode & 0o077:
        return (f"key {key} is readable by other users of this machine: chmod 600 {key}",)
    return ()


def _warn_of_end(path: Path, until: datetime) -> tuple[str, ...]:
    if until - datetime.now(UTC) < timedelta(days=RENEW_DAYS):
        return (f"certificate {path} expires on {until:%Y-%m-%d %H:%M} UTC: have it renewed",)
    return ()
