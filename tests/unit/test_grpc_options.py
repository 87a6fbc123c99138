"""The options given to gRPC, which takes a name that it does not know in silence."""

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from ostrakon.server.rpc.listening import SERVER_OPTIONS
from ostrakon.worker.connection import CHANNEL_OPTIONS


@pytest.fixture(scope="module")
def library() -> bytes:
    return Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", sorted({name for name, _ in (*SERVER_OPTIONS, *CHANNEL_OPTIONS)}))
def test_every_option_has_a_name_that_grpc_knows(name: str, library: bytes) -> None:
    assert name.encode() in library


def test_a_worker_may_ping_as_often_as_it_does() -> None:
    """Otherwise the server cuts off whoever waits, with "Too many pings"."""
    allowed = dict(SERVER_OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"]
    assert 2 * allowed <= dict(CHANNEL_OPTIONS)["grpc.keepalive_time_ms"]
