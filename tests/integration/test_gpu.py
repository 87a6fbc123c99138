"""A GPU gives the models that the CPU gives, but for rounding: one call of the aggregator, and whole runs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ostrakon.common.aggregation import rule
from ostrakon.common.algorithm import Step
from ostrakon.common.digest import digest
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.setting_types import Precision
from ostrakon.common.tasks.contract import Examples
from ostrakon.common.tasks.glyphs import Glyphs
from ostrakon.common.tasks.passes import initial_model
from ostrakon.server.core.aggregator import Aggregator
from ostrakon.worker.learner import LocalLearner
from ostrakon.worker.settings import WorkerSettings
from tests.harness.cluster import Cluster

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_candidates_made_on_a_gpu_are_those_of_the_cpu() -> None:
    n, f, d = 9, 3, 100_003
    momenta = np.random.default_rng(1).normal(size=(n, d)).astype(np.float32)
    theta = np.random.default_rng(2).normal(size=d).astype(np.float32)
    accepted = (0, 1, 3, 4, 5, 7, 8)
    found = {}
    for device in ("cpu", "cuda"):
        aggregator = Aggregator(rule("Mean2P"), n, d, torch.device(device))
        for position in range(n):
            aggregator.row(position)[:] = momenta[position] if position in accepted else np.nan
            if position % 2:  # the others go when they are needed
                aggregator.arrived(position)
        aggregator.row(3)[:] = 0  # replaced by a newer upload, of which this is the beginning
        aggregator.row(3)[:] = momenta[3]
        found[device] = aggregator.candidates(theta, accepted, f, Step(0.5))
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        assert here is not None and there is not None
        assert there.cluster == here.cluster
        assert there.digest == digest(there.theta)
        np.testing.assert_allclose(there.theta, here.theta, rtol=1e-5, atol=1e-5)


class Moved(Glyphs):
    """Augments on the GPU."""

    def augment(self, batch: Examples, rng: torch.Generator) -> Examples:
        return Examples(batch.inputs + 0.01 * torch.rand(1, generator=rng, device="cuda"), batch.labels)


@pytest.mark.parametrize("precision", ["bf16", "float16"])
def test_a_gradient_in_half_precision_on_a_gpu_is_near(precision: Precision) -> None:
    made = Moved()
    theta = FlatModel(initial_model(made, 1), "cpu").theta.numpy()
    kinds: tuple[Precision, Precision] = ("float32", precision)
    found = []
    for kind in kinds:
        worker = LocalLearner(WorkerSettings(device="cuda", precision=kind, beta=0.0), made)
        worker.rehearse()
        worker.begin(0, 4)
        found.append((worker.momentum(1, "base", theta), worker.judge(1, theta, -theta)))
    (whole, ballot), (half, same_ballot) = found
    assert half.finite and not np.array_equal(half.vector, whole.vector)
    assert np.linalg.norm(half.vector - whole.vector) < 0.05 * np.linalg.norm(whole.vector)
    assert same_ballot.choice == ballot.choice


@pytest.mark.parametrize("rule_name", ["Mean2P", "NNM+CWTM"])
def test_a_run_on_a_gpu_commits_what_one_on_the_cpu_commits(cluster: Callable[..., Cluster], rule_name: str) -> None:
    last, chosen = {}, {}
    for device in ("cpu", "cuda"):
        run = cluster(device, workers=5, f=2, rounds=8, rule=rule_name, device=device)
        server = run.server()
        workers = [run.worker("w00", device=device, attack="SF(scale=5)")]
        workers += [run.worker(name, device=device) for name in run.roster[1:]]
        assert server.wait() == 0, server.text
        assert [process.wait() for process in workers] == [0] * 5, [process.text for process in workers]
        last[device] = load_file(run.run / "last.safetensors")
        chosen[device] = [(entry.choice, entry.inner_cluster) for entry in run.entries()]
    assert chosen["cuda"] == chosen["cpu"]
    assert last["cuda"].keys() == last["cpu"].keys()
    for name, values in last["cpu"].items():
        np.testing.assert_allclose(last["cuda"][name], values, rtol=1e-4, atol=1e-5)
