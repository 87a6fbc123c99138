"""The benchmark of the rules, on few numbers: what it writes, not how fast it is."""

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from ostrakon.bench.__main__ import app
from ostrakon.bench.aggregation import DEFAULT, measure
from ostrakon.bench.engine import PHASES
from ostrakon.bench.network import ours
from ostrakon.bench.network.distance import Distance
from ostrakon.bench.network.far import distance_table, measure_distance
from ostrakon.bench.network.picture import draw_crowd
from ostrakon.bench.network.report import Row
from ostrakon.common.device import resolve_device
from ostrakon.common.errors import OstrakonError
from ostrakon.deploy.processes import start_fork_server

KEYS = [
    *("rule", "n", "f", "d", "threads", "device"),
    *("milliseconds", "cpu_milliseconds", "floor_milliseconds", "peak_bytes"),
]


def bench(*arguments: str) -> Result:
    start_fork_server()  # memory is measured in processes forked from one that has torch
    return CliRunner().invoke(app, ["aggregation", "--d", "5000", "--repeat", "1", *arguments])


def test_rows_are_written_for_every_rule_that_applies(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = bench("--n", "9", "--f", "4", "--rules", "Mean2P; Krum; NNM+Avg", "--hostile", "--json", str(file))
    assert done.exit_code == 0, done.output
    rows = json.loads(file.read_text())
    assert [row["rule"] for row in rows] == ["Mean2P", "NNM+Avg"]
    assert "Krum: f=4 of n=9 workers: Krum needs n >= 2f + 3, so with n=9 f can be at most 3" in done.stdout
    for row in rows:
        assert list(row) == KEYS
        assert (row["n"], row["f"], row["d"], row["threads"], row["device"]) == (9, 4, 5000, 1, "cpu")
        assert row["milliseconds"] > 0
        assert row["floor_milliseconds"] > 0
        assert sys.platform != "linux" or row["peak_bytes"] >= 0


def test_an_unknown_rule_and_a_missing_gpu_are_refused_in_a_sentence() -> None:
    unknown = CliRunner().invoke(app, ["aggregation", "--rules", "Mean3P"])
    assert unknown.exit_code == 2
    assert unknown.stderr.startswith("error: unknown rule 'Mean3P'; did you mean ")
    with pytest.raises(OstrakonError, match="no rule is left to time: Avg: f=5 of n=10 workers: f must be below n/2"):
        measure(DEFAULT, 10, 5, 5000, torch.device("cpu"), 1, 1)
    if not torch.cuda.is_available():
        with pytest.raises(OstrakonError, match="device = 'cuda', but torch finds 0 GPUs"):
            resolve_device("cuda")


def test_where_the_time_of_an_engines_round_goes_is_shown_beside_a_plain_product() -> None:
    words = ["--task", "linear", "--workers", "5", "--byzantine", "2", "--runs", "2", "--repeat", "1", "--threads", "1"]
    done = CliRunner().invoke(app, ["engine", *words])
    assert done.exit_code == 0, done.output
    assert "runs side by side: 2" in done.output
    lines = [line.split() for line in done.output.splitlines() if "%" in line]
    assert [line[0] for line in lines] == list(PHASES)
    assert all(int(line[4]) > 0 for line in lines)
    refused = CliRunner().invoke(app, ["engine", "--task", "linear", "--rule", "Mean3P"])
    assert refused.exit_code == 2
    assert "unknown rule 'Mean3P'" in refused.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_benchmark_runs_on_a_gpu(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = bench("--device", "cuda", "--n", "9", "--f", "2", "--json", str(file))
    assert done.exit_code == 0, done.output
    assert all(row["peak_bytes"] >= 0 for row in json.loads(file.read_text()))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process has used is read from /proc")
def test_a_round_of_the_network_is_measured_beside_the_least_that_its_bytes_cost(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    words = ["--n", "5", "--d", "2000", "--rules", "Mean2P", "--seconds", "0", "--json", str(file)]
    done = CliRunner().invoke(app, ["network", *words])
    assert done.exit_code == 0, done.output
    ours, *floors = json.loads(file.read_text())
    assert [ours["what"], *(floor["what"] for floor in floors)] == [
        *("Mean2P", "gRPC stream, as Mean2P", "TLS sockets, as Mean2P")
    ]
    vector = 4 * 2000
    assert 5 * vector < ours["received"] < 5 * vector + 5000  # one momentum of each, and headers
    assert 5 * vector < ours["sent"] < 10 * vector + 10000  # both candidates to each, as long as the vote is open
    assert list(ours["phases"]) == ["collecting", "aggregating", "voting", "committing"]
    assert ours["threads"].keys() >= {"files"}
    for row in (ours, *floors):
        assert min(row[name] for name in ("rounds_per_second", "server_cpu", "worker_cpu", "peak_bytes")) > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process has used is read from /proc")
def test_many_workers_can_be_sessions_of_one_process() -> None:
    start_fork_server()
    found = ours.measure("Mean2P", 12, 4, 1000, seconds=0, least=3, crowd=True)
    assert 12 * 4000 < found.received < 12 * 4000 + 12 * 1000
    assert found.phases.keys() == {"collecting", "aggregating", "voting", "committing"}
    assert found.worker.cpu > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process has used is read from /proc")
def test_vectors_over_a_long_line_are_timed_beside_bare_sockets() -> None:
    start_fork_server()
    line = Distance(delay=0.01, rate=1e8)
    found = measure_distance(500_000, line)
    for took, floor in ((found.up, found.floor_up), (found.down, found.floor_down)):
        assert len(took) == 6
        assert min(*took, floor) > line.seconds(4 * 500_000)
    assert found.promised_bytes > 0
    assert distance_table(500_000, line, found).row_count == 2


def test_costs_and_memory_are_drawn_over_the_number_of_workers(tmp_path: Path) -> None:
    rows = [
        Row(what, n, 1000, 1.0, cost * n, 1.0, 10**8 * n, threads={"files": n} if cost > 1 else {}, phases=phases)
        for n in (10, 100)
        for what, cost, phases in (("Avg", 3, {"voting": (1, 1)}), ("gRPC stream, as Avg", 1, {}))
    ]
    draw_crowd(tmp_path / "crowd.png", rows)
    assert (tmp_path / "crowd.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_measured_on_the_network_is_a_sentence() -> None:
    start_fork_server()
    for words, sentence in (
        (["--n", "ten"], "--n 'ten' cannot be used"),
        (["--flower", "/none"], "/none is no interp"),
    ):
        done = CliRunner().invoke(app, ["network", *words])
        assert (done.exit_code, done.stderr.startswith(f"error: {sentence}")) == (2, True), done.output
    done = CliRunner().invoke(app, ["network", "--n", "4", "--rules", "Mean3P"])
    assert (done.exit_code, done.stderr[:28]) == (2, "error: unknown rule 'Mean3P'")
