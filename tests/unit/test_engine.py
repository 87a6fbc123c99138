"""Whole experiments in the engine: beside the exact mode, alone and side by side, with every rule and attack."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ostrakon.common.aggregation import RULES, rule
from ostrakon.common.criteria import CRITERIA, Criterion, Evidence
from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.contract import Examples
from ostrakon.experiments import Experiment, Result, experiment, run, run_together
from ostrakon.experiments.engine import Engine
from ostrakon.worker.attacks import ATTACKS
from tests.unit.small_task import SmallTask

ALL = 1000  # more examples than any worker has: then both modes draw the same


class Uneven(SmallTask):
    """Some workers have fewer examples than others."""

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        whole = super().worker_data(worker, workers, seed)
        m = (100, 100, 3, 50, 100)[worker % 5]
        return Examples(whole.inputs[:m], whole.labels[:m])


class Local(SmallTask):
    """Workers have test sets of their own, of different sizes."""

    def worker_test_data(self, worker: int, workers: int, seed: int) -> Examples:
        whole = self.test_data(seed)
        of_class = whole.labels == worker % 3
        return Examples(whole.inputs[of_class][: 20 + worker], whole.labels[of_class][: 20 + worker])


class Broken(SmallTask):
    """What worker 0 holds is not finite."""

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        whole = super().worker_data(worker, workers, seed)
        return Examples(whole.inputs * torch.inf, whole.labels) if worker == 0 else whole


class Deep(SmallTask):
    """A module with a forward of its own, and dropout."""

    def model(self) -> nn.Module:
        return Noisy()


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(8, 6), nn.Dropout(0.2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.first(x).tanh()))


class Mean(Deep):
    """Its loss is that of the whole batch."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, labels)


def small(**settings: Any) -> Experiment:
    values = {"workers": 7, "byzantine": 2, "rounds": 4, "gamma": 0.5, "beta": 0.9, "batch": 4, "vote_batch": 4}
    return experiment(**{"task": "tests.unit.small_task:SmallTask", "evaluate_every": 2, **values, **settings})


def assert_alike(one: Result, other: Result) -> None:
    assert (one.outcome, one.winners, one.votes) == (other.outcome, other.winners, other.votes)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-4, atol=1e-6)
    assert [m.round for m in one.accuracy] == [m.round for m in other.accuracy]
    np.testing.assert_allclose(*([m.accuracy for m in each.accuracy] for each in (one, other)), atol=0.005)


@pytest.mark.parametrize(
    "settings",
    [
        {"attack": "none"},
        {"attack": "none", "rule": "NNM+CWTM"},
        {"attack": "SF"},
        {"attack": "SF", "gamma": "0.5*cosine(4),0.2@3", "weight_decay": 0.9, "clip": 0.3, "vote": "proximity"},
        {"attack": "SV(factor=0.5)", "byzantine_vote": "pivotal", "seed": 2},
        {"attack": "LF@0,Omn@3", "byzantine_vote": "random", "rule": "Cent2P"},
        {"attack": "Empire", "byzantine_vote": "silent", "task": "tests.unit.test_engine:Uneven"},
    ],
)
def test_the_engine_and_the_exact_mode_agree_where_they_draw_the_same(settings: dict[str, Any]) -> None:
    one = small(batch=ALL, vote_batch=ALL, **settings)
    assert_alike(run(one), run(one, exact=True))


def test_a_worker_whose_gradient_is_not_finite_sends_nothing() -> None:
    broken: dict[str, Any] = {"task": "tests.unit.test_engine:Broken"}
    without = run(small(attack="none", byzantine=1, rule="Honest"))
    assert_alike(run(small(attack="none", byzantine=0, f=1, rule="Avg", **broken)), without)
    assert run(small(attack="none", byzantine=0, f=0, rule="Avg", **broken)).outcome == "diverged"
    for attack in ("SF", "SV"):
        assert run(small(attack=attack, **broken)).outcome == "completed"


