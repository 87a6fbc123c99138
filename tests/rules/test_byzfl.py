"""The rules that byzfl has too, on the same rows. `pip install byzfl` beside the project to run it."""

import pytest
import torch

from ostrakon.common.aggregation import rule
from ostrakon.common.aggregation.mixing import adaptive_robust_clipping, clipping, nearest_neighbor_mixing
from tests.rules.rows import make

byzfl = pytest.importorskip("byzfl", reason="byzfl is not installed")


@pytest.mark.parametrize(("n", "f"), [(11, 2), (12, 3)])
def test_rules_agree_where_the_page_does_not_say_otherwise(n: int, f: int) -> None:
    x = torch.from_numpy(make("random", n, f, 300, seed=n))
    for theirs, name in (
        (byzfl.Average(), "Avg"),
        (byzfl.Median(), "CWM"),
        (byzfl.TrMean(f), "CWTM"),
        (byzfl.GeometricMedian(nu=0.1, T=40), "GM(iterations=40, eps=0.1)"),
        (byzfl.CenteredClipping(tau=2.0), "CClip(tau=2)"),
        (byzfl.MDA(f), "MDA"),
        (byzfl.MoNNA(f, 1), "MoNNA(1)"),
        (byzfl.Meamed(f), "Meamed"),
    ):
        (ours,) = rule(name).aggregate(x, f)
        torch.testing.assert_close(ours.vector, theirs(x.clone()), rtol=1e-6, atol=1e-6, msg=name)
    for theirs, ours in (
        (byzfl.NNM(f), nearest_neighbor_mixing(x, f)),
        (byzfl.Clipping(2.0), clipping(x, f, 2.0)),
        (byzfl.ARC(f), adaptive_robust_clipping(x, f)),
    ):
        torch.testing.assert_close(ours.x, theirs(x.clone()), rtol=1e-6, atol=1e-6)
