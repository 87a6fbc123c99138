"""Who is shut out: a text file beside the authority's certificate, one `urn:ostrakon:<role>:<id>` a line.

A line names a process, not a certificate: every certificate in that name is refused. Lines that are empty or begin
with # say nothing.
"""

from collections.abc import Iterable
from pathlib import Path

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity, parse
from ostrakon.common.settings import TlsFiles

REVOKED = "revoked.txt"

_HEADING = "# Shut out by `ostrakon certificates revoke`: a server reads this file before each round.\n"


def revocation_list(tls: TlsFiles) -> Path:
    """Where a process looks for the list: beside the authority that it trusts."""
    return tls.ca.with_name(REVOKED)


def read_revoked(path: Path) -> frozenset[Identity]:
    """Read a list; where there is none, nobody is revoked.

    Raises:
        OstrakonError: it cannot be read, or a line is no identity.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError) as error:
        raise OstrakonError(f"list of the revoked {path} cannot be read ({error}): expected lines of text") from None
    named = (line.strip() for line in lines)
    try:
        return frozenset(parse(name) for name in named if name and not name.startswith("#"))
    except OstrakonError as error:
        raise OstrakonError(f"list of the revoked {path}: {error}") from None


def revoked_text(revoked: Iterable[Identity]) -> str:
    """The content of a list."""
    return _HEADING + "".join(f"{urn}\n" for urn in sorted(identity.urn for identity in revoked))