@pytest.mark.slow
def test_one_seed_is_one_run_and_another_seed_another() -> None:
    for task in ("tests.unit.small_task:SmallTask", "tests.unit.test_engine:Deep"):
        first, again, other = (run(small(task=task, seed=seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.theta, again.theta)
        assert first.votes == again.votes
        assert not np.array_equal(first.theta, other.theta)


def test_runs_side_by_side_come_out_as_alone() -> None:
    several = [
        small(seed=1, attack="SF"),
        small(seed=2, attack="Omn@0,LF@2", rule="NNM+CWTM"),
        small(seed=2, attack="SV", vote="ideal", byzantine=3),
        small(seed=1, attack="Gauss", rule="Honest", gamma=0.1),
        small(seed=1, attack="none", gamma=3e38, rule="Avg"),
    ]
    for together, one in zip(run_together(several), several, strict=True):
        assert together.experiment == one
        assert_alike(together, run(one))


def test_every_attack_and_every_rule_can_be_run() -> None:
    for attack in ATTACKS:
        assert run(small(attack=attack, rounds=2)).outcome == "completed"
    for name in (*(name for name in RULES if name != "Bulyan"), "NNM+Krum", "TwoPhase(Mean1P, CWTM)", "Honest"):
        found = run(small(rule=name, rounds=2))
        assert len(found.winners) == len(found.votes) == 2
        assert not any(vote.inner + vote.outer for vote in found.votes) or rule(name).two_phase


def test_the_yardstick_rule_averages_exactly_the_honest() -> None:
    honest = run(small(rule="Honest", attack="SF(scale=9)", rounds=1, batch=ALL))
    alone = run(small(rule="Honest", attack="none", rounds=1, batch=ALL))
    np.testing.assert_array_equal(honest.theta, alone.theta)
    everybody = run(small(rule="Avg", attack="none", rounds=1, batch=ALL))
    assert not np.array_equal(honest.theta, everybody.theta)


def test_the_ideal_vote_takes_the_candidate_nearer_to_the_honest() -> None:
    # Omn turns the plain average around: whichever place it has in the vote, the other one wins.
    for chosen, winner in (("TwoPhase(Avg, CWM)", "outer"), ("TwoPhase(CWM, Avg)", "inner")):
        found = run(small(rule=chosen, vote="ideal", attack="Omn", rounds=3))
        assert found.winners == (winner,) * 3
        assert {(vote.inner, vote.outer) for vote in found.votes} == {(2, 5) if winner == "outer" else (5, 2)}


def test_a_criterion_may_ask_a_second_momentum_which_nobody_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[float]] = []

    def by_gain(evidence: Evidence) -> Tensor:
        gain = torch.as_tensor(evidence.gain)
        asked.append(gain.tolist())
        return torch.where(gain.isfinite(), gain < 0, False)

    criterion = Criterion(by_gain, asks="second momentum")
    monkeypatch.setattr("ostrakon.experiments.one_run.CRITERIA", {**CRITERIA, "loss": criterion})
    engine = Engine([small(attack="SF", beta=0.5, rounds=3, rule="TwoPhase(CWM, Avg)")])
    for round in (1, 2, 3):
        engine.round(round)
    assert np.isnan(asked[0]).all()  # it has seen too little
    assert np.isfinite(asked[1:]).all()
    (only,), (cohort,) = engine.runs, engine.cohorts
    assert cohort.second is not None
    assert not torch.equal(cohort.second[0], torch.cat([only._corrupted, only._honest]))
    # CWM leaves the flipped momenta out, the average does not: to the honest it is the better step.
    assert np.mean(asked[-1]) > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rule": "Mean3P"}, "unknown rule 'Mean3P'"),
        ({"attack": "Onm"}, "unknown attack 'Onm'"),
        ({"vote": "los"}, "unknown criterion of the vote 'los'; did you mean loss"),
        ({"byzantine": 7, "f": 2}, "7 of 7 workers lie: at least one has to be honest"),
        ({"byzantine": 4}, "f=4 of n=7 workers"),
        ({"beta": 1.0}, "beta"),
        ({"rouns": 3}, "rouns"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(OstrakonError, match=said):
        small(**settings)


def test_experiments_that_do_not_fit_together_and_modes_that_cannot_are_refused() -> None:
    with pytest.raises(OstrakonError, match=r"share .*, but rounds is 4 and 5: run them one after another"):
        run_together([small(), small(rounds=5)])
    with pytest.raises(OstrakonError, match="give at least one"):
        run_together([])
    with pytest.raises(OstrakonError, match="the vote `ideal` is no worker's"):
        run(small(vote="ideal"), exact=True)
    with pytest.raises(OstrakonError, match="networked workers share no momentum"):
        run(small(momentum="shared"), exact=True)


def test_accuracy_is_the_mean_over_the_workers_own_test_sets_and_the_pooled_one_stands_beside_it() -> None:
    for exact in (False, True):
        common = run(small(), exact=exact).accuracy[-1]
        found = run(small(task="tests.unit.test_engine:Local"), exact=exact)
        model, last = SmallTask().model(), found.accuracy[-1]
        weight, bias = torch.from_numpy(found.theta).split([24, 3])
        model.load_state_dict({"weight": weight.view(3, 8), "bias": bias})
        own = [Local().worker_test_data(worker, 7, 1) for worker in range(7)]
        shares = [(model(one.inputs).argmax(dim=1) == one.labels).double().mean() for one in own]
        assert last.accuracy == pytest.approx(float(torch.stack(shares).mean()), abs=1e-9)
        assert last.pooled == common.pooled == common.accuracy != last.accuracy


def test_a_shared_momentum_is_folded_into_worker_after_worker() -> None:
    (one,) = (engine := Engine([small(momentum="shared", attack="none", rounds=2, batch=ALL)])).runs
    (own,) = (apart := Engine([small(attack="none", rounds=1, batch=ALL)])).runs
    engine.round(1)
    apart.round(1)
    expected, gradients = torch.zeros(27), torch.cat([own._corrupted, own._honest]) / 0.1
    sent = torch.cat([one._corrupted, one._honest])
    for worker, gradient in enumerate(gradients):
        expected = 0.9 * expected + 0.1 * gradient
        torch.testing.assert_close(sent[worker], expected)
    engine.round(2)
    assert not torch.equal(one._corrupted[0], sent[0])


def test_what_is_wrong_with_a_users_task_is_named_before_anything_runs() -> None:
    for exact in (False, True):
        with pytest.raises(OstrakonError, match=r"task Mean: losses returned .*: write reduction='none'"):
            run(small(task="tests.unit.test_engine:Mean"), exact=exact)


def test_progress_is_told_round_by_round() -> None:
    for exact in (False, True):
        told: list[int] = []
        run(small(), exact=exact, progress=told.append)
        assert told == [1, 2, 3, 4]
