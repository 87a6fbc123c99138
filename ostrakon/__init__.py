"""What users import: the task contract, a worker for a loop of one's own, rules, attacks, whole runs in one process.

The rooms of the house are links in this folder, so that nothing of it lies at the top level of anybody's Python.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostrakon import experiments
    from ostrakon.common import aggregation as rules
    from ostrakon.common.errors import OstrakonError
    from ostrakon.common.tasks import partition
    from ostrakon.common.tasks.contract import Examples, Task
    from ostrakon.worker import attacks
    from ostrakon.worker.callbacks.lightning import LightningCallback
    from ostrakon.worker.callbacks.transformers import TransformersCallback
    from ostrakon.worker.embedded.initial import write_initial
    from ostrakon.worker.embedded.worker import Worker

__all__ = [
    "Examples",
    "LightningCallback",
    "OstrakonError",
    "Task",
    "TransformersCallback",
    "Worker",
    "attacks",
    "experiments",
    "partition",
    "rules",
    "write_initial",
]

_PLACES = {
    "Examples": ("ostrakon.common.tasks.contract", "Examples"),
    "LightningCallback": ("ostrakon.worker.callbacks.lightning", "LightningCallback"),
    "OstrakonError": ("ostrakon.common.errors", "OstrakonError"),
    "Task": ("ostrakon.common.tasks.contract", "Task"),
    "TransformersCallback": ("ostrakon.worker.callbacks.transformers", "TransformersCallback"),
    "Worker": ("ostrakon.worker.embedded.worker", "Worker"),
    "attacks": ("ostrakon.worker.attacks", None),
    "experiments": ("ostrakon.experiments", None),
    "partition": ("ostrakon.common.tasks.partition", None),
    "rules": ("ostrakon.common.aggregation", None),
    "write_initial": ("ostrakon.worker.embedded.initial", "write_initial"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: torch comes with it, which a launcher should not wait for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    found = import_module(module)
    return found if attribute is None else getattr(found, attribute)
