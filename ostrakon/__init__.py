"""What users import: the task contract, the aggregation rules and the attacks."""

from common import aggregation as rules
from common.errors import OstrakonError
from common.tasks.contract import Examples, Task
from worker import attacks

__all__ = ["Examples", "OstrakonError", "Task", "attacks", "rules"]
