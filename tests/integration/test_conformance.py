"""The conformance run: who keeps the contract passes it, and who does not is told where."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostrakon import OstrakonError, Worker
from ostrakon.cli.main import run
from ostrakon.common.reasons import Reason
from ostrakon.common.settings import TlsFiles
from ostrakon.deploy.conformance import report, stage
from ostrakon.deploy.conformance.trial import SCENES
from ostrakon.deploy.conformance.worker import ByHand
from ostrakon.deploy.processes import start_fork_server
from ostrakon.server.storage.model_store import ModelKey, ModelStore
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.connection import Connection
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.submission import Submission
from ostrakon.worker.transport import CallFailed
from tests.harness.cluster import Process
from tests.harness.house import D
from tests.harness.on_trial import Hall, InProcess, sentences
from tests.harness.scenario import Impatient

ALL_RIGHT = {scene.name: "" for scene in SCENES}


class Forked:
    """Our own worker, a process for each life."""

    first_call, watched = 60.0, True

    def __init__(self, config: Path) -> None:
        self._config = config
        self._process: Process | None = None

    async def start(self) -> None:
        self._process = Process("ostrakon.worker.process", self._config, self._config.with_suffix(".log"))

    async def ended(self) -> int:
        assert self._process is not None
        while self._process.alive:
            await asyncio.sleep(0.02)
        return self._process.wait()

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


def test_our_own_worker_does_everything_right(tmp_path: Path) -> None:
    start_fork_server()
    hall = Hall(tmp_path)
    config = tmp_path / "worker.toml"
    config.write_text(
        f'task = "linear"\nserver = "{hall.address}"\nthreads = 1\ndevice = "cpu"\n'
        f'[tls]\nca = "{hall.tls.ca}"\ncertificate = "{hall.tls.certificate}"\nkey = "{hall.tls.key}"\n'
    )
    initial = tmp_path / "linear.safetensors"
    write_initial(WorkerSettings(task="linear"), initial)
    assert sentences(hall.play(Forked(config), initial=initial, patience=60)) == ALL_RIGHT


class InALoop(InProcess):
    """A worker in a training loop of somebody's own."""

    async def _live(self, address: str, tls: TlsFiles) -> int:
        try:
            async with Worker(parameters=D, server=address, tls=tls, task="pull") as worker:
                async for round in worker:
                    await round.submit(round.theta - 1)
                    await round.vote(lambda theta: np.linalg.norm(theta - 1))
        except OstrakonError:
            return 2
        return 0


