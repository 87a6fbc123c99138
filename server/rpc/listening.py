"""The port: a gRPC server before anybody answers, its certificate, and what strangers may make it hold."""

import grpc
import structlog

from ostrakon.common.aggregation import BLOCK_BYTES
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity.renewal import RenewableCredentials
from ostrakon.common.runtime import allow_open_files
from ostrakon.common.wire import CHUNK_BYTES
from ostrakon.server.core.uploads import upload_slots
from ostrakon.server.settings import ServerSettings

log = structlog.get_logger()

UPLOAD_BUFFER_BYTES = 12 << 20  # gRPC's own, of an upload and five lanes more; measured

CONNECTIONS = 1536  # open at a time, those that have not shown a certificate yet included
OPEN_FILES = CONNECTIONS + 256

SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),  # otherwise a second server shares the port in silence
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),  # a worker that trains for longer connects again when it calls
    ("grpc.max_allowed_incoming_connections", CONNECTIONS),
    ("grpc.max_receive_message_length", CHUNK_BYTES + (64 << 10)),
    ("grpc.max_concurrent_streams", 16),  # a caller needs one or two at a time
    # What a call may send ahead of being read. On a fast line gRPC would raise it to megabytes: for every call of every
    # connection. An upload is read a message at a time, 1 MiB in each round trip at most; on long lines it has lanes.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16 << 10),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),  # a peer that is gone leaves no call open for long
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # shorter than a worker's, which would be cut off
)


def listening(settings: ServerSettings) -> grpc.aio.Server:
    """A gRPC server that is bound to its address and not started.

    Raises:
        OstrakonError: the address or the certificate cannot be used.
    """
    if not allow_open_files(OPEN_FILES):
        log.warning(f"few open files are allowed: raise the hard limit (ulimit -Hn) to {OPEN_FILES} at least")
    server = grpc.aio.server(options=SERVER_OPTIONS)
    try:
        if settings.tls is None:
            server.add_insecure_port(settings.listen)
        else:
            credentials = RenewableCredentials(settings.tls, "server")
            for warning in credentials.current.warnings:
                log.warning(warning)
            server.add_secure_port(settings.listen, credentials.server_credentials())
    except RuntimeError:
        raise OstrakonError(
            f"address {settings.listen} cannot be served on: the port is taken by another process, or the address is "
            "not this machine's. Stop the other process or set listen (ostrakon up: PORT=) to a free one"
        ) from None
    return server


def check_address(settings: ServerSettings) -> None:
    """Refuse to listen where others could come in, if nobody has to show a certificate.

    Raises:
        OstrakonError: the address is not on loopback.
    """
    host = settings.listen.rpartition(":")[0]
    if settings.tls is None:
        if host not in ("127.0.0.1", "localhost", "[::1]"):
            raise OstrakonError(
                f"listen = {settings.listen!r} without certificates: without [tls] the server listens on loopback "
                "only, since anybody could then claim to be any worker. Give tls.ca, tls.certificate and tls.key"
            )
        log.warning(
            "NO CERTIFICATES: every process on this machine can claim to be any worker", address=settings.listen
        )


def host_memory(settings: ServerSettings, d: int, vectors: int) -> int:
    """The bound on this server's memory beyond what an idle one takes, in bytes.

    A row of d float32 values per member; the model, both candidates, the running sum in float64 (two units) and what
    is serialised of them; what the rule declares, `vectors` of d values and its blocks; and what gRPC buffers for each
    upload.
    """
    buffers = upload_slots(settings) * UPLOAD_BUFFER_BYTES + BLOCK_BYTES
    return (len(settings.roster) + 8 + vectors) * 4 * d + buffers
