"""Runs side by side in the engine, with what a GPU computes of all of them at once, on the CPU."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ostrakon.experiments import run, run_together
from ostrakon.experiments.engine import Engine
from tests.unit.test_engine import assert_alike, small


@pytest.mark.parametrize("at_once", [False, True])
def test_runs_whose_workers_are_uneven_or_missing_come_out_as_alone(at_once: bool) -> None:
    uneven = [
        small(task="tests.unit.test_engine:Uneven", vote=vote, seed=seed, attack="LF@0,SF@2", byzantine=seed)
        for vote, seed in (("loss", 1), ("mixed", 2), ("ideal", 2), ("proximity", 1))
    ]
    broken = [
        small(task="tests.unit.test_engine:Broken", attack=attack, momentum=momentum, f=f)
        for attack, momentum, f in (("SF", "own", 3), ("SV", "own", 3), ("SF", "shared", 3), ("SF", "own", 0))
    ]
    for several in (uneven, broken):
        engine = Engine(several, at_once=at_once)
        for round in range(1, 5):
            engine.round(round)
        for together, one in zip(engine.runs, several, strict=True):
            alone = run(one)
            assert together.outcome == (None if alone.outcome == "completed" else "diverged")
            np.testing.assert_allclose(together.theta, alone.theta, rtol=1e-4, atol=1e-6)


def test_rules_of_many_runs_at_once_commit_what_they_do_one_by_one() -> None:
    votes = ("loss", "momentum", "mixed", "proximity", "ideal")
    several = [
        *(small(rule="Mean2P", attack="SF", vote=vote, seed=seed) for vote in votes for seed in (1, 2)),
        *(small(rule=rule, attack="SV") for rule in ("Avg", "Honest", "Mean1P", "Cent1P", "Cent2P", "CWTM", "NNM+Avg")),
        small(rule="Mean2P", attack="PGA"),
        small(rule="Mean2P", attack="Omn", byzantine=3, gamma=0.1, byzantine_vote="random"),
        small(rule="Mean2P", attack="Mimic", byzantine=1, beta=0.5, momentum="shared"),
        small(rule="Avg", attack="SF(scale=1e38)", gamma=3e38),
        small(rule="Mean2P", attack="SF(scale=1e38)", seed=2),
    ]
    engine = Engine(several, at_once=True)
    for round in range(1, 5):
        engine.round(round)
    for found, other in zip((one.result(0) for one in engine.runs), run_together(several), strict=True):
        assert found.experiment == other.experiment
        assert_alike(found, other)
    assert {one.outcome for one in engine.runs} == {None, "diverged"}


class Told(TorchDispatchMode):
    """Counts what torch is told to compute."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("attack", ["SF", "LF", "Omn", "SV", "ALIE", "Mimic"])
def test_a_round_of_many_runs_tells_and_asks_the_device_as_often_as_that_of_one(
    attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[str] = []
    for name in ("tolist", "item", "__bool__", "__int__", "__float__", "cpu", "nonzero"):
        of_tensors = getattr(Tensor, name)

        def waiting(self: Tensor, *given: Any, name: str = name, of_tensors: Any = of_tensors) -> Any:
            waits.append(name)
            return of_tensors(self, *given)

        monkeypatch.setattr(Tensor, name, waiting)
    counts = []
    for runs in (1, 6):
        engine = Engine([small(vote="mixed", attack=attack, seed=seed) for seed in range(runs)], at_once=True)
        engine.round(1)
        waits.clear()
        with Told() as told:
            engine.train(2)
            candidates = engine.propose(engine.receive(2), 2)
        engine.vote(candidates, 2)
        counts.append((told.count, len(waits)))
    assert counts[0] == counts[1]
    assert counts[0][1] <= 6


def test_products_are_coarse_in_the_passes_of_the_vote_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, found = Engine([small()]), set[tuple[str, str]]()
    before = torch.backends.cuda.matmul.fp32_precision
    for name in ("gradients", "losses", "answers"):
        of_passes = getattr(engine._passes, name)

        def seeing(*given: Any, name: str = name, passing: Any = of_passes) -> Any:
            found.add((name, torch.backends.cuda.matmul.fp32_precision))
            return passing(*given)

        monkeypatch.setattr(engine._passes, name, seeing)
    for round in (1, 2):
        engine.round(round)
    assert found == {("gradients", before), ("losses", "tf32"), ("answers", before)}
    assert before != "tf32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_runs_on_a_gpu_come_out_as_on_a_cpu() -> None:
    attacks = ("none", "LF", "SF", "Omn", "Empire", "SV", "ALIE", "Mimic", "PGA", "Min-Max")
    rules = ("Avg", "Honest", "Mean1P", "Cent1P", "CWTM")
    of_cpu, of_gpu = (
        run_together([small(attack=attack, rule=rule, device=device) for attack in attacks for rule in rules])
        for device in ("cpu", "cuda")
    )
    for one, other in zip(of_cpu, of_gpu, strict=True):
        assert one.outcome == other.outcome == "completed"
        np.testing.assert_allclose(one.theta, other.theta, rtol=1e-3, atol=1e-5)
    for vote in ("loss", "momentum", "mixed", "proximity", "ideal"):
        several = [
            small(rule=rule, vote=vote, device="cuda", seed=seed) for rule in ("Mean2P", "Cent2P") for seed in (1, 2)
        ]
        assert {one.outcome for one in run_together(several)} == {"completed"}
