"""Training loops of one's own that take part in a run, over TLS with a real server."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ostrakon import OstrakonError, Worker, write_initial
from ostrakon.common.digest import digest
from ostrakon.server.storage.audit import audit
from tests.harness.cluster import ROOT, Cluster, importing, wait_for
from tests.harness.together import together

Make = Callable[..., Cluster]
Loop = Callable[[Worker, nn.Module, Tensor, Tensor], None]


def small(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def points(seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 4, generator=rng)
    return x, x.sum(dim=1, keepdim=True)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.mse_loss(model(x).float(), y)


def plain(worker: Worker, model: nn.Module, x: Tensor, y: Tensor) -> None:
    for round in worker:
        loss_of(model, x, y).backward()
        round.submit()
        round.vote(lambda: loss_of(model, x, y))


def own(cluster: Make, initial: Any, **settings: Any) -> Cluster:
    """A run that starts from this model, or vector."""
    run = cluster(task="own", **settings)
    write_initial(initial, run.initial)
    return run


def place(run: Cluster, name: str) -> dict[str, Any]:
    return {"server": run.address, "tls": run.tls("worker", name)}


def module_loop(
    run: Cluster, name: str, loop: Loop = plain, make: Callable[[], nn.Module] = small
) -> Callable[[], Any]:
    def go() -> nn.Module:
        model = make()
        with Worker(model, **place(run, name)) as worker:
            loop(worker, model, *points(worker.position))
            assert worker.outcome == "completed"
        return model

    return go


def test_plain_loops_take_part_and_end_with_the_committed_model(cluster: Make) -> None:
    run = own(cluster, small(), rounds=12)
    server = run.server()
    models = together([module_loop(run, name) for name in run.roster])
    assert server.wait() == 0
    entries = run.entries()
    assert len(entries) == 12 and all(entry.missing == {} for entry in entries)
    assert {len(entry.votes) for entry in entries} <= {2, 3}
    last = load_file(run.run / "last.safetensors")
    x, y = points(7)
    for model in models:
        assert all(torch.equal(last[name], value) for name, value in model.state_dict().items())
        assert loss_of(model, x, y) < 0.5 * loss_of(small(), x, y)
    audit(run.run)
    assert not any(thread.name == "ostrakon" for thread in threading.enumerate())


class Mixed(nn.Module):
    """Parameters in half precision, a frozen layer, tied weights, and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 1).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.norm(self.first(self.frozen(x)))).bfloat16())


def mixed() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Mixed()


def test_models_with_frozen_tied_and_half_precision_parameters_and_running_statistics(cluster: Make) -> None:
    run = own(cluster, mixed(), rounds=10, gamma=0.1)
    server = run.server()
    models = together([module_loop(run, name, make=mixed) for name in run.roster])
    assert server.wait() == 0
    last = load_file(run.run / "last.safetensors")
    assert not any("running" in name for name in last)
    assert last["last.weight"].dtype == torch.float32 and torch.equal(last["first.weight"], last["second.weight"])
    for model in models:
        state = model.state_dict()
        assert all(torch.equal(value.to(state[name].dtype), state[name]) for name, value in last.items())
        assert state["norm.num_batches_tracked"] == 10  # of training: candidates leave no trace
    means = [model.state_dict()["norm.running_mean"] for model in models]
    assert not torch.equal(means[0], means[1])


def pull(target: list[float]) -> Callable[[np.ndarray], float]:
    return lambda theta: float(np.abs(theta - np.array(target)).sum())


async def vectors(run: Cluster, name: str, target: list[float]) -> np.ndarray:
    async with Worker(parameters=5, **place(run, name)) as worker:
        async for round in worker:
            assert not round.theta.flags.writeable
            assert await round.submit(round.theta - np.array(target), loss=pull(target)(round.theta))
            assert await round.vote(pull(target)) in ("inner", "outer", None)
        assert worker.outcome == "completed"
        with pytest.raises(OstrakonError, match="needs a worker in its `with`"):
            next(iter(worker))
    with pytest.raises(OstrakonError, match="needs a worker in its `async with`"):
        await anext(aiter(worker))
    return worker.theta


