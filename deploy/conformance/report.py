"""What `ostrakon conformance` prepares and prints."""

import asyncio
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ostrakon.common.runtime import prepare, start_log
from ostrakon.deploy.certificates import init, issue
from ostrakon.deploy.conformance.stage import NAME
from ostrakon.deploy.conformance.trial import SCENES, Verdict, trial
from ostrakon.deploy.conformance.worker import ByHand, Command, Worker

THREADS = 1  # a model of a trial is small, and its worker works beside it


def report(initial: Path, command: str | None, folder: Path, listen: str, patience: float) -> int:
    """Play all scenes to a worker; returns the exit status: 0 where it did everything right, else 1.

    Args:
        initial: theta_0, whose task and model the worker is built for.
        command: starts the worker; without one, somebody is asked to.
        folder: for its certificate, and for what it and the server say.
        listen: address of the server.
        patience: seconds that a call may take to come.

    Raises:
        OstrakonError: the model, the folder, the address or the command cannot be used.
    """
    console = Console(highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    init(folder)
    server, worker = issue(folder, "server", "conformance"), issue(folder, "worker", NAME)
    start_log(folder / "server.log")
    prepare(THREADS)

    def say(text: str) -> None:
        console.print(text, markup=False)

    how = f"start the worker: server {listen}, ca {worker.ca}, certificate {worker.certificate}, key {worker.key}"
    on_trial: Worker = ByHand(say, how) if command is None else Command(command, folder / "worker.log")

    def tell(verdict: Verdict) -> None:
        say(f"{'wrong' if verdict.wrong else 'right'}  {verdict.scene.name}")

    verdicts = asyncio.run(trial(initial, listen, server, on_trial, patience=patience, tell=tell))
    console.print(_table(verdicts))
    right = sum(not verdict.wrong for verdict in verdicts)
    say(f"{right} of {len(SCENES)} scenes right" + ("" if command is None else f"; what it said: {folder}/worker.log"))
    return 0 if right == len(SCENES) else 1


def _table(verdicts: list[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("scene", "", "what the worker has to do; what it did wrong"):
        table.add_column(name, overflow="fold")
    for verdict in verdicts:
        said = verdict.scene.right if not verdict.wrong else f"has to: {verdict.scene.right}. {verdict.wrong}"
        table.add_row(verdict.scene.name, "wrong" if verdict.wrong else "right", said)
    return table
