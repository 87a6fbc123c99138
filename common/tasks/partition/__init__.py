"""Who holds which examples of one data set: partitions for experiments and for tasks that read one file.

Each function takes the labels (or the writers) of N examples, the number of workers and a seed, and gives a
`Partition`: indices into the data. Two processes that call it with the same arguments get the same one.

>>> from ostrakon import partition
>>> parts = partition.dirichlet([0, 1, 2] * 600, workers=4, seed=1, alpha=0.5, training=100, test=20)
>>> [len(held) for held in parts.training]
[100, 100, 100, 100]
"""

from ostrakon.common.tasks.partition.naming import Scheme, scheme
from ostrakon.common.tasks.partition.parts import Indices, Partition
from ostrakon.common.tasks.partition.schemes import by_shards, by_writer, dirichlet, uniform

__all__ = ["Indices", "Partition", "Scheme", "by_shards", "by_writer", "dirichlet", "scheme", "uniform"]