def test_asynchronous_loops_without_a_model(cluster: Make) -> None:
    run = own(cluster, np.zeros(5), rounds=8)
    server = run.server()

    async def everybody() -> list[np.ndarray]:
        targets = ([1.0, 0, 0, 0, 0], [0, 1.2, 0, 0, 0], [0, 0, 0.7, 0, 0])
        return await asyncio.gather(*map(partial(vectors, run), run.roster, targets))

    found = asyncio.run(everybody())
    assert server.wait() == 0
    entries = run.entries()
    assert {digest(np.array(theta)) for theta in found} == {entries[-1].winner}
    assert all(entry.missing == {} for entry in entries)
    assert found[0][:2].max() > 0.1
    assert any(len(entry.votes) >= 2 for entry in entries)


def test_a_server_that_is_killed_and_started_again_is_nothing_a_loop_hears_of(cluster: Make) -> None:
    run = own(cluster, small(), rounds=25)
    server = run.server()
    seen: list[int] = []
    here, there = threading.Barrier(2), threading.Barrier(2)

    def loop(worker: Worker, model: nn.Module, x: Tensor, y: Tensor) -> None:
        for round in worker:
            if worker.position == 0:
                seen.append(round.number)
            loss_of(model, x, y).backward()
            if worker.position == 0 and round.number == 8:  # before its momentum
                here.wait(30), there.wait(30)
            round.submit()
            if worker.position == 0 and round.number == 16:  # between its momentum and its vote
                here.wait(30), there.wait(30)
            round.vote(lambda: loss_of(model, x, y))

    def with_loops() -> None:
        together([module_loop(run, name, loop) for name in run.roster])

    everybody = threading.Thread(target=with_loops, daemon=True)
    everybody.start()
    for _ in range(2):
        here.wait(30)
        server.kill()
        server = run.server()
        there.wait(30)
    assert server.wait(30) == 0
    everybody.join(30)
    assert not everybody.is_alive()
    assert seen == sorted(set(seen)) and len(run.entries()) == 25
    assert not any("equivocation" in refused for entry in run.entries() for refused in entry.refused.values())
    audit(run.run)


def test_a_loop_may_leave_sit_out_rounds_and_come_back(cluster: Make) -> None:
    run = own(cluster, small(), rounds=100_000, join_timeout=0.5, grace_floor=0.3, absent_after=1)
    server = run.server()

    def steady(name: str) -> None:
        model = small()
        with Worker(model, **place(run, name), server_timeout=1) as worker:
            x, y = points(worker.position)
            for round in worker:
                loss_of(model, x, y).backward()
                round.submit()
                round.vote("proximity")

    def wavering() -> None:
        model, (x, y) = small(), points(0)
        with Worker(model, **place(run, "w00")) as worker:
            seen = []
            for round in worker:
                seen.append(round)
                if len(seen) == 4:
                    break
            assert seen[0].submit(np.zeros(worker.theta.size)) is False
            assert seen[0].vote("inner") is None
            assert worker.outcome is None
        assert all("w00" in entry.missing for entry in run.entries())
        with pytest.raises(ZeroDivisionError), Worker(model, **place(run, "w00")) as worker:
            for round in worker:
                loss_of(model, x, y).backward()
                round.submit()
                round.vote(lambda: 1 / 0)
        with pytest.raises(OstrakonError, match="needs a worker in its `with`"):
            next(iter(worker))
        with Worker(model, **place(run, "w00")) as worker:
            for round in worker:
                loss_of(model, x, y).backward()
                if round.submit() and round.vote(lambda: loss_of(model, x, y)):
                    break
        server.kill()

    def until_the_server_is_gone(name: str) -> None:
        with pytest.raises(OstrakonError, match="no answer from the server for 1 s"):
            steady(name)

    together([wavering, *(partial(until_the_server_is_gone, name) for name in run.roster[1:])])
    assert any("w00" not in entry.missing for entry in run.entries())
    assert not any(thread.name == "ostrakon" for thread in threading.enumerate())


