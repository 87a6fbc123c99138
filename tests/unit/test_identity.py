"""Certificates: who is accepted, and what a person is told who is not."""

import socket
import ssl
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import cast

import grpc
import pytest
from cryptography import x509

from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import Identity, identity_of, parse
from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.identity.handshake import handshake_failure
from ostrakon.common.settings import TlsFiles
from ostrakon.deploy import certificates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certificates.init(folder)
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strangers")
    certificates.init(folder)
    return folder


def who_am_i(server: TlsFiles, host: str = "127.0.0.1") -> tuple[grpc.Server, int, list[Identity | None]]:
    """A gRPC server with one method, which notes who called."""
    callers: list[Identity | None] = []

    def note(request: bytes, context: grpc.ServicerContext) -> bytes:
        callers.append(identity_of(cast(Mapping[str, Iterable[bytes]], context.auth_context())))
        return b""

    served = grpc.server(ThreadPoolExecutor(2))
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(note)
    served.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Callers", {"Note": method}),))
    port = served.add_secure_port(f"{host}:0", Credentials.load(server, "server").server_credentials())
    served.start()
    return served, port, callers


@pytest.fixture(scope="module")
def listening(folder: Path) -> Iterator[tuple[str, list[Identity | None]]]:
    served, port, callers = who_am_i(certificates.issue(folder, "server", "main"))
    yield f"127.0.0.1:{port}", callers
    served.stop(None).wait()


def call(address: str, tls: TlsFiles) -> None:
    with grpc.secure_channel(address, Credentials.load(tls, "worker").channel_credentials()) as channel:
        note: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Callers/Note")
        note(b"", timeout=30)


def test_an_identity_reads_back_from_its_urn() -> None:
    assert parse("urn:ostrakon:worker:w00") == Identity("worker", "w00")
    assert parse(Identity("operator", "a.b-c_D").urn) == Identity("operator", "a.b-c_D")


@pytest.mark.parametrize(
    "urn",
    ["", "w00", "urn:ostrakon:king:w00", "urn:ostrakon:worker:", "urn:ostrakon:worker:../a", "urn:ostrakon:worker:a\n"],
)
def test_other_names_are_no_identity(urn: str) -> None:
    with pytest.raises(OstrakonError, match="no identity"):
        parse(urn)


def test_the_identity_of_a_peer_is_its_only_ostrakon_name() -> None:
    name = "x509_subject_alternative_name"
    assert identity_of({name: [b"localhost", b"urn:ostrakon:worker:w01"]}) == Identity("worker", "w01")
    assert identity_of({name: [b"urn:ostrakon:worker:w01", b"urn:ostrakon:operator:x"]}) is None
    assert identity_of({name: [b"urn:ostrakon:king:w01"]}) is None
    assert identity_of({name: [b"\xff"]}) is None
    assert identity_of({}) is None


def test_a_grpc_server_learns_who_calls_from_the_certificate(
    folder: Path, listening: tuple[str, list[Identity | None]]
) -> None:
    address, callers = listening
    call(address, certificates.issue(folder, "worker", "w07"))
    assert callers[-1] == Identity("worker", "w07")


def test_a_handshake_that_works_has_no_failure(folder: Path, listening: tuple[str, list[Identity | None]]) -> None:
    assert handshake_failure(listening[0], certificates.issue(folder, "worker", "w07")) is None


def test_a_client_of_another_authority_learns_that_the_server_is_not_accepted(
    strangers: Path, listening: tuple[str, list[Identity | None]]
) -> None:
    stranger = certificates.issue(strangers, "worker", "w07")
    assert "of the server" in str(handshake_failure(listening[0], stranger))
    with pytest.raises(grpc.RpcError):
        call(listening[0], stranger)


def test_a_client_whom_the_server_refuses_learns_that_its_certificate_is_refused(
    folder: Path, strangers: Path, listening: tuple[str, list[Identity | None]]
) -> None:
    stranger = certificates.issue(strangers, "worker", "w07")
    trusting = TlsFiles(ca=folder / "ca.pem", certificate=stranger.certificate, key=stranger.key)
    assert "refuses our certificate" in str(handshake_failure(listening[0], trusting))


def test_a_server_certificate_for_another_host_is_named(
    folder: Path, listening: tuple[str, list[Identity | None]]
) -> None:
    worker = certificates.issue(folder, "worker", "w07")
    assert handshake_failure(listening[0].replace("127.0.0.1", "localhost"), worker) is None
    elsewhere, port, _ = who_am_i(certificates.issue(folder, "server", "main"), "127.0.0.2")
    sentence = handshake_failure(f"127.0.0.2:{port}", worker)
    elsewhere.stop(None).wait()
    assert "to name 127.0.0.2" in str(sentence)


def test_a_server_without_tls_is_named(folder: Path) -> None:
    served = grpc.server(ThreadPoolExecutor(1))
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    sentence = handshake_failure(f"127.0.0.1:{port}", certificates.issue(folder, "worker", "w07"))
    served.stop(None).wait()
    assert sentence is not None
    assert str(port) in sentence


