"""`ostrakon certificates`: what it writes, refuses and shows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from ostrakon.cli.certificates import app
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity
from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.identity.renewal import RenewableCredentials
from ostrakon.common.identity.revocation import read_revoked, revocation_list
from ostrakon.common.settings import TlsFiles
from ostrakon.deploy.certificates import init, issue, revoke


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init(tmp_path)
    return tmp_path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def names(files: TlsFiles) -> list[str]:
    leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]


def test_every_key_can_be_read_by_its_owner_alone(folder: Path) -> None:
    run("issue", folder, "server", "main", "--host", "ps.example.org")
    run("issue", folder, "worker", "oslo")
    run("issue", folder, "worker", "oslo", "--renew")
    keys = sorted(folder.glob("*.key"))
    assert [key.name for key in keys] == ["ca.key", "server-main.key", "worker-oslo.key"]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_a_certificate_that_still_serves_is_replaced_only_where_it_is_to_be_renewed(folder: Path) -> None:
    files = issue(folder, "worker", "oslo")
    first = files.certificate.read_bytes()
    run("issue", folder, "worker", "oslo")
    assert files.certificate.read_bytes() == first
    run("issue", folder, "worker", "oslo", "--renew")
    assert files.certificate.read_bytes() != first
    assert Credentials.load(files, "worker").identity == Identity("worker", "oslo")


@pytest.mark.parametrize("host", ["tür.example", "", "a b", "a..b", ".a", "a" * 64, ".".join(["a" * 60] * 5)])
def test_what_cannot_be_the_name_of_a_host_is_refused(folder: Path, host: str) -> None:
    with pytest.raises(OstrakonError, match="is no name of a host"):
        issue(folder, "server", "main", [host])
    assert not (folder / "server-main.pem").exists()


def test_a_renewed_server_keeps_the_names_by_which_it_is_reached(folder: Path) -> None:
    files = issue(folder, "server", "main", ["ps.example.org", "192.0.2.7"])
    before = names(files)
    assert {"ps.example.org", "192.0.2.7", "localhost"} <= set(before)
    issue(folder, "server", "main", ["other.example.org"], renew=True)
    assert set(names(files)) == {*before, "other.example.org"}


def test_a_process_takes_a_renewed_certificate_up_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    files = issue(folder, "worker", "oslo")
    held = RenewableCredentials(files, "worker")
    first = held.current
    assert not held.renewed()

    own_key = files.key.read_bytes()
    other = issue(folder, "worker", "pisa")
    files.key.write_bytes(other.key.read_bytes())  # half of a renewal
    assert not held.renewed() and held.current is first
    files.certificate.write_bytes(other.certificate.read_bytes())  # another process's
    assert not held.renewed() and held.current is first
    files.key.write_bytes(own_key)
    files.certificate.unlink()
    assert not held.renewed() and held.current is first

    issue(folder, "worker", "oslo", renew=True)
    assert held.renewed()
    assert held.current != first and held.current.identity == first.identity
    assert not held.renewed()


def test_who_is_revoked_is_on_the_list_that_a_server_finds_beside_its_authority(folder: Path) -> None:
    issue(folder, "worker", "oslo")
    server = issue(folder, "server", "main")
    said = run("revoke", folder, "worker", "oslo")
    assert str(revocation_list(server)) in said and "note:" not in said
    said = run("revoke", folder, "observer", "pisa")
    assert "holds no certificate of observer pisa; is the name right?" in said
    run("revoke", folder, "worker", "oslo")  # once more changes nothing
    assert read_revoked(revocation_list(server)) == {Identity("worker", "oslo"), Identity("observer", "pisa")}
    with pytest.raises(OstrakonError, match="worker oslo is revoked: no certificate in this name is let in"):
        issue(folder, "worker", "oslo", renew=True)


@pytest.mark.parametrize("role", ["server", "adversary"])
def test_whom_others_call_cannot_be_revoked(folder: Path, role: str) -> None:
    with pytest.raises(OstrakonError, match=f"a {role} cannot be revoked: .*Make a new authority"):
        revoke(folder, role, "main")  # type: ignore[arg-type]


def test_a_list_of_the_revoked_that_cannot_be_read_is_not_overwritten(folder: Path) -> None:
    (folder / "revoked.txt").write_text("oslo")
    with pytest.raises(OstrakonError, match="'oslo' is no identity"):
        revoke(folder, "worker", "pisa")
    assert (folder / "revoked.txt").read_text() == "oslo"


def test_the_list_shows_whose_each_certificate_is_and_whether_it_lets_its_process_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(folder, "server", "main", days=400)
    issue(folder, "worker", "oslo", days=20)
    issue(folder, "worker", "pisa")
    issue(folder, "observer", "old", days=1)
    revoke(folder, "worker", "pisa")
    revoke(folder, "operator", "gone")

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(days=2)

    monkeypatch.setattr("ostrakon.deploy.certificates.datetime", Later)
    lines = run("list", folder).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["server", "main"],
        ["worker", "oslo"],
        ["worker", "pisa"],
        ["observer", "old"],
        ["operator", "gone"],
    ]
    states = {line.split()[1]: line.rstrip() for line in lines[1:]}
    assert "valid, 397 days left" in states["main"] and "renew" not in states["main"]
    assert "valid, 17 days left: renew it" in states["oslo"]
    assert states["pisa"].endswith("revoked") and states["gone"].endswith("revoked")
    assert states["old"].endswith("expired")
    assert "ca" not in states


def test_a_process_says_that_its_certificate_is_due(folder: Path) -> None:
    files = issue(folder, "worker", "oslo", days=20)
    (warning,) = Credentials.load(files, "worker").warnings
    assert "expires on" in warning and "have it renewed" in warning
