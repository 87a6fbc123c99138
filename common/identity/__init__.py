"""Who a process is: the URI SAN `urn:ostrakon:<role>:<id>` of its certificate, never a field of a message.

Here it is a name and nothing more, without gRPC. Certificates are read in `credentials`, taken up anew in `renewal`,
refused by name in `revocation`; `handshake` says why TLS with a server fails.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from ostrakon.common.errors import OstrakonError
from ostrakon.common.ids import EXPECTED, ID

Role = Literal["server", "worker", "observer", "operator", "adversary"]
ROLES: tuple[Role, ...] = get_args(Role)

ADVERSARY_NAME = "adversary.ostrakon"
"""The only host name in an adversary's certificate: a worker that calls a server cannot be led to an adversary."""

_URN = re.compile(rf"urn:ostrakon:({'|'.join(ROLES)}):({ID})")


class Identity(NamedTuple):
    """One process of a run: its role and its id within that role."""

    role: Role
    id: str

    @property
    def urn(self) -> str:
        return f"urn:ostrakon:{self.role}:{self.id}"


@lru_cache(maxsize=4096)  # asked in every call
def parse(urn: str) -> Identity:
    """Read `urn:ostrakon:<role>:<id>`.

    Raises:
        OstrakonError: it is not such a name.
    """
    match = _URN.fullmatch(urn)
    if match is None:
        raise OstrakonError(
            f"{urn!r} is no identity: expected urn:ostrakon:ROLE:ID with ROLE one of {', '.join(ROLES)} "
            f"and ID {EXPECTED}"
        )
    role = next(known for known in ROLES if known == match[1])
    return Identity(role, match[2])


def identity_of(auth_context: Mapping[str, Iterable[bytes]]) -> Identity | None:
    """The identity of a gRPC peer, from `context.auth_context()`.

    Returns:
        None without a client certificate, or where it does not carry exactly one well-formed `urn:ostrakon` name.
    """
    names = [name.decode("utf-8", "replace") for name in auth_context.get("x509_subject_alternative_name", ())]
    return only_identity(names)


def only_identity(names: Iterable[str]) -> Identity | None:
    """The one well-formed `urn:ostrakon` name among these; None where there is none, or another beside it."""
    ours = [name for name in names if name.startswith("urn:ostrakon:")]
    if len(ours) != 1:
        return None
    try:
        return parse(ours[0])
    except OstrakonError:
        return None
