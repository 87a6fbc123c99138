"""What a person did wrong gets one sentence and a non-zero exit; nothing is harmed."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ostrakon.deploy import certificates
from ostrakon.deploy.certificates import init, issue
from tests.harness.cluster import Cluster, Process, wait_for

Make = Callable[..., Cluster]


def sentence(process: Process) -> str:
    """The one sentence of a process that refused its input."""
    assert process.wait() == 2, process.text
    last = process.text.strip().splitlines()[-1]
    assert last.startswith("error: "), process.text
    return last


def serving(run: Cluster, **changes: object) -> Process:
    server = run.server(**changes)
    wait_for(lambda: "serving" in server.text or not server.alive, "the server")
    assert server.alive, server.text
    return server


def test_a_second_server_on_a_run_is_told_who_holds_it(cluster: Make) -> None:
    run = cluster()
    first = serving(run)
    again = run.start("ostrakon.server.process", run.server_settings | {"listen": "127.0.0.1:0"}, "again")
    assert "served already, by process" in sentence(again)
    assert first.alive


def test_a_taken_port_is_named(cluster: Make) -> None:
    run, other = cluster("one"), cluster("two")
    serving(run)
    found = sentence(other.server(listen=run.address))
    assert run.address in found
    assert "taken" in found


def test_resuming_with_other_settings_names_the_difference(cluster: Make) -> None:
    run = cluster()
    serving(run).kill()
    assert "rule = 'Mean2P', the settings now say 'Avg'" in sentence(run.server(rule="Avg"))
    serving(run)


def test_damage_is_named_and_not_overwritten(cluster: Make) -> None:
    run = cluster(rounds=1)
    server, workers = run.server(), run.workers()
    assert server.wait() == 0, server.text
    for worker in workers:
        worker.wait()
    ledger = run.run / "ledger.sqlite"
    content = ledger.read_bytes()
    for beside in run.run.glob("ledger.sqlite-*"):
        beside.unlink()
    damaged = content[: len(content) // 2] + b"\0" * 16
    ledger.write_bytes(damaged)
    assert ledger.name in sentence(run.server(rounds=2))
    assert ledger.read_bytes() == damaged


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"f": 2}, "f=2 of n=3 workers: f must be below n/2, so at most 1"),
        ({"rule": "mean2p"}, "Mean2P"),
        ({"ruel": "Avg"}, "did you mean rule?"),
        ({"device": "cuda:7"}, "GPU"),
        ({"tls": None}, "tls"),
        ({"initial": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"initial": "/dev"}, "/dev"),
        ({"directory": "/dev/null"}, "/dev/null is in the way: a folder is needed"),
        ({"directory": "/dev/null/run"}, "leads through a file"),
        ({"directory": "/dev/null/" + 300 * "x"}, "too long a path"),
        ({"gamma": float("inf")}, "finite"),
        ({"roster": ["w00", "Z\u00fcrich", "w02"]}, "can stand in no certificate"),
    ],
)
def test_settings_that_cannot_be_used_are_named(cluster: Make, changes: dict[str, object], expected: str) -> None:
    run = cluster()
    if changes.get("tls", run) is None:  # no certificates beyond loopback
        del run.server_settings["tls"]
        changes = {"listen": "0.0.0.0:0"}
    assert expected in sentence(run.server(**changes))
    assert not (run.run / "ledger.sqlite").exists() or not run.entries()


def test_what_stands_in_the_place_of_a_runs_files_is_named(cluster: Make) -> None:
    for place in ("models", "metrics.jsonl", "ledger.sqlite", "server.lock"):
        run = cluster(place)
        path = run.run / place
        path.parent.mkdir()
        if place == "models":
            path.symlink_to(run.run / "nowhere")
        else:
            path.mkdir()
        server = run.server()
        assert str(path) in sentence(server)
        assert "Traceback" not in server.text


def test_only_the_runs_own_workers_get_in(cluster: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = cluster()
    server = serving(run)
    foreign = tmp_path / "foreign"
    init(foreign)
    issue(foreign, "worker", "w00")
    issue(run.certificates, "worker", "w99")
    issue(run.certificates, "worker", "w98", days=1)
    stranger = {
        "ca": str(run.certificates / "ca.pem"),
        "certificate": str(foreign / "worker-w00.pem"),
        "key": str(foreign / "worker-w00.key"),
    }
    # Of another authority: noticed by the worker itself, and by the server where the worker trusts that authority.
    assert "not signed by the authority" in sentence(run.worker("w00", tls=stranger))
    both = tmp_path / "both.pem"
    both.write_bytes((run.certificates / "ca.pem").read_bytes() + (foreign / "ca.pem").read_bytes())
    assert "refuses our certificate" in sentence(run.worker("w00", tls=stranger | {"ca": str(both)}))

    assert "w99 is not on the roster" in sentence(run.worker("w99"))
    assert "another role" in sentence(run.worker("w00", tls=run.tls("observer", "evaluator")))
    assert "does not exist" in sentence(run.worker("w00", tls=run.tls("worker", "nobody")))
    assert "different" not in server.text
    assert "this run learns the task linear" in sentence(run.worker("w00", task="glyphs"))
    assert server.alive


def test_an_expired_certificate_is_named_with_its_date(cluster: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = cluster()

    class Past(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(0)

    shutil.rmtree(run.certificates)
    monkeypatch.setattr(certificates, "datetime", Past)
    init(run.certificates, days=36500)
    issue(run.certificates, "worker", "w00", days=1)
    assert "expired on 2020-01-02" in sentence(run.worker("w00"))
