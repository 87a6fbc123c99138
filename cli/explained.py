"""Help that ends with every setting a command takes, in the words of the settings themselves."""

import json
from typing import Any

import typer
from typer.core import TyperCommand

_WIDTH = 34  # columns of a setting and its default


class Explained(TyperCommand):
    """A command that takes settings; they are looked up when its help is shown, for pydantic takes its time."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write(f"\n{_settings(self.name or '')}\n")


def help_alone(context: typer.Context) -> None:
    """Show the help of a group of commands where none of them is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _settings(command: str) -> str:
    from ostrakon.deploy.launch_settings import described
    from ostrakon.experiments.tables import settings as tables
    from ostrakon.server.settings import ServerSettings
    from ostrakon.worker.testbed.settings import AdversarySettings, WorkerFile

    if command == "up":
        return f"Settings, in any letter case, with their defaults:\n{described()}"
    if command == "experiments":
        return f"Settings, in any letter case, with their defaults:\n{tables.described()}"
    files = {"server": ServerSettings, "adversary": AdversarySettings}
    return f"Settings in FILE, with their defaults:\n{_in_a_file(files.get(command, WorkerFile))}"


def _in_a_file(kind: Any) -> str:
    """Every setting of a process with its default and its meaning, one a line."""
    from ostrakon.common.settings import TlsFiles

    lines = []
    for name, field in kind.model_fields.items():
        written = name
        if not field.is_required() and field.default is not None:
            written = f"{name} = {json.dumps(field.default)}"
        if name == "tls":
            written = ", ".join(f"tls.{part}" for part in TlsFiles.model_fields)
        needed = " (needed)" if field.is_required() else ""
        lines.append(f"  {written:<{_WIDTH}}{field.description}{needed}")
    return "\n".join(lines)
