"""The exact mode beside the run that it stands for: real sessions, a real server, liars and their meeting place."""

from pathlib import Path

import pytest

from ostrakon.common.aggregation import rule
from ostrakon.common.choice import Choice
from ostrakon.common.clock import MonotonicClock
from ostrakon.common.tasks.registry import task
from ostrakon.common.wire import Vector
from ostrakon.experiments import Experiment, experiment, run
from ostrakon.server.storage.ledger import Entry
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.attacks import Attack, Defence, attack_schedule
from ostrakon.worker.initial import write_initial
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.session import Session
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.byzantine import Byzantine
from ostrakon.worker.testbed.flipping import FlippingLearner
from ostrakon.worker.testbed.meeting import Key, Meetings
from ostrakon.worker.testbed.passing import Passing
from tests.harness.house import INITIAL, House
from tests.harness.scenario import Impatient, inline, play


def key_of(submission: Submission) -> Key:
    return Key(submission.stamp.run, submission.stamp.round, submission.base)


class Tapped(Passing):
    """An honest worker's way to the server, with an ear beside it."""

    def __init__(self, way: Passing, name: str, meetings: Meetings) -> None:
        super().__init__(way)
        self._name, self._meetings = name, meetings

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        assert submission.vector is not None
        self._meetings.copy(self._name, key_of(submission), submission.vector.copy())
        return await super().submit(submission)

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        choice: Choice = "inner" if request.choice == pb.CHOICE_INNER else "outer"
        self._meetings.copy_vote(self._name, Key(request.stamp.run, request.stamp.round), choice)
        return await super().vote(request)


class Colluder:
    """A corrupted worker's way to the meeting place."""

    def __init__(self, name: str, meetings: Meetings) -> None:
        self._name, self._meetings = name, meetings

    async def instead(self, attack: Attack, true: Submission, joined: pb.JoinResponse) -> Vector | None:
        assert true.vector is not None
        defence = Defence(rule(joined.rule), joined.workers, joined.byzantine)
        return await self._meetings.ask(self._name, key_of(true), true.vector, attack, defence)

    async def share(self, true: Submission) -> None:
        assert true.vector is not None
        self._meetings.share(self._name, key_of(true), true.vector)

    async def vote(self, stamp: pb.Stamp) -> Choice | None:
        return await self._meetings.ask_vote(self._name, Key(stamp.run, stamp.round))


def networked(directory: Path, one: Experiment) -> list[Entry]:
    """What a server with this experiment's workers commits."""
    roster = tuple(f"w{worker:02d}" for worker in range(one.workers))
    liars, honest = roster[: one.byzantine], roster[one.byzantine :]
    shared = ("task", "seed", "batch", "beta", "vote", "vote_batch")
    own = WorkerSettings(device="cpu", **{name: getattr(one, name) for name in shared})
    write_initial(own, directory / INITIAL)
    house = House(
        directory,
        task=one.task,
        roster=roster,
        f=one.bound,
        rule=one.rule,
        gamma=one.gamma,
        weight_decay=one.weight_decay,
        rounds=one.rounds,
        grace_floor=30.0,
    )
    meetings = Meetings(
        honest, liars, liars, tap_deadline=30, absent_after=3, seed=one.seed, clock=MonotonicClock(), offload=inline
    )
    sessions = []
    for name in roster:
        made = task(one.task, None, one.seed)
        way = Passing(house.transport(name))
        if name in liars:
            attacks = attack_schedule(one.attack)
            learner: LocalLearner = FlippingLearner(own, made, attacks)
            colluder = Colluder(name, meetings)
            way = Byzantine(way, attacks, one.byzantine_vote, seed=one.seed, colluders=colluder, offload=inline)
        else:
            learner, way = LocalLearner(own, made), Tapped(way, name, meetings)
        sessions.append(Session(one.task, 170, learner, way, Impatient(), layout=learner.layout, offload=inline))

    async def scenario() -> None:
        assert set(await house.run(*sessions)) == {"completed"}

    play(scenario())
    return [house.entry(round) for round in range(1, one.rounds + 1)]


@pytest.mark.parametrize(
    ("attack", "chosen", "more"),
    [
        ("none", "Mean2P", {}),
        ("none", "NNM+CWTM", {}),
        ("SF", "Mean2P", {}),
        ("Gauss@0,LF@3", "Cent2P", {"byzantine_vote": "random"}),
        ("Omn", "Avg", {}),
        ("SV(factor=0.5)", "Mean2P", {"byzantine_vote": "pivotal"}),
        ("SF@0,Omn@3", "TwoPhase(CWM, Avg)", {}),
        ("PGA@2", "Cent1P", {"seed": 2}),
        ("SF", "Mean2P", {"vote": "mixed", "beta": 0.5}),
        ("SV(factor=0.5)", "Mean2P", {"vote": "momentum", "beta": 0.5}),
        ("none", "Mean2P", {"vote": "proximity"}),
        ("SF", "Mean2P", {"vote": "proximity", "gamma": "1*warmup(3),0.3*cosine(5)@4", "weight_decay": 0.3}),
    ],
)
def test_one_process_commits_the_winners_and_the_models_of_a_networked_run(
    tmp_path: Path, attack: str, chosen: str, more: dict[str, object]
) -> None:
    one = experiment(
        task="linear",
        **{"workers": 7, "byzantine": 2, "attack": attack, "rule": chosen, "rounds": 5},
        **{"gamma": 0.5, "batch": 4, "beta": 0.9, "vote_batch": 4, "evaluate_every": 5} | more,
    )
    entries = networked(tmp_path, one)
    found = run(one, exact=True)
    assert list(found.digests) == [entry.winner for entry in entries]
    assert list(found.winners) == [entry.choice for entry in entries]
