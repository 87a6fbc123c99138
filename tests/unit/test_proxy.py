"""Proxies of the environment: never between processes of one machine, and named where one may be the trouble."""

import asyncio

import grpc
import pytest
import structlog

from ostrakon.common.proxy import VARIABLES, channel_options, proxy_of
from ostrakon.worker.connection import Connection
from ostrakon.worker.transport import CallFailed
from tests.harness.cluster import free_port

DIRECTLY = (("grpc.enable_http_proxy", 0),)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "127.1", "localhost", "LOCALHOST.", "ps.localhost", "[::1]", "0.0.0.0", "[::]"]
)
def test_no_proxy_stands_between_processes_of_one_machine(host: str) -> None:
    assert channel_options(f"{host}:7433") == DIRECTLY
    assert proxy_of(f"{host}:7433", {"https_proxy": "http://proxy:3128"}) is None


def test_a_proxy_is_named_without_its_password() -> None:
    both = {"https_proxy": "http://ann:p@ss@proxy:3128", "http_proxy": "http://other"}
    assert proxy_of("ps.example.org:7433", both) == "https_proxy=http://***@proxy:3128"
    assert proxy_of("ps.example.org:7433", {"grpc_proxy": "ann:pass@proxy"}) == "grpc_proxy=***@proxy"
    assert proxy_of("ps.example.org:7433", {"all_proxy": "http://proxy"}) is None  # gRPC does not know it
    assert channel_options("ps.example.org:7433") == channel_options("notlocalhost:1") == ()


@pytest.mark.parametrize(
    ("listed", "excepted"),
    [("example.org", True), ("a.b, .ORG", True), ("10.0.0.0/8", False), ("example.com", False), ("", False)],
)
def test_a_host_in_no_proxy_is_called_directly(listed: str, excepted: bool) -> None:
    proxy = proxy_of("ps.example.org:7433", {"http_proxy": "http://proxy", "no_proxy": listed})
    assert (proxy is None) == excepted
    assert proxy_of("10.1.2.3:7433", {"http_proxy": "http://proxy", "no_proxy": "10.0.0.0/8"}) is None


def test_who_waits_for_a_server_behind_a_proxy_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://ann:secret@127.0.0.1:{free_port()}")

    async def call() -> None:
        async with Connection("192.0.2.1:7433", "worker", id="w00") as connection:
            with pytest.raises(CallFailed, match=r"(?i)connect"):
                await connection.status()
            for _ in range(2):
                assert connection.handshake_failure() is None

    with structlog.testing.capture_logs() as said:
        asyncio.run(call())
    assert len(said) == 1
    assert said[0]["server"] == "192.0.2.1:7433"
    assert said[0]["proxy"].startswith("http_proxy=http://***@127.0.0.1:")


def test_a_call_on_loopback_finds_its_server_beside_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")

    async def call() -> str:
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with Connection(f"127.0.0.1:{port}", "worker", id="w00") as connection:
            try:
                await connection.status()
            except CallFailed as failed:
                return failed.status
            finally:
                await server.stop(grace=0)
        return "answered"

    assert asyncio.run(call()) == "UNIMPLEMENTED"  # it is a server that knows no calls, but it was found
