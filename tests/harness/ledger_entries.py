"""A genesis, and entries that follow a ledger's head, for tests of ledgers."""

import math

from ostrakon.server.storage.ledger import CountedVote, Entry, Genesis, Ledger

GENESIS = Genesis(
    run="6c1b2f0e-7f0c-4f6e-9a53-0d7f2f3f9a10",
    settings={"task": "linear", "roster": ["a", "b", "c"], "f": 1, "gamma": 0.2},
    parameters=7,
    theta_0="theta-0",
    created="2024-05-01T12:00:00+00:00",
    layout=(("weight", (2, 3)), ("bias", (1,))),
)


def following(ledger: Ledger, term: int, name: str = "x") -> Entry:
    """An entry that follows the head; `name` makes its winner differ from others' of the same round."""
    head, genesis = ledger.head(), ledger.genesis()
    assert genesis is not None
    round = 1 if head is None else head.round + 1
    return Entry(
        round=round,
        term=term,
        base=genesis.theta_0 if head is None else head.winner,
        inner=f"inner-{round}-{name}",
        outer=f"outer-{round}-{name}",
        winner=f"inner-{round}-{name}",
        choice="inner",
        votes=(CountedVote("a", "inner", 0.25, math.inf), CountedVote("b", "inner", math.nan, -math.inf)),
        inner_cluster=("a", "b"),
        outer_cluster=("c",),
        missing={"c": "no vote"},
        refused={"c": {"wrong base": 2}},
        thin=False,
        seconds=1.5,
        running_sum=f"sum-{round}-{name}",
        previous=genesis.hash if head is None else head.hash,
    )
