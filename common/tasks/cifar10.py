"""Small photographs of ten kinds of things (Krizhevsky 2009), from an npz file or the original batches."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ostrakon.common.tasks.files.batches import read_batches
from ostrakon.common.tasks.files.image_set import ImageSet
from ostrakon.common.tasks.files.npz import read_npz
from ostrakon.common.tasks.images import PartitionedImages, network

SIDE, CHANNELS = 32, 3

# Mean and standard deviation of a pixel (0 to 1) over the 50,000 training images: red, green, blue.
MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
STD = np.array([0.2470, 0.2435, 0.2616], np.float32)


class Cifar10(PartitionedImages):
    """CIFAR-10 as in the paper's appendix D.4: 300 images to train on for each worker, and 60 to test on.

    The data: a folder of the original batches, or an npz of `x` (N, 32, 32, 3) uint8, `y` (N,) integers 0 to 9, and
    where there is an official split `test` (N,) bool. What that keeps for tests, nobody trains on.
    """

    classes = 10
    TRAINING, TEST = 300, 60
    PER_CLASS, TEST_PER_CLASS = 30, 210  # 35 workers' 60 each

    def model(self) -> nn.Module:
        """The paper's network on 3x32x32, d = 69,706."""
        return network(CHANNELS, SIDE, self.classes)

    def read(self, path: Path, *, writers: bool) -> ImageSet:
        if path.is_dir():
            return read_batches(path, side=SIDE, channels=CHANNELS, classes=self.classes)
        also = ("test", "writer") if writers else ("test",)
        return read_npz(path, shape=(SIDE, SIDE, CHANNELS), classes=self.classes, also=also)

    def standardised(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = (pixels.astype(np.float32) / np.float32(255) - MEAN) / STD
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