def test_a_loop_of_ones_own_does_everything_right(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    assert sentences(hall.play(InALoop(hall))) == ALL_RIGHT


class DiesWhenLate(Connection):
    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        try:
            return await super().submit(submission)
        except CallFailed as failed:
            if failed.reason is Reason.LATE_SUBMISSION:
                raise OstrakonError("late, and nobody has said what to do then") from None
            raise


class FallsSilentWhenLate(Connection):
    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        try:
            return await super().submit(submission)
        except CallFailed as failed:
            if failed.reason is Reason.LATE_SUBMISSION:
                await asyncio.Event().wait()
            raise


class Insists(Connection):
    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        try:
            return await super().submit(submission)
        except CallFailed as failed:
            raise CallFailed("UNAVAILABLE", None, str(failed)) from None


class HoldsNothing(Connection):
    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        del request.holds[:]
        return await super().join(request)


class GoesOnForEver(Connection):
    def broadcast(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        return self._unless_over(request)

    async def _unless_over(self, request: pb.BroadcastRequest) -> AsyncIterator[pb.ModelPart]:
        async for part in super().broadcast(request):
            if part.header.phase == pb.RUN_PHASE_COMPLETED:
                raise CallFailed("UNAVAILABLE", None, "this cannot be the end")
            yield part


class BelievesInAnyTerm(Connection):
    async def vote(self, request: pb.VoteRequest) -> pb.VoteResponse:
        response = await super().vote(request)
        response.stamp.term = request.stamp.term
        return response


class GoesBack(Connection):
    largest = 0

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        response = await super().join(request)
        response.stamp.term = self.largest = max(self.largest, response.stamp.term)
        return response


class NeverJoinsAgain(Connection):
    joins = 0

    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        NeverJoinsAgain.joins += 1
        return await super().join(request)

    async def submit(self, submission: Submission) -> pb.SubmitMomentumResponse:
        try:
            return await super().submit(submission)
        except CallFailed as failed:
            if failed.reason is Reason.WRONG_TERM:
                raise OstrakonError("another term, and nobody has said what to do then") from None
            raise


class KnowsOnlyVotes(Connection):
    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        response = await super().join(request)
        response.two_phase = True
        return response


class KnowsOnlyFloats(Connection):
    async def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        response = await super().join(request)
        response.wire = pb.WIRE_FLOAT32
        return response


class TakesAnyBytes(Connection):
    def propose(self, request: pb.ProposeRequest) -> AsyncIterator[pb.ModelPart]:
        return self._renamed(request)

    async def _renamed(self, request: pb.ProposeRequest) -> AsyncIterator[pb.ModelPart]:
        parts = [part async for part in super().propose(request)]
        names = [hashlib.sha256(part.chunk.data).hexdigest() for part in parts]
        parts[0].header.digests[:] = parts[0].header.follow[:] = names
        for part in parts:
            yield part


@pytest.mark.parametrize(
    ("bent", "scene", "sentence"),
    [
        (
            DiesWhenLate,
            "late",
            "after its SubmitMomentum was refused as late submission, it ended with status 2; "
            "expected Propose (round 1): who was late for a momentum still votes",
        ),
        (
            FallsSilentWhenLate,
            "late",
            "after its SubmitMomentum was refused as late submission, it made no call within 2 s; "
            "expected Propose (round 1): who was late for a momentum still votes",
        ),
        (
            Insists,
            "momentum refused",
            "after its SubmitMomentum was refused as not finite, it called SubmitMomentum (round 1); "
            "expected Broadcast (after 1): what was refused as it is would be refused again",
        ),
        (
            BelievesInAnyTerm,
            "an answer of another term",
            "after an answer to its vote under a term that it has not joined, it called SubmitMomentum (round 2); "
            "expected Vote (round 1, choice 2): such an answer is none: the call is made again",
        ),
        (
            GoesBack,
            "a smaller term",
            "after the answer to its Join under a smaller term than before, it called Broadcast (after 0); "
            "expected its end with a sentence, and a status that is not 0: "
            "an old server, or an old copy of the run, answers there",
        ),
        (
            TakesAnyBytes,
            "damaged candidate",
            "after it was sent a candidate whose bytes are not those that the digest names, it called Vote (round 1); "
            "expected Propose (round 1): what is damaged is asked for again",
        ),
        (
            KnowsOnlyVotes,
            "no vote",
            "after the answer to its SubmitMomentum, it called Propose (round 1); "
            "expected Broadcast (after 1): rounds of this run have no vote",
        ),
        (
            KnowsOnlyFloats,
            "half the bytes",
            "its SubmitMomentum was refused as too much data: expected 6 bytes in all, got at least 12",
        ),
        (
            HoldsNothing,
            "model lost",
            "its Join did not name the committed model among those that it holds: nobody can ask it for it",
        ),
        (
            GoesOnForEver,
            "completed",
            "after it was told that the run is completed, it called Broadcast (after 1); "
            "expected its end with status 0: the run is over",
        ),
    ],
)
def test_a_worker_is_told_what_it_does_wrong(tmp_path: Path, bent: type[Connection], scene: str, sentence: str) -> None:
    hall = Hall(tmp_path)
    assert sentences(hall.play(InProcess(hall, bent), scene, patience=2)) == {scene: sentence}


def test_who_makes_no_pauses_is_found_out(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    found = sentences(hall.play(InProcess(hall, clock=Impatient), "too many calls"))["too many calls"]
    assert "expected pauses that grow" in found


def test_a_worker_that_went_wrong_is_started_again_and_tried_on(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    worker = InProcess(hall, DiesWhenLate)
    found = sentences(hall.play(worker, "a round", "late", "too many calls"))
    assert [name for name, wrong in found.items() if wrong] == ["late"]
    assert worker.lives == 2


def test_what_a_scene_has_said_of_a_join_that_never_came_is_forgotten(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    NeverJoinsAgain.joins = 0
    found = sentences(hall.play(InProcess(hall, NeverJoinsAgain), "a smaller term", "another run", patience=3))
    assert "expected Join: another server answers" in found["a smaller term"]
    assert (found["another run"], NeverJoinsAgain.joins) == ("", 2)


def test_somebody_may_start_the_worker_whose_end_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "QUIET_SECONDS", 0.3)
    hall = Hall(tmp_path)
    worker = InProcess(hall)
    started: list[asyncio.Task[None]] = []

    def asked(text: str) -> None:
        if text == "start it":
            started.append(asyncio.create_task(worker.start()))

    assert set(sentences(hall.play(ByHand(asked, "start it"), "a smaller term", "shut out", "completed")).values()) == {
        ""
    }
    assert len(started) == 3


def test_a_server_that_fails_ends_the_trial_with_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = ModelStore.write, []

    def full_after_the_first(store: ModelStore, *given: Any) -> ModelKey:
        if written:
            raise OstrakonError("no space left")
        written.append(write(store, *given))
        return written[0]

    monkeypatch.setattr(ModelStore, "write", full_after_the_first)
    hall = Hall(tmp_path)
    with pytest.raises(OstrakonError, match="no space left"):
        hall.play(InProcess(hall), "a round")


def test_the_command_says_how_much_was_right_in_its_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "start_log", lambda path: None)
    hall = Hall(tmp_path)
    command = ["conformance", "--initial", str(hall.initial), "--listen", hall.address, "--folder", str(tmp_path)]
    assert run([*command, "--run", "false"]) == 1
    said = capsys.readouterr().out
    assert f"0 of {len(SCENES)} scenes right" in said and "ended with status 1" in " ".join(said.split())
    monkeypatch.setattr(report, "SCENES", ())
    monkeypatch.setattr(report, "trial", lambda *given, **how: asyncio.sleep(0, []))
    assert run([*command, "--run", "true"]) == 0


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("", "--run is empty"),
        ("'", "cannot be split into words"),
        ("no-such-command-at-all", "cannot be run: No such file"),
    ],
)
def test_a_command_that_cannot_be_run_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, sentence: str
) -> None:
    monkeypatch.setattr(report, "start_log", lambda path: None)
    hall = Hall(tmp_path)
    with pytest.raises(OstrakonError, match=sentence):
        report.report(hall.initial, command, tmp_path, hall.address, 1)
