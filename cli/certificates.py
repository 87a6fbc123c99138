"""`ostrakon certificates`: a development authority, and the certificate of each process of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ostrakon.cli.explained import help_alone
from ostrakon.deploy.validity import CERTIFICATE_DAYS, LONGEST_DAYS

if TYPE_CHECKING:
    from ostrakon.common.identity import Role

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the authority and its certificates.")]


@app.callback(invoke_without_command=True)
def certificates(context: typer.Context) -> None:
    """Make an authority and the certificates of a run.

    A run over several hosts needs a development authority and one certificate for each process. `ostrakon up` makes its
    own.

    \b
    Example:
      ostrakon certificates init certificates
      ostrakon certificates issue certificates server main --host ps.example.org
      ostrakon certificates issue certificates worker oslo
    """
    help_alone(context)


@app.command("init")
def init(directory: Folder) -> None:
    """Make DIR/ca.pem and DIR/ca.key, unless they exist.

    \b
    Example:
      ostrakon certificates init certificates
    """
    from ostrakon.deploy.certificates import init as make

    make(directory)
    typer.echo(f"authority: {directory / 'ca.pem'}")


@app.command("issue")
def issue(
    directory: Folder,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="server, worker, observer, operator or adversary.")],
    id: Annotated[str, typer.Argument(metavar="ID", help="Id within the role, for a worker as on the roster.")],
    host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A name or IP address of this server; repeatable.")
    ] = None,
    days: Annotated[
        int, typer.Option(metavar="N", min=1, max=LONGEST_DAYS, help="How long it is valid.")
    ] = CERTIFICATE_DAYS,
    renew: Annotated[bool, typer.Option("--renew", help="A new one although the old one is still valid.")] = False,
) -> None:
    """Make DIR/ROLE-ID.pem and .key, unless they are valid.

    Needs an authority in DIR. Where a process is running with the old ones, it takes up the new ones by itself.

    \b
    Examples:
      ostrakon certificates issue certificates server main --host ps.example.org
      ostrakon certificates issue certificates worker oslo --renew
    """
    from ostrakon.deploy.certificates import issue as make

    files = make(directory, _role(role, id), id, host or (), days, renew=renew)
    typer.echo(f"certificate: {files.certificate}\nkey: {files.key}")


@app.command("revoke")
def revoke(
    directory: Folder,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="worker, observer or operator.")],
    id: Annotated[str, typer.Argument(metavar="ID", help="Id within the role.")],
) -> None:
    """Shut a process out for good, under any certificate.

    It goes on the list DIR/revoked.txt. A server finds the list beside the authority's certificate (its setting tls.ca)
    and reads it before each round.

    \b
    Example:
      ostrakon certificates revoke certificates worker oslo
    """
    from ostrakon.deploy.certificates import revoke as shut_out

    path = shut_out(directory, _role(role, id), id)
    typer.echo(f"{role} {id} is revoked. Servers have to find the list beside their ca.pem: {path}")
    if not (directory / f"{role}-{id}.pem").exists():
        typer.echo(f"note: {directory} holds no certificate of {role} {id}; is the name right?")


@app.command("list")
def show(directory: Folder) -> None:
    """Show every certificate in DIR.

    Tells whose each is, until when it is valid, and whether it is revoked.

    \b
    Example:
      ostrakon certificates list certificates
    """
    from rich.console import Console
    from rich.table import Table

    from ostrakon.deploy.certificates import issued

    table = Table(box=None, pad_edge=False)
    for name in ("role", "id", "valid until (UTC)", "state"):
        table.add_column(name, no_wrap=True)
    for one in issued(directory):
        until = "" if one.until is None else f"{one.until:%Y-%m-%d %H:%M}"
        table.add_row(one.identity.role, one.identity.id, until, one.state)
    Console().print(table)


def _role(role: str, id: str) -> "Role":
    from ostrakon.common.identity import parse

    return parse(f"urn:ostrakon:{role}:{id}").role
