"""Whole runs: a server and workers as real processes over mTLS."""

import json
import math
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable

from safetensors.torch import load_file

from ostrakon import experiments
from ostrakon.common.tasks.linear import Linear
from ostrakon.experiments import experiment
from tests.harness.cluster import PATIENCE, ROOT, Cluster, Process, wait_for

Make = Callable[..., Cluster]


def finish(server: Process, *others: Process) -> None:
    assert server.wait() == 0, server.text
    for process in others:
        assert process.wait() == 0, process.text


def audit(cluster: Cluster) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ostrakon", "audit", str(cluster.run)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_an_honest_run_commits_every_round_and_leaves_models_that_load(cluster: Make) -> None:
    run = cluster(rounds=6, observers=1, linger=60.0)
    # Server and one worker by their command lines, as on separate hosts.
    commands = {"server": run.server_settings, "worker": run.worker_settings("w00")}
    by_hand = [
        subprocess.Popen([sys.executable, "-m", "ostrakon", name, "--config", str(run.write(name, settings))], cwd=ROOT)
        for name, settings in commands.items()
    ]
    others = [run.worker("w01"), run.worker("w02"), run.evaluator()]
    assert [process.wait(PATIENCE) for process in by_hand] == [0, 0]
    assert [process.wait() for process in others] == [0, 0, 0]

    entries = run.entries()
    assert [entry.round for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert not any(entry.missing or entry.refused or entry.thin for entry in entries)
    assert audit(run).returncode == 0
    same = experiment(
        **{"task": "linear", "workers": 3, "byzantine": 0, "f": 1, "attack": "none", "rounds": 6, "gamma": 0.5},
        **{"batch": 16, "beta": 0.9, "vote_batch": 32},
    )
    in_process = experiments.run(same, exact=True)
    assert [entry.winner for entry in entries] == list(in_process.digests)
    assert [entry.choice for entry in entries] == list(in_process.winners)
    model = Linear().model()
    for name in ("last", "average"):
        model.load_state_dict(load_file(run.run / f"{name}.safetensors"))
    rows = [json.loads(line) for line in (run.run / "evaluations.jsonl").read_text().splitlines()]
    assert rows[-2]["round"] == 6
    assert "accuracy_of_average" in rows[-1]


def test_liars_are_outvoted_and_one_seed_gives_one_chain_of_models(cluster: Make) -> None:
    chains = []
    for name in ("first", "second"):
        run = cluster(name, workers=5, f=2, rounds=8, observers=1, linger=60.0)
        attacks = {"w00": "SF(scale=5)", "w01": "Gauss(scale=5)"}
        workers = [run.worker(w, **({"attack": attacks[w]} if w in attacks else {})) for w in run.roster]
        finish(run.server(), *workers, run.evaluator())
        entries = run.entries()
        assert not any(entry.missing for entry in entries)
        chains.append([(entry.inner, entry.outer, entry.winner) for entry in entries])
        rows = [json.loads(line) for line in (run.run / "evaluations.jsonl").read_text().splitlines()]
        losses = [row["loss"] for row in rows if "loss" in row]
        assert losses[-1] < math.log(Linear.classes)  # what guessing costs
    assert chains[0] == chains[1]


def test_a_run_goes_on_after_kill_9_of_its_server_and_of_a_worker(cluster: Make) -> None:
    run = cluster(rounds=60, grace_floor=2.0)
    server, workers = run.server(), run.workers()
    wait_for(lambda: run.committed() >= 5, "five rounds")

    server.kill()
    before = run.entries()
    server = run.server()
    wait_for(lambda: run.committed() >= len(before) + 3, "rounds of the second server")

    workers[0].kill()
    wait_for(lambda: any("w00" in entry.missing for entry in run.entries()), "a round without w00")
    finish(server, run.worker("w00"), *workers[1:])

    after = run.entries()
    assert [entry.hash for entry in after[: len(before)]] == [entry.hash for entry in before]
    assert [entry.round for entry in after] == list(range(1, 61))
    assert {entry.term for entry in after} == {1, 2}
    assert "w00" not in after[-1].missing
    assert audit(run).returncode == 0


def test_a_mixed_vote_gives_one_chain_of_models_and_goes_on_after_kill_9_of_a_worker(cluster: Make) -> None:
    mixed = {"vote": "mixed", "beta": 0.5, "vote_batch": 8}
    calm = cluster("calm", rounds=8)
    finish(calm.server(), *calm.workers(**mixed))

    run = cluster("killed", rounds=60, grace_floor=2.0)
    server, workers = run.server(), run.workers(**mixed)
    wait_for(lambda: run.committed() >= 8, "eight rounds")
    workers[0].kill()
    wait_for(lambda: any("w00" in entry.missing for entry in run.entries()), "a round without w00")
    finish(server, run.worker("w00", **mixed), *workers[1:])

    entries = run.entries()
    chains = [[(entry.inner, entry.outer, entry.winner) for entry in each] for each in (calm.entries(), entries[:8])]
    assert chains[0] == chains[1]
    votes = [vote for entry in entries for vote in entry.votes]
    assert any((vote.choice == "outer") != (vote.outer_loss < vote.inner_loss) for vote in votes)
    assert "w00" not in entries[-1].missing
    assert audit(run).returncode == 0


def test_audit_names_the_round_of_a_tampered_entry(cluster: Make) -> None:
    run = cluster(rounds=5)
    finish(run.server(), *run.workers())
    with sqlite3.connect(run.run / "ledger.sqlite") as ledger:
        ledger.execute('UPDATE entries SET body = replace(body, \'"choice":"inner"\', \'"choice":"outer"\')')
    found = audit(run)
    assert found.returncode == 2
    assert "round 1" in found.stderr


def test_an_average_that_liars_blow_up_ends_as_diverged(cluster: Make) -> None:
    run = cluster(rounds=5000, rule="Avg", gamma=1e6)
    server, workers = run.server(), run.workers(attack="SF(scale=1e30)")
    finish(server, *workers)
    last = json.loads((run.run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "finished"
    assert last["status"] == "diverged"


def test_sigterm_ends_every_process_in_good_order_and_the_run_goes_on_later(cluster: Make) -> None:
    run = cluster(rounds=2000)
    server, workers = run.server(), run.workers()
    wait_for(lambda: run.committed() >= 3, "three rounds")
    for process in (server, *workers):
        process.signal(signal.SIGTERM)
    finish(server, *workers)
    committed = run.committed()
    finish(run.server(rounds=committed + 2), *run.workers())
    assert run.committed() == committed + 2