def test_where_nobody_listens_there_is_no_handshake_to_fail(folder: Path) -> None:
    assert handshake_failure("127.0.0.1:9", certificates.issue(folder, "worker", "w07")) is None


@pytest.mark.parametrize("reset", [False, True])
def test_a_server_that_dies_during_the_handshake_has_refused_nobody(folder: Path, reset: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def die() -> None:
            connection, _ = listener.accept()
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                connection.recv(1)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)
            connection.close()

        dying = Thread(target=die)
        dying.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert handshake_failure(address, certificates.issue(folder, "worker", "w07")) is None
        dying.join()


def test_a_server_that_dies_right_after_the_handshake_has_refused_nobody(folder: Path) -> None:
    served = certificates.issue(folder, "server", "main")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(served.certificate, served.key)
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"

    def die() -> None:
        connection, _ = listener.accept()
        listener.close()
        context.wrap_socket(connection, server_side=True).close()

    dying = Thread(target=die)
    dying.start()
    assert handshake_failure(address, certificates.issue(folder, "worker", "w07")) is None
    dying.join()


def refusal(tls: TlsFiles) -> str:
    with pytest.raises(OstrakonError) as caught:
        Credentials.load(tls, "worker")
    return str(caught.value)


def replaced(tls: TlsFiles, **files: Path) -> TlsFiles:
    return TlsFiles.model_validate({**tls.model_dump(), **files})


def test_credentials_that_cannot_be_used_are_refused_with_the_reason(
    folder: Path, strangers: Path, tmp_path: Path
) -> None:
    good = certificates.issue(folder, "worker", "w00")
    assert Credentials.load(good, "worker").identity == Identity("worker", "w00")
    damaged = tmp_path / "damaged.pem"
    damaged.write_bytes(good.certificate.read_bytes()[:200])
    other = certificates.issue(folder, "worker", "w01")
    operator = certificates.issue(folder, "operator", "local")
    assert "does not exist" in refusal(replaced(good, key=tmp_path / "none.key"))
    assert "is damaged" in refusal(replaced(good, certificate=damaged))
    assert "is damaged" in refusal(replaced(good, ca=damaged))
    assert "is damaged" in refusal(replaced(good, key=damaged))
    assert "does not belong" in refusal(replaced(good, key=other.key))
    assert "not signed by the authority" in refusal(replaced(good, ca=strangers / "ca.pem"))
    assert "expected worker, certificate says operator" in refusal(operator)
    nobody = replaced(good, certificate=folder / "ca.pem", key=folder / "ca.key")
    assert "names nobody" in refusal(nobody)


def test_expired_and_future_certificates_are_refused_with_the_date(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_CLOCK_SKEW", timedelta(days=9))
    expired = certificates.issue(folder, "worker", "late", days=-2)
    monkeypatch.setattr(certificates, "_CLOCK_SKEW", timedelta(days=-2))
    future = certificates.issue(folder, "worker", "early")
    for tls, word, attribute in ((expired, "expired on", "after"), (future, "not valid before", "before")):
        certificate = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
        date = getattr(certificate, f"not_valid_{attribute}_utc")
        assert f"{word} {date:%Y-%m-%d}" in refusal(tls)


def test_a_key_that_others_can_read_is_only_a_warning(folder: Path) -> None:
    tls = certificates.issue(folder, "worker", "open")
    assert Credentials.load(tls, "worker").warnings == ()
    tls.key.chmod(0o644)
    assert "chmod 600" in Credentials.load(tls, "worker").warnings[0]


def test_keys_are_private_and_valid_certificates_are_kept(folder: Path) -> None:
    first = certificates.issue(folder, "server", "kept")
    before = first.certificate.read_bytes(), (folder / "ca.pem").read_bytes()
    certificates.init(folder)
    assert certificates.issue(folder, "server", "kept") == first
    assert (first.certificate.read_bytes(), (folder / "ca.pem").read_bytes()) == before
    assert stat.S_IMODE(first.key.stat().st_mode) == stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600


def test_a_certificate_that_no_longer_serves_is_issued_anew(folder: Path) -> None:
    server = certificates.issue(folder, "server", "moved")
    before = server.certificate.read_bytes()
    certificates.issue(folder, "server", "moved", hosts=["node-1.example", "10.0.0.1"])
    assert server.certificate.read_bytes() != before
    names = x509.load_pem_x509_certificate(server.certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost", "node-1.example"]


def test_an_unreadable_authority_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OstrakonError, match="holds no authority"):
        certificates.issue(tmp_path, "worker", "w00")
    certificates.init(tmp_path)
    (tmp_path / "ca.key").write_text("nonsense")
    with pytest.raises(OstrakonError, match="cannot be read"):
        certificates.issue(tmp_path, "worker", "w00")
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(OstrakonError, match="cannot be read"):
        certificates.init(tmp_path)
