"""A worker that lies, between its honest session and the server: what arrives there, and what is counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostrakon.common.choice import Choice
from ostrakon.common.errors import OstrakonError
from ostrakon.common.reasons import Missing
from ostrakon.common.wire import Vector
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.attacks import Attack, attack_schedule
from ostrakon.worker.process import work
from ostrakon.worker.session import Session
from ostrakon.worker.submission import Submission
from ostrakon.worker.testbed.byzantine import Byzantine
from ostrakon.worker.testbed.passing import Passing
from ostrakon.worker.testbed.settings import ByzantineVote, WorkerFile
from ostrakon.worker.transport import CallFailed
from tests.harness.house import D, House, Pull
from tests.harness.scenario import Impatient, inline, play

ROSTER = ("a", "b", "c", "d", "e")


class Recorder(Passing):
    """Keeps what goes to the server, and breaks the first so many submissions after they were sent."""

    def __init__(self, transport: Any, breaks: int = 0) -> None:
        super().__init__(transport)
        self.submitted: list[Submission] = []
        self.voted: list[pb.VoteRequest] = []
        self._breaks = breaks

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        self.submitted.append(submission)
        if len(self.submitted) <= self._breaks:
            raise CallFailed("UNAVAILABLE", None, "the connection broke")
        return await self.transport.submit(submission)

    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        self.voted.append(request)
        return await self.transport.vote(request)


class Oracle:
    """Colluders that answer what they are told to."""

    def __init__(self, vector: Vector | None = None, choice: Choice | None = None) -> None:
        self.vector, self.choice = vector, choice
        self.asked: list[tuple[str, int, str]] = []
        self.shared: list[int] = []

    async def instead(self, attack: Attack, true: Submission, joined: pb.JoinResponse) -> Vector | None:
        self.asked.append((attack.name, true.stamp.round, joined.rule))
        return self.vector

    async def share(self, true: Submission) -> None:
        self.shared.append(true.stamp.round)

    async def vote(self, stamp: pb.Stamp) -> Choice | None:
        return self.choice


def run_with_a_liar(
    directory: Path,
    attack: str | None,
    vote: ByzantineVote = "honest",
    breaks: int = 0,
    grace_floor: float = 5.0,
    **byzantine: Any,
) -> tuple[House, Recorder]:
    """Three rounds in which `a` lies."""
    house = House(directory, roster=ROSTER, f=2, grace_floor=grace_floor, join_timeout=grace_floor)

    async def scenario() -> Recorder:
        recorder = Recorder(house.transport("a"), breaks)
        way = Byzantine(recorder, attack_schedule(attack), vote, seed=1, offload=inline, **byzantine)
        liar = Session("pull", D, Pull(1.2), way, Impatient(), offload=inline)
        honest = [house.session(name, Pull(1 + i / 10)) for i, name in enumerate(ROSTER[1:])]
        assert set(await house.run(liar, *honest)) == {"completed"}
        return recorder

    return house, play(scenario())


def cast(house: House) -> list[str | None]:
    """What `a` was counted for, round by round."""
    return [next((vote.choice for vote in house.entry(round).votes if vote.worker == "a"), None) for round in (1, 2, 3)]


def test_the_attack_of_the_round_goes_to_the_server_and_the_true_momentum_does_not(tmp_path: Path) -> None:
    _, recorder = run_with_a_liar(tmp_path, "SF(scale=2)@2,none@3")
    other = tmp_path / "honest"
    other.mkdir()
    _, honest = run_with_a_liar(other, None)
    sent = [submission.vector for submission in recorder.submitted]
    true = [submission.vector for submission in honest.submitted]
    np.testing.assert_array_equal(sent[0], true[0])
    np.testing.assert_array_equal(sent[1], -2 * true[1])
    assert [submission.stamp.round for submission in recorder.submitted] == [1, 2, 3]


def test_the_same_bytes_are_sent_again_after_a_broken_connection(tmp_path: Path) -> None:
    colluders = Oracle(np.full(D, 7, np.float32))
    _, recorder = run_with_a_liar(tmp_path, "Omn@0,Gauss@2", breaks=2, colluders=colluders)
    assert [submission.stamp.round for submission in recorder.submitted] == [1, 1, 1, 2, 3]
    assert len({submission.digest for submission in recorder.submitted[:3]}) == 1
    assert colluders.asked == [("Omn", 1, "Mean2P")]
    assert colluders.shared == [2, 3]  # in which it acts alone, but the others want to know its vector


def test_colluders_say_what_to_send(tmp_path: Path) -> None:
    house, recorder = run_with_a_liar(tmp_path, "Omn", colluders=Oracle(np.full(D, 5, np.float32)))
    for submission in recorder.submitted:
        np.testing.assert_array_equal(submission.vector, np.full(D, 5, np.float32))
    assert not any(house.entry(round).missing or house.entry(round).refused for round in (1, 2, 3))


@pytest.mark.parametrize("colluders", [None, Oracle(None)])
def test_who_is_told_nothing_sends_nothing_and_is_missed(tmp_path: Path, colluders: Oracle | None) -> None:
    house, recorder = run_with_a_liar(tmp_path, "Omn", colluders=colluders, grace_floor=0.05)
    assert not recorder.submitted
    assert all(house.entry(round).missing["a"] in (Missing.NO_SUBMISSION, Missing.SILENT) for round in (1, 2, 3))


@pytest.mark.parametrize(
    ("vote", "expected"),
    [("inner", ["inner"] * 3), ("outer", ["outer"] * 3), ("silent", [None] * 3), ("pivotal", [None] * 3)],
)
def test_votes_are_what_was_told_whatever_the_losses(
    tmp_path: Path, vote: ByzantineVote, expected: list[str | None]
) -> None:
    house, recorder = run_with_a_liar(tmp_path, None, vote, colluders=Oracle(choice=None))
    counted = [choice for choice, round in zip(cast(house), (1, 2, 3), strict=True) if house.entry(round).votes]
    assert counted == expected[: len(counted)]
    assert len(recorder.voted) == (0 if expected[0] is None else len(counted))


def test_the_larger_loss_is_voted_for_and_both_are_reported_as_they_are(tmp_path: Path) -> None:
    _, recorder = run_with_a_liar(tmp_path, None, "larger-loss")
    assert recorder.voted
    for vote in recorder.voted:
        assert vote.choice == (pb.CHOICE_INNER if vote.inner_loss > vote.outer_loss else pb.CHOICE_OUTER)


def settings(**values: Any) -> WorkerFile:
    return WorkerFile(task="linear", id="w00", **values)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: settings(attack="SF@0,Omn@9"), "Omn needs to know what others send: give adversary"),
        (lambda: settings(byzantine_vote="pivotal"), "pivotal needs to know"),
        (lambda: settings(tap="127.0.0.1:1", attack="SF"), "tap is for honest workers"),
        (lambda: settings(tap="127.0.0.1:1", fault="silent"), "tap is for honest workers"),
        (lambda: settings(fault="slient"), "unknown fault"),
        (lambda: settings(attack="Onm"), "unknown attack"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_before_anything_starts(
    build: Callable[[], WorkerFile], said: str
) -> None:
    with pytest.raises(OstrakonError, match=said):
        work(build())


def test_who_attacks_votes_for_the_larger_loss_unless_told_otherwise() -> None:
    assert settings(attack="SF").byzantine_vote == "larger-loss"
    assert settings(attack="SF", byzantine_vote="honest").byzantine_vote == "honest"
    assert settings(fault="silent").byzantine_vote == settings().byzantine_vote == "honest"
    assert [settings().lies, settings(attack="none").lies, settings(fault="nan").lies] == [False, False, True]
