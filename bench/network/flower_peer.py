"""One process of a Flower run: the server, or a client. Run by an interpreter that has Flower, alone and by its path.

Clients do what our workers do: a step of gradient descent for a linear function of d inputs, on one example. There is
no vote. Server: `flower_peer.py server ADDRESS N D CA CERTIFICATE KEY`, which writes a line after each round; client:
`flower_peer.py client ADDRESS D CA`.
"""

import sys
from pathlib import Path

import flwr  # type: ignore[import-not-found,unused-ignore]
import numpy as np

_LIFE = 10**6  # rounds: it is ended when enough is measured


class _Client(flwr.client.NumPyClient):  # type: ignore[misc,unused-ignore]
    def __init__(self, d: int) -> None:
        self._input = np.random.default_rng().standard_normal(d, dtype=np.float32) / np.float32(d**0.5)

    def fit(self, parameters: list[np.ndarray], config: object) -> tuple[list[np.ndarray], int, dict[str, float]]:
        (theta,) = parameters
        gradient = 2 * (self._input @ theta - 1) * self._input
        return [theta - np.float32(0.01) * gradient], 1, {}


class _Average(flwr.server.strategy.FedAvg):  # type: ignore[misc,unused-ignore]
    def aggregate_fit(self, server_round: int, results: object, failures: object) -> object:
        found = super().aggregate_fit(server_round, results, failures)
        print(server_round, flush=True)
        return found


def _serve(address: str, n: int, d: int, files: list[str]) -> None:
    strategy = _Average(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=n,
        min_available_clients=n,
        initial_parameters=flwr.common.ndarrays_to_parameters([np.zeros(d, dtype=np.float32)]),
    )
    flwr.server.start_server(
        server_address=address,
        config=flwr.server.ServerConfig(num_rounds=_LIFE),
        strategy=strategy,
        certificates=tuple(Path(file).read_bytes() for file in files),
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", address, n, d, *files]:
            _serve(address, int(n), int(d), files)
        case ["client", address, d, ca]:
            client = _Client(int(d)).to_client()
            flwr.client.start_client(server_address=address, client=client, root_certificates=Path(ca).read_bytes())
