"""Line 8 of Algorithm 3 for runs side by side: which candidate each worker prefers."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ostrakon.common.criteria import Criterion, Evidence
from ostrakon.experiments.tensors import to_device


def preferences(
    criteria: Sequence[Criterion],
    losses: Sequence[Tensor],
    gains: Tensor,
    nearness: Tensor,
    counts: NDArray[np.int64],
) -> Tensor:
    """Let all workers of R runs decide.

    Args:
        criteria: of each run.
        losses: at Inner's candidate and at Outer's, (R, n, m) each.
        gains, nearness: what `Evidence` asks, (R, n); NaN where a criterion does not.
        counts: (R, n), how many of the m examples count: the first ones.

    Returns:
        (R, n) bool, True for Outer.
    """
    found = torch.empty(counts.size, dtype=torch.bool, device=gains.device)
    inner, outer = (one.flatten(0, 1) for one in losses)
    for criterion in dict.fromkeys(criteria):
        asking = np.array([one == criterion for one in criteria])[:, None]
        for count in np.unique(counts).tolist():
            those = to_device(np.flatnonzero(asking & (counts == count)), found.device)
            if len(those):
                evidence = Evidence(
                    inner[those, :count], outer[those, :count], gains.flatten()[those], nearness.flatten()[those]
                )
                found[those] = criterion.prefers_outer(evidence)
    return found.view(counts.shape)
