"""Whether a run's folder tells one consistent story: the chain of entries, the votes, the kept model files.

A chain cannot show that its end was cut off: the workers, who remember the head they were told, show that.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from ostrakon.common.algorithm import tally, unopposed
from ostrakon.common.errors import OstrakonError
from ostrakon.common.layout import parameters
from ostrakon.common.reasons import Missing
from ostrakon.common.run_files import LEDGER, MODELS
from ostrakon.server.storage.ledger.entry import Entry, Genesis, Parent
from ostrakon.server.storage.ledger.sqlite import SqliteLedger, opened_to_read
from ostrakon.server.storage.model_store import ModelKey, ModelStore, initial_key


class Broken(OstrakonError):
    """The first place where the story does not hold; round 0 is the genesis."""

    def __init__(self, round: int, what: str) -> None:
        super().__init__(f"{'genesis' if round == 0 else f'round {round}'}: {what}")
        self.round = round
        self.what = what


@dataclass(frozen=True)
class Report:
    """What an audit that found nothing wrong has looked at."""

    run: str  # UUID
    rounds: int  # committed
    head: str  # hash of the last entry, of the genesis before the first
    terms: int  # drawn
    models: int  # kept files of committed models, theta_0's included, all intact
    inner_wins: int
    outer_wins: int
    thin: int  # rounds with fewer than 2f+1 submissions
    parent: Parent | None  # the run whose model this one began with

    def __str__(self) -> str:
        came = self.parent
        began = f"; it began with round {came.round} of run {came.run}, entry {came.hash}" if came else ""
        return (
            f"run {self.run} is intact: {self.rounds} rounds, terms drawn: {self.terms} "
            f"(inner won {self.inner_wins}, outer {self.outer_wins}, thin {self.thin}), "
            f"{self.models} model files match, head {self.head}{began}"
        )


def audit(directory: Path) -> Report:
    """Check a run that no server is working on.

    Args:
        directory: the run's folder: ledger.sqlite and models/.

    Raises:
        Broken: the first entry, by round, that is not as it must be.
        OstrakonError: there is no run in this folder, or its ledger cannot be read.
    """
    path = directory / LEDGER
    if not path.is_file():
        raise OstrakonError(f"{path} does not exist: give the folder of a run")
    if not path.stat().st_size:
        raise OstrakonError(f"the ledger in {directory} is empty: no run has begun here, or it was cut off")
    with opened_to_read(path) as ledger:
        return _audit(ledger, ModelStore(directory / MODELS), directory)


def _audit(ledger: SqliteLedger, store: ModelStore, directory: Path) -> Report:
    try:
        genesis = ledger.genesis()
    except OstrakonError as error:
        raise Broken(0, str(error)) from None
    if genesis is None:
        raise OstrakonError(f"the ledger in {directory} is empty: no run has begun here")
    _check_genesis(genesis)
    terms = ledger.terms()
    key = initial_key(genesis.theta_0, genesis.parameters)
    models = int(_model_is_kept(store, 0, key))
    wins: Counter[str] = Counter()
    thin, previous, term, last = 0, genesis.hash, 0, 0
    revoked: set[str] = set()
    entries = ledger.entries()
    for round in itertools.count(1):
        try:
            entry = next(entries, None)
        except OstrakonError as error:
            raise Broken(round, str(error)) from None
        if entry is None:
            break
        _check_chain(entry, round, previous, key.digest)
        _check_term(entry, term, terms)
        _check_winner(entry)
        _check_revoked(entry, genesis, revoked)
        _check_quorum(entry, genesis)
        _check_votes(entry, genesis)
        key = ModelKey(entry.winner, entry.running_sum)
        models += _model_is_kept(store, round, key)
        wins[entry.choice] += 1
        thin += entry.thin
        revoked.update(entry.revoked)
        previous, term, last = entry.hash, entry.term, round
    if not store.path(key).exists():
        raise Broken(last, f"model file {store.path(key)} of the head is missing")
    return Report(genesis.run, last, previous, len(terms), models, wins["inner"], wins["outer"], thin, genesis.parent)


def _check_genesis(genesis: Genesis) -> None:
    found = parameters(genesis.layout)
    if found != genesis.parameters:
        raise Broken(0, f"the layout has {found} values, the run {genesis.parameters}")
    if not {"roster", "f"} <= genesis.settings.keys():
        raise Broken(0, f"the settings {sorted(genesis.settings)} lack roster or f")


def _check_chain(entry: Entry, round: int, previous: str, base: str) -> None:
    if entry.round != round:
        raise Broken(round, f"it is missing; the next one is entry {entry.round}")
    if entry.previous != previous:
        raise Broken(round, f"previous is {entry.previous}, but what precedes it has hash {previous}")
    if entry.base != base:
        raise Broken(round, f"base is {entry.base}, but the model committed before it is {base}")


def _check_term(entry: Entry, before: int, terms: Mapping[int, str]) -> None:
    if entry.term not in terms:
        raise Broken(entry.round, f"term {entry.term} was never drawn")
    if entry.term < before:
        raise Broken(entry.round, f"term {entry.term} is smaller than term {before} of the entry before")


def _check_winner(entry: Entry) -> None:
    proposed = entry.inner if entry.choice == "inner" else entry.outer
    if proposed is None or entry.winner != proposed:
        raise Broken(entry.round, f"the winner is {entry.winner}, but {entry.choice} is {proposed}")


def _check_revoked(entry: Entry, genesis: Genesis, before: Set[str]) -> None:
    if again := before - set(entry.revoked):
        raise Broken(entry.round, f"{', '.join(sorted(again))} is no longer revoked")
    if unknown := set(entry.revoked) - set(genesis.settings["roster"]):
        raise Broken(entry.round, f"{', '.join(sorted(unknown))} is revoked and not on the roster")
    seats, f = len(entry.seats(genesis.settings["roster"])), genesis.settings["f"]
    if 2 * f >= seats:
        raise Broken(entry.round, f"so many are revoked that f = {f} is not below half of the {seats} seats")
    part = {vote.worker for vote in entry.votes} | {*entry.inner_cluster, *entry.outer_cluster}
    if part := part & set(entry.revoked):
        raise Broken(entry.round, f"{', '.join(sorted(part))} is revoked and had a part in it")


def _check_quorum(entry: Entry, genesis: Genesis) -> None:
    roster, f = entry.seats(genesis.settings["roster"]), genesis.settings["f"]
    silent = sum(why != Missing.NO_VOTE for why in entry.missing.values())
    if silent > f:
        raise Broken(entry.round, f"{silent} of {len(roster)} workers submitted nothing, more than f = {f}")
    if entry.thin != (len(roster) - silent < 2 * f + 1):
        raise Broken(entry.round, f"thin is {entry.thin}, but {len(roster) - silent} submitted and 2f+1 is {2 * f + 1}")


def _check_votes(entry: Entry, genesis: Genesis) -> None:
    roster = entry.seats(genesis.settings["roster"])
    seen: set[str] = set()
    for vote in entry.votes:
        if vote.worker not in roster:
            raise Broken(entry.round, f"{vote.worker} voted and is not on the roster")
        if vote.worker in seen:
            raise Broken(entry.round, f"{vote.worker} voted twice")
        seen.add(vote.worker)
    if unopposed(entry.inner, entry.outer) is not None:
        return
    votes, quorum = tally((vote.choice for vote in entry.votes), len(roster)), len(roster) - genesis.settings["f"]
    counted = f"{votes.inner} votes for inner, {votes.outer} for outer, {votes.outstanding} outstanding"
    if not votes.decided and len(seen) < quorum:
        raise Broken(entry.round, f"the vote was not decided: {counted}, a quorum is {quorum}")
    if entry.choice != votes.winner:
        raise Broken(entry.round, f"{entry.choice} won against the vote: {counted}")


def _model_is_kept(store: ModelStore, round: int, key: ModelKey) -> bool:
    if not store.path(key).exists():
        return False
    try:
        store.read(key)
    except OstrakonError as error:
        raise Broken(round, str(error)) from None
    return True
