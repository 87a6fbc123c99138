"""What a seed decides before anything happens: the run, its liars, and how often what fails."""

from collections.abc import Set
from dataclasses import dataclass, field
from random import Random

import numpy as np

from ostrakon.common.aggregation import rule
from ostrakon.common.errors import OstrakonError
from ostrakon.common.wire import Vector

RULES = ("Mean2P", "Cent2P", "TwoPhase(Mean1P, Avg)", "TwoPhase(CWM, Krum)", "Mean1P", "Median1P", "CWTM")

# Probabilities of what fails by itself: per message, per call, per operation of the disk.
MESSAGES = ("request lost", "reply lost", "upload cut", "models cut", "message late", "call doubled")
DISK = (
    "unknown, not committed",
    "unknown, committed",
    "unknown, committed later",
    "ledger cannot be read",
    "disk full",
    "killed before the genesis",
    "killed after the genesis",
    "killed after drawing a term",
    "killed while a file is written",
    "killed after a file is written",
    "killed between file and entry",
    "killed between entry and announcement",
    "killed before a file is deleted",
    "server stopped while it starts",
)
AT_THE_START = ("ledger cannot be read", "killed after drawing a term", "server stopped while it starts")
EXPLOSIVE = 1e13


@dataclass(frozen=True)
class Scenario:
    """One run and what befalls it."""

    n: int
    f: int
    d: int
    rounds: int
    rule: str
    asynchronous: bool
    liars: frozenset[str]
    gamma: float = 0.5  # EXPLOSIVE: the model blows up whatever the workers do
    spread: float = 1.0  # between what the workers' data pull to; 0: all are where they want to be
    rates: dict[str, float] = field(default_factory=dict)
    strikes: int = 0  # how often something is killed, stopped or cut off
    every: float = 200.0  # steps between two of them, on average
    strangers: bool = False

    @property
    def roster(self) -> tuple[str, ...]:
        return tuple("abcdefg"[: self.n])

    def submissions_needed(self, seats: int) -> int:
        """The submission quorum."""
        return max(seats - self.f, 2 * self.f + 1) if self.asynchronous else seats - self.f

    def seats(self, revoked: Set[str]) -> tuple[str, ...]:
        """The members that count toward quorums: a revoked one no more, if the others can bear f without it."""
        seats = self.roster
        for member in self.roster:
            if member in revoked and usable(self.rule, len(seats) - 1, self.f, asynchronous=self.asynchronous):
                seats = tuple(other for other in seats if other != member)
        return seats

    def targets(self) -> dict[str, Vector]:
        """Where each worker's data pull the model to; equal for some."""
        rng = np.random.default_rng(self.n + self.d)
        return {name: (self.spread * rng.integers(-3, 6, self.d)).astype(np.float32) for name in self.roster}


def usable(name: str, n: int, f: int, *, asynchronous: bool) -> bool:
    """Whether a run of n workers can have this rule and f."""
    try:
        rule(name).check_run(n, f, asynchronous=asynchronous)
    except OstrakonError:
        return False
    return 2 * f < n


def draw_scenario(rng: Random, *, calm: bool = False) -> Scenario:
    """Draw a run; `calm`: nobody lies and nothing fails."""
    while True:
        n = rng.randint(3, 7)
        asynchronous = rng.random() < 0.3
        f = (n - 1) // 3 if asynchronous else rng.randint(min(1, (n - 1) // 2), (n - 1) // 2)
        name = rng.choice(RULES) if rng.random() < 0.5 else rng.choice(RULES[:2])
        if usable(name, n, f, asynchronous=asynchronous):
            break
    roster = "abcdefg"[:n]
    scenario = Scenario(
        n=n,
        f=f,
        d=rng.randint(3, 4),
        rounds=rng.randint(3, 8),
        rule=name,
        asynchronous=asynchronous,
        liars=frozenset() if calm else frozenset(rng.sample(roster, rng.randint(0, f))),
        spread=rng.choice((1.0, 1.0, 1.0, 1.0, 0.0)),
    )
    if calm:
        return scenario
    messages, disk = rng.choice((0.0, 0.003, 0.01, 0.03)), rng.choice((0.0, 0.01, 0.05, 0.15))
    rates = dict.fromkeys(MESSAGES, messages) | dict.fromkeys(DISK, disk)
    rates["message late"] *= 3
    rates["model lost"] = min(0.2, 3 * disk)
    for fault in rng.sample(DISK, 3):  # some seeds suffer from some faults much more
        rates[fault] = 2 * disk
    for fault in AT_THE_START:  # a server has to come so far
        rates[fault] = min(0.05, rates[fault])
    return Scenario(
        **{
            **vars(scenario),
            "gamma": EXPLOSIVE if rng.random() < 0.03 else scenario.gamma,
            "rates": rates,
            "strikes": rng.choice((0, 3, 6, 10)),
            "every": rng.choice((60.0, 200.0, 500.0)),
            "strangers": rng.random() < 0.5,
        }
    )
