"""A training loop of one's own that takes part in a run: docs/your-own-loop.md.

python pytorch_loop.py init MODEL              # theta_0, for the server
python pytorch_loop.py NAME SERVER DATA.csv    # a worker: numbers in each row, the last one what is to be predicted
"""

import sys
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ostrakon import Worker, write_initial


def make_model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))


def endless(data: TensorDataset, batch_size: int):
    while True:
        yield from DataLoader(data, batch_size, shuffle=True)


def loss_of(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    inputs, targets = batch
    return nn.functional.mse_loss(model(inputs), targets)


def main(name: str, server: str, path: str) -> None:
    table = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.float32))
    data = TensorDataset(table[:, :-1], table[:, -1:])
    batches, others = endless(data, 16), endless(data, 64)
    model = make_model()
    tls = {"ca": "certificates/ca.pem", "certificate": f"certificates/worker-{name}.pem"}
    with Worker(model, server=server, tls=tls | {"key": f"certificates/worker-{name}.key"}) as worker:
        for round in worker:
            loss = loss_of(model, next(batches))
            loss.backward()
            round.submit(loss=loss.item())
            round.vote(partial(loss_of, model, next(others)))  # called with either candidate in `model`
    torch.save(model.state_dict(), f"{name}.pt")


if __name__ == "__main__":
    if sys.argv[1] == "init":
        write_initial(make_model(), sys.argv[2])
    else:
        main(*sys.argv[1:])
