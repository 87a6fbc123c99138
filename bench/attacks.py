"""Every attack against some rules, in short runs of `ostrakon up`: the accuracy that each run ends with."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ostrakon.common.markdown
from ostrakon.common.errors import OstrakonError
from ostrakon.common.schedule import NONE
from ostrakon.deploy.launch_settings import NOT_IN_NAMES
from ostrakon.deploy.report import SUMMARY
from ostrakon.deploy.run_folder import RUNS
from ostrakon.worker.attacks import ATTACKS

RULES = ("Avg", "GM", "CWTM", "Multi-Krum", "Mean1P", "Cent2P", "Mean2P")
ROWS = (NONE, *ATTACKS)

PLACE = "the table of attacks"


@dataclass(frozen=True)
class Setting:
    """What all runs have in common: `byzantine` of `workers` lie, and the rule reckons with as many."""

    task: str
    workers: int
    byzantine: int
    rounds: int
    seed: int

    def words(self, attack: str, rule: str) -> list[str]:
        """One run, as `ostrakon up` takes it; the same words go on with the same run."""
        name = f"attacks-{self.task}-{self.workers}-{self.byzantine}-{self.rounds}-{self.seed}-{attack}-{rule}"
        return [
            f"RUN={NOT_IN_NAMES.sub('-', name).strip('-')}",
            f"TASK={self.task}",
            f"WORKERS={self.workers}",
            f"BYZANTINE={self.byzantine}",
            f"F={self.byzantine}",
            f"ROUNDS={self.rounds}",
            f"SEED={self.seed}",
            f"EVALUATE_EVERY={self.rounds}",
            f"ATTACK={attack}",
            f"RULE={rule}",
        ]


def accuracy(setting: Setting, attack: str, rule: str) -> float:
    """The accuracy of the last committed model, 0 to 1; a run that is over already is not repeated.

    Raises:
        OstrakonError: the run could not be completed.
    """
    words = setting.words(attack, rule)
    name = words[0].partition("=")[2]
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "ostrakon", "up", *words],
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OstrakonError(f"run {name} ended with status {done.returncode}: {done.stdout.strip()[-500:]}")
    summary = json.loads((RUNS / name / SUMMARY).read_text(encoding="utf-8"))
    if summary["missing"]:
        raise OstrakonError(f"run {name} is no measurement, some workers were missing: {summary['missing']}")
    if summary["accuracy"] is None:
        raise OstrakonError(f"run {name} was not measured: see its logs in {RUNS / name}")
    return float(summary["accuracy"])


def markdown(setting: Setting, found: Mapping[tuple[str, str], float], rules: Iterable[str]) -> str:
    """The table for the documentation: attacks down, rules across, the worst of each rule at the end."""
    rules = tuple(rules)
    rows = [[f"`{attack}`", *(_cell(found.get((attack, rule))) for rule in rules)] for attack in ROWS]
    worst = [min((value for (_, of), value in found.items() if of == rule), default=None) for rule in rules]
    rows.append(["worst", *map(_cell, worst)])
    title = (
        f"Task {setting.task}, {setting.workers} workers, {setting.byzantine} of them Byzantine, "
        f"f = {setting.byzantine}, {setting.rounds} rounds, seed {setting.seed}: "
        "test accuracy of the last committed model."
    )
    return f"{title}\n\n{ostrakon.common.markdown.table(['attack', *(f'`{rule}`' for rule in rules)], rows)}"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
