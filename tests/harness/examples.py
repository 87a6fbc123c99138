"""The scripts in examples/, as modules."""

import importlib.util
from types import ModuleType

from tests.harness.cluster import ROOT

EXAMPLES = ROOT / "examples"


def example(name: str) -> ModuleType:
    """One of them, not yet run."""
    spec = importlib.util.spec_from_file_location(name.partition(".")[0], EXAMPLES / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
