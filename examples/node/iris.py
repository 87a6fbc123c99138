"""The task of the Node.js worker, for the members of its run that are Python: which of three irises a flower is."""

import csv
from pathlib import Path

import torch
from torch import nn

from ostrakon import Examples, Task

SPECIES = ("setosa", "versicolor", "virginica")


class Iris(Task):
    """Softmax regression on the four measures of 150 flowers, d = 15: every fifth flower is a test, the others are
    dealt out to the workers one by one."""

    classes = len(SPECIES)

    def model(self) -> nn.Module:
        return nn.Linear(4, self.classes)

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        own = [row for number, row in enumerate(_flowers()) if number % 5]
        return _examples(own[worker::workers])

    def test_data(self, seed: int) -> Examples:
        return _examples(_flowers()[::5])


def _flowers() -> list[dict[str, str]]:
    with Path(__file__).with_name("iris.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _examples(rows: list[dict[str, str]]) -> Examples:
    measures = [[(float(value) - 3) / 2 for name, value in row.items() if name != "species"] for row in rows]
    return Examples(torch.tensor(measures), torch.tensor([SPECIES.index(row["species"]) for row in rows]))
