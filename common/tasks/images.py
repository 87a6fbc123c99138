"""What tasks of images share: the paper's network, the layout of a batch, and data that are partitioned by the seed."""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ostrakon.common.errors import OstrakonError
from ostrakon.common.tasks.contract import Examples, Task
from ostrakon.common.tasks.files.image_set import ImageSet
from ostrakon.common.tasks.partition import Indices, Partition, scheme


def network(channels: int, side: int, classes: int) -> nn.Module:
    """The paper's (appendix D.3): two unpadded 5x5 convolutions with ReLU and pooling, one linear layer."""
    pooled = ((side - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 32, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * pooled * pooled, classes),
    )


def image_examples(pixels: NDArray[np.float32], labels: NDArray[np.int64]) -> Examples:
    """Examples of images (m, channels, side, side), laid out channels last.

    On a CPU this network then takes two thirds of the time to train and half to evaluate.
    """
    return Examples(torch.from_numpy(pixels).to(memory_format=torch.channels_last), torch.from_numpy(labels))


class PartitionedImages(Task):
    """Images of one file or folder that are partitioned among the workers.

    A subclass reads them (`read`), brings their pixels into the form that its model takes (`standardised`), and says
    how many a worker gets.

    Args:
        data: where the images are.
        partition: who holds what, `uniform`, `dirichlet(alpha=0.1, total=1)`, `by_writer` or `by_shards(shards=2)`.

    Raises:
        OstrakonError: the partition or a parameter of it is unknown, or cannot have such a value.
    """

    TRAINING: ClassVar[int]  # images of a worker
    TEST: ClassVar[int]  # of its own test set
    PER_CLASS: ClassVar[int]  # of a worker under `uniform`
    TEST_PER_CLASS: ClassVar[int]  # of the test set under `uniform`

    def __init__(self, data: Path | None = None, partition: str = "uniform") -> None:
        super().__init__(data)
        self.scheme = scheme(partition)
        self._latest: tuple[tuple[int, int], Partition] | None = None

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}, partition {self.scheme}"

    @abstractmethod
    def read(self, path: Path, *, writers: bool) -> ImageSet:
        """The images there, with who wrote them where that is asked for.

        Raises:
            OstrakonError: they cannot be used.
        """

    @abstractmethod
    def standardised(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images as they are in the file, as (m, channels, side, side) of about mean 0 and deviation 1."""

    def worker_data(self, worker: int, workers: int, seed: int) -> Examples:
        return self._examples(self.parts(workers, seed).training[worker], f"for each of {workers} workers")

    def test_data(self, seed: int) -> Examples:
        return self._examples(self.parts(1, seed).pooled, "for a test set")

    def worker_test_data(self, worker: int, workers: int, seed: int) -> Examples:
        chosen = self.parts(workers, seed).tests[worker]
        return self._examples(chosen, f"for a test set of each of {workers} workers")

    def parts(self, workers: int, seed: int) -> Partition:
        """Who holds which of the images."""
        if self._latest is None or self._latest[0] != (workers, seed):
            images = self._images
            found = self.scheme(
                images.writers if self.scheme.of_writers and images.writers is not None else images.labels,
                workers,
                seed,
                is_test=images.is_test,
                training=self.TRAINING,
                test=self.TEST,
                per_class=self.PER_CLASS,
                test_per_class=self.TEST_PER_CLASS,
            )
            self._latest = (workers, seed), found
        return self._latest[1]

    @cached_property
    def _images(self) -> ImageSet:
        if self.data is None:
            raise OstrakonError(
                f"task {type(self).__name__.lower()} reads its images from a file: set data to the path of an npz with "
                "x and y, or of the original files"
            )
        images = self.read(self.data, writers=self.scheme.of_writers)
        if self.scheme.of_writers and images.writers is None:
            raise OstrakonError(
                f"data {self.data} do not say who made each image, as partition by_writer needs: give LEAF's JSON, an "
                "npz with an array writer, or another partition"
            )
        return images

    def _examples(self, chosen: Indices, purpose: str) -> Examples:
        images = self._images
        if len(chosen) == 0:
            raise OstrakonError(
                f"data file {self.data} has too few images: {len(images.labels)} leave none {purpose}; use a larger "
                "file, or fewer workers"
            )
        return image_examples(self.standardised(images.pixels[chosen]), images.labels[chosen])
