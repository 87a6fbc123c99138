"""Looks at a run while it runs: the server's Status, and the evaluator's measurements as they are written."""

import json
from pathlib import Path
from typing import Any

import grpc

from ostrakon.common.identity.credentials import Credentials
from ostrakon.common.proxy import channel_options
from ostrakon.common.run_files import EVALUATIONS
from ostrakon.common.settings import read
from ostrakon.common.wire import PROTOCOL
from ostrakon.deploy.live import Progress
from ostrakon.deploy.measured import of_model
from ostrakon.deploy.run_folder import RunFolder
from ostrakon.server.settings import ServerSettings
from ostrakon.v1 import parameter_server_pb2 as pb

_OPTIONS = (
    # The server starts while we look for it, and may be started again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Watch:
    """One operator's connection to a run's server.

    Raises:
        OstrakonError: the operator's certificate or the server's settings cannot be used.
    """

    def __init__(self, folder: RunFolder) -> None:
        address = read(ServerSettings, folder.server).listen
        credentials = Credentials.load(folder.tls("operator-local"), "operator")
        options = (*_OPTIONS, *channel_options(address))
        self._channel = grpc.secure_channel(address, credentials.channel_credentials(), options=options)
        self._status: grpc.UnaryUnaryMultiCallable[pb.StatusRequest, pb.StatusResponse] = self._channel.unary_unary(
            "/ostrakon.v1.ParameterServer/Status",
            request_serializer=pb.StatusRequest.SerializeToString,
            response_deserializer=pb.StatusResponse.FromString,
        )
        self._evaluations = _Tail(folder.path / EVALUATIONS)

    def poll(self, progress: Progress, now: float, timeout: float) -> bool:
        """Bring `progress` up to date; returns whether the server answered within `timeout` seconds."""
        for line in self._evaluations.new_lines():
            if (found := of_model(line)) is not None:
                progress.measure(found)
        try:
            status = self._status(pb.StatusRequest(stamp=pb.Stamp(protocol=PROTOCOL)), timeout=timeout)
        except grpc.RpcError:
            return False
        progress.update(status, now)
        return True

    def close(self) -> None:
        self._channel.close()


class _Tail:
    """The lines of a growing file, each once, when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:  # not there yet, or unreadable: that is the evaluator's to say
            return []
        self._offset += len(whole) + len(newline)
        lines = []
        for text in whole.splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
        return [line for line in lines if isinstance(line, dict)]