def test_what_comes_too_early_or_too_late_in_a_loop_is_refused(cluster: Make) -> None:
    run = own(cluster, small(), join_timeout=0.5, grace_floor=0.3)
    server = run.server()
    with Worker(small(), **place(run, "w00")) as worker:
        with pytest.raises(OstrakonError, match="no model has come yet"):
            _ = worker.theta
        round = next(iter(worker))
        with pytest.raises(OstrakonError, match=r"vote\('sideways'\) means nothing"):
            round.vote("sideways")  # type: ignore[arg-type]
        assert round.submit(np.full(worker.theta.size, np.nan), loss=torch.tensor(1.0))

    def vote_first() -> None:
        model = small()
        with (
            pytest.raises(OstrakonError, match="round 1 has been voted in already: submit comes before vote"),
            Worker(model, **place(run, "w00")) as worker,
        ):
            for round in worker:
                round.vote("inner")
                loss_of(model, *points(0)).backward()
                round.submit()

    def others(name: str) -> None:
        model = small()
        with Worker(model, **place(run, name)) as worker:
            for round in worker:
                if round.number == 2:
                    break
                loss_of(model, *points(1)).backward()
                round.submit()
                round.vote("inner")

    together([vote_first, *(partial(others, name) for name in run.roster[1:])])
    assert server.alive


def test_what_the_server_refuses_is_raised_in_the_loop(cluster: Make) -> None:
    run = own(cluster, small())
    server = run.server()
    wait_for(lambda: "serving" in server.text, "the server")
    for model, values, sentence in (
        (small(), {"task": "other"}, "this run learns the task own"),
        (nn.Linear(4, 1), {}, r"parameter 0 of this run's model is 0.weight"),
    ):
        with pytest.raises(OstrakonError, match=sentence), Worker(model, **place(run, "w00"), **values):
            raise AssertionError("it was let in")
    with (
        Worker(small(), **place(run, "w00")) as first,
        Worker(small(), **place(run, "w00")),
        pytest.raises(OstrakonError, match="another process has joined"),
    ):
        next(iter(first))
    assert server.alive


def test_without_an_answer_a_worker_ends_in_time(cluster: Make) -> None:
    run = own(cluster, small())
    worker = Worker(small(), **place(run, "w00"), server_timeout=0.5)
    with pytest.raises(OstrakonError, match=r"no answer from the server for 0.5 s"), worker:
        raise AssertionError("it was let in")


LOADING = """
import sys

import torch
from torch.utils.data import DataLoader, TensorDataset

from ostrakon import Worker
from tests.integration.test_embedded import loss_of, points, small

address, ca, certificate, key = sys.argv[1:]
model = small()
with Worker(model, server=address, tls={"ca": ca, "certificate": certificate, "key": key}) as worker:
    for round in worker:
        batches = iter(DataLoader(TensorDataset(*points(5)), 16, num_workers=1, multiprocessing_context="fork"))
        loss_of(model, *next(batches)).backward()
        round.submit()
        x, y = next(batches)
        round.vote(lambda: loss_of(model, x, y))
"""


def test_data_are_loaded_by_processes_that_are_forked_inside_a_loop(cluster: Make) -> None:
    run = own(cluster, small(), rounds=4)
    server = run.server()
    command = [sys.executable, "-c", LOADING, run.address, *run.tls("worker", "w02").values()]
    loader = subprocess.Popen(command, cwd=ROOT, env=importing(), stderr=subprocess.PIPE, text=True)
    together([module_loop(run, name) for name in run.roster[:2]])
    _, said = loader.communicate(timeout=60)
    assert loader.returncode == 0 and "rror" not in said, said
    assert server.wait() == 0
    assert all(entry.missing == {} for entry in run.entries())
