"""Lightning's Trainer as a worker: python lightning_loop.py NAME SERVER DATA.csv, or ... init MODEL."""

import sys
from functools import partial

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ostrakon import LightningCallback, Worker, write_initial


class Regression(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)  # makes no step: that is the server's


def main(name: str, server: str, path: str) -> None:
    table = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.float32))
    data = TensorDataset(table[:, :-1], table[:, -1:])
    module = Regression()
    tls = {"ca": "certificates/ca.pem", "certificate": f"certificates/worker-{name}.pem"}
    with Worker(module, server=server, tls=tls | {"key": f"certificates/worker-{name}.key"}) as worker:
        vote = LightningCallback(worker, lambda: partial(module.training_step, data[torch.randperm(len(data))[:64]]))
        trainer = lightning.Trainer(max_steps=worker.rounds, callbacks=[vote], logger=False, enable_checkpointing=False)
        trainer.fit(module, DataLoader(data, 16, shuffle=True))
    torch.save(module.net.state_dict(), f"{name}.pt")


if __name__ == "__main__":
    if sys.argv[1] == "init":
        write_initial(Regression(), sys.argv[2])
    else:
        main(*sys.argv[1:])
