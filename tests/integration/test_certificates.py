"""Certificates under a live run: who is revoked is out from the next round on, who renews loses no round."""

import socket
import ssl
from collections.abc import Callable

from cryptography import x509

from ostrakon.deploy.certificates import issue, revoke
from ostrakon.server.storage.audit import audit
from tests.harness.cluster import Cluster, wait_for

Make = Callable[..., Cluster]


def presented(run: Cluster) -> x509.Certificate:
    """The certificate that the server shows to a new connection."""
    context = ssl.create_default_context(cafile=run.certificates / "ca.pem")
    stem = run.certificates / f"worker-{run.roster[0]}"
    context.load_cert_chain(f"{stem}.pem", f"{stem}.key")
    host, _, port = run.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")


def test_a_revoked_worker_is_out_without_a_restart_and_the_others_go_on(cluster: Make) -> None:
    run = cluster(workers=5, f=1, rounds=100_000, absent_after=1)
    server = run.server()
    workers = {name: run.worker(name) for name in run.roster}
    wait_for(lambda: run.committed() >= 3, "three rounds")
    revoke(run.certificates, "worker", "w04")

    assert workers["w04"].wait() == 2
    assert "worker w04 is revoked" in workers["w04"].text.strip().splitlines()[-1]
    first = wait_for(lambda: next((e.round for e in run.entries() if e.revoked), 0), "the entry that says so")
    wait_for(lambda: run.committed() >= first + 5, "rounds after it")
    for entry in run.entries():
        assert entry.revoked == (("w04",) if entry.round >= first else ())
        assert entry.missing == {}  # one round after the other: nobody was waited for in vain
    assert server.text.count("event=revoked") == 1
    again = run.start("ostrakon.worker.process", run.worker_settings("w04"), "again")
    assert again.wait() == 2 and "worker w04 is revoked" in again.text

    server.kill()
    run.server()
    before = run.committed()
    wait_for(lambda: run.committed() >= before + 3, "rounds after a restart")
    assert run.entries()[-1].revoked == ("w04",)
    assert all(workers[name].alive for name in run.roster[:4])
    run.stop()
    audit(run.run)


def test_every_certificate_can_be_renewed_under_a_run_and_no_round_is_lost(cluster: Make) -> None:
    run = cluster(workers=3, f=1, rounds=100_000, absent_after=1)
    server, workers = run.server(), run.workers()
    wait_for(lambda: run.committed() >= 3, "three rounds")
    first = presented(run).serial_number

    issue(run.certificates, "server", "server", renew=True)
    for name in run.roster:
        issue(run.certificates, "worker", name, renew=True)
    for process in workers:
        wait_for(lambda process=process: "certificate renewed" in process.text, f"{process.output.name} to renew")
    assert presented(run).serial_number != first
    before = run.committed()
    wait_for(lambda: run.committed() >= before + 5, "rounds over new connections")
    assert server.alive and all(worker.alive for worker in workers)
    assert all(entry.missing == {} for entry in run.entries())
    run.stop()
    audit(run.run)
