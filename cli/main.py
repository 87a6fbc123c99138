"""The command `ostrakon`: all of its parts, in the order of its help, and how it ends.

The processes of a run may import this module again, and `--help` waits for it, so that it stays light: what does the
work is imported where it is used.
"""

import sys
from collections.abc import Sequence

import typer

from ostrakon.cli import certificates, models, processes, runs
from ostrakon.cli.conformance import conformance
from ostrakon.cli.experiments import experiments
from ostrakon.cli.explained import Explained, help_alone
from ostrakon.cli.partition import partition
from ostrakon.cli.rules import rules
from ostrakon.common.command import begin
from ostrakon.common.errors import OstrakonError
from ostrakon.common.runtime import run_to_exit

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def ostrakon(context: typer.Context) -> None:
    """Train a model that is chosen, round by round, by the vote of workers that nobody has to trust.

    A parameter server makes two candidates out of the momenta that its workers send; the workers vote, and the winner
    is committed for good.

    \b
    Begin with:
      ostrakon up               train on this machine: a server, an evaluator and 10 workers, 4 of them hostile
      ostrakon up --help        what can be chosen: the rule, the attack, the task, ...
    """
    help_alone(context)


app.command("up", cls=Explained)(runs.up)
app.command("status")(runs.status)
app.command("down")(runs.down)
app.command("report")(runs.report)
app.command("server", cls=Explained)(processes.server)
app.command("worker", cls=Explained)(processes.worker)
app.command("evaluate", cls=Explained)(processes.evaluate)
app.command("adversary", cls=Explained)(processes.adversary)
app.add_typer(certificates.app, name="certificates")
app.command("init")(models.init)
app.command("branch")(models.branch)
app.command("audit")(models.audit)
app.command("conformance")(conformance)
app.command("rules")(rules)
app.command("partition")(partition)
app.command("experiments", cls=Explained)(experiments)


def main() -> None:
    """Run the command that was given; ends the process with its exit status, 2 for a user's error."""
    begin()
    if not sys.flags.safe_path and "" not in sys.path:
        sys.path.append("")  # a task is imported from the current folder; nothing else is, that is installed
    run_to_exit(lambda: sys.exit(run(sys.argv[1:])), None)


def run(words: Sequence[str]) -> int:
    """Run a command; returns its exit status.

    Raises:
        OstrakonError: there is no such command or option, or what it was given cannot be used.
    """
    try:
        return app(words, prog_name="ostrakon", standalone_mode=False) or 0
    except typer.TyperException as error:
        raise OstrakonError(_sentence(error)) from None


def _sentence(error: typer.TyperException) -> str:
    """What is wrong with the words of a command, and where to read which ones there are."""
    said = error.format_message().removesuffix(".")
    context: typer.Context | None = getattr(error, "ctx", None)
    command = "ostrakon" if context is None else context.command_path
    return f"{said[:1].lower()}{said[1:]} (see {command} --help)"
