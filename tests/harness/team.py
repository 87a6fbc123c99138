"""Teams of which some lie or fail: started as real processes, and what must hold of their runs."""

import signal
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from ostrakon.common.flat_model import FlatModel
from ostrakon.common.reasons import Missing, Reason
from ostrakon.common.tasks.linear import Linear
from ostrakon.common.tasks.passes import initial_model
from ostrakon.deploy.record import read_record
from ostrakon.deploy.report import summarise
from ostrakon.server.storage.audit import audit
from ostrakon.worker.attacks import PIVOTAL, needs_colluders
from ostrakon.worker.evaluator.measure import Measured, measure
from ostrakon.worker.testbed.faults import Fault
from tests.harness.cluster import Cluster, wait_for
from tests.harness.driven_worker import refused

Liar = Mapping[str, Any]

# What the server says to each fault: the reasons under which its calls are refused.
REFUSED: dict[Fault, set[Reason]] = {
    Fault.SILENT: set(),
    Fault.SLOW: set(),  # or late, or in another round: it depends on when it comes
    Fault.CRASH_BEFORE_SUBMIT: set(),
    Fault.CRASH_MID_STREAM: set(),  # or wrong length, if the server hears of the end first
    Fault.CRASH_BEFORE_VOTE: set(),
    Fault.CRASH_AFTER_VOTE: set(),
    Fault.HALF_STREAM: {Reason.LATE_SUBMISSION},
    Fault.WRONG_LENGTH: {Reason.WRONG_LENGTH},
    Fault.WRONG_OFFSET: {Reason.WRONG_OFFSET},
    Fault.NAN: {Reason.NOT_FINITE},
    Fault.INF: {Reason.NOT_FINITE},
    Fault.HUGE: set(),
    Fault.ZEROS: set(),
    Fault.STALE_ROUND: {Reason.WRONG_ROUND},
    Fault.FUTURE_ROUND: {Reason.WRONG_ROUND},
    Fault.WRONG_TERM: {Reason.WRONG_TERM},
    Fault.WRONG_RUN: {Reason.WRONG_RUN},
    Fault.SAME_TWICE: set(),
    Fault.OTHER_TWICE: {Reason.EQUIVOCATION},
    Fault.TWO_VOTES: {Reason.SECOND_VOTE},
    Fault.VOTE_AS_ANOTHER: {Reason.OLDER_SESSION},
    Fault.FLOOD: {Reason.TOO_MANY_CALLS},
    Fault.TWIN: {Reason.OLDER_SESSION},
}

UNCERTAIN = (Fault.SLOW, Fault.CRASH_MID_STREAM)

# What may befall whoever is not waited for.
LATE = {Reason.LATE_SUBMISSION, Reason.WRONG_ROUND, Reason.WRONG_BASE, Reason.MODEL_REPLACED}

# Whoever asks for more than its share has to wait for its turn: its momenta may come too late.
SLOWED = {Fault.FLOOD}

# Those whose momenta are no longer there once they fail.
MISSING = {fault for fault in Fault if fault.value.startswith("crash")} | {
    *(Fault.SILENT, Fault.SLOW, Fault.HALF_STREAM, Fault.WRONG_LENGTH, Fault.WRONG_OFFSET, Fault.NAN, Fault.INF),
    *(Fault.STALE_ROUND, Fault.FUTURE_ROUND, Fault.WRONG_TERM, Fault.WRONG_RUN),
}


class Team:
    """A cluster whose first workers are these liars; all others are honest, and tapped if somebody colludes."""

    def __init__(self, make: Callable[..., Cluster], liars: list[Liar], name: str = "team", **server: Any) -> None:
        # Whoever is missing costs one grace period, long enough for an honest worker on a busy machine, and no more.
        settings = {"workers": 2 * len(liars) + 1, "f": len(liars), "grace_floor": 4.0, "absent_after": 1, **server}
        self.cluster = cluster = make(name, **settings)
        self.liars = dict(zip(cluster.roster, liars, strict=False))
        self.honest = cluster.roster[len(liars) :]
        self.server = cluster.server()
        corrupted = [name for name, liar in self.liars.items() if needs_colluders(liar.get("attack"))]
        voters = [name for name, liar in self.liars.items() if liar.get("byzantine_vote") == PIVOTAL]
        colluders = {*corrupted, *voters}
        meeting = self._adversary(corrupted, voters) if colluders else None
        self.processes = {
            name: cluster.worker(name, **liar, **({"adversary": meeting} if name in colluders else {}))
            for name, liar in self.liars.items()
        }
        tap = {"tap": meeting, "tap_deadline": 20.0} if colluders else {}
        self.processes |= {name: cluster.worker(name, **tap) for name in self.honest}

    def _adversary(self, corrupted: list[str], voters: list[str]) -> str:
        return self.cluster.adversary(corrupted, voters, honest=list(self.honest), tap_deadline=20.0)

    def wait_for_rounds(self, rounds: int) -> None:
        """Until so many are committed."""
        wait_for(lambda: self.cluster.committed() >= rounds, f"{rounds} rounds")

    def wait_for_refusals(self, expected: Mapping[str, set[Reason]]) -> None:
        """Until Status shows that each of these workers was refused for these reasons."""

        def all_shown() -> bool:
            status = self.cluster.status()
            if status is None:
                return False
            shown = refused(status).keys()
            return {(worker, reason) for worker, reasons in expected.items() for reason in reasons} <= shown

        wait_for(all_shown, f"the refusals {dict(expected)}")

    def refused(self) -> dict[str, set[str]]:
        """Who was refused for what, by the ledger."""
        found: dict[str, set[str]] = {}
        for entry in self.cluster.entries():
            for worker, reasons in entry.refused.items():
                found.setdefault(worker, set()).update(reasons)
        return found

    def stop(self) -> None:
        """End the run in good order."""
        self.server.signal(signal.SIGTERM)
        assert self.server.wait() == 0, self.server.text

    def check(self) -> None:
        """What holds whatever a minority does."""
        entries = self.cluster.entries()
        audit(self.cluster.run)
        summary = summarise(read_record(self.cluster.run))
        for worker, reasons in self.refused().items():
            assert worker in self.liars, (worker, reasons)
            assert summary.refused[worker].keys() >= reasons
        # An accepted submission names the committed digest as its base, so honest workers hold each committed model.
        for entry in entries:
            assert not entry.missing.keys() & set(self.honest), (entry.round, entry.missing)
            assert max(Counter(vote.worker for vote in entry.votes).values(), default=0) <= 1
        for name, liar in self.liars.items():
            if needs_colluders(liar.get("attack")):
                assert not any(entry.missing.get(name) == Missing.NO_SUBMISSION for entry in entries), (
                    "it was told nothing"
                )
        for name in self.honest:
            assert self.processes[name].alive or self.processes[name].wait() == 0, self.processes[name].text

    def measure(self) -> Measured:
        """The last committed model on test data."""
        task = Linear()
        model = FlatModel(initial_model(task, 1), "cpu")
        tensors = load_file(self.cluster.run / "last.safetensors")
        theta = np.concatenate([tensors[name].ravel() for name, _ in model.module.named_parameters()])
        return measure(task, model, theta, task.test_data(1))
