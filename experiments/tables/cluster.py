"""Computing on a Ray cluster, or on a local Ray where none runs.

Every machine of it needs Ostrakon, and the data under the same path.
"""

from collections.abc import Sequence
from typing import Any

from ostrakon.common.errors import OstrakonError
from ostrakon.common.runtime import prepare
from ostrakon.common.traces import last_line
from ostrakon.experiments.tables.computing import Computed, Group, Tell, compute, failed
from ostrakon.experiments.tables.extras import extra
from ostrakon.experiments.tables.store import Record


def on_ray(groups: Sequence[Group], tell: Tell) -> Computed:
    """Hand all groups to the cluster; what is over comes first.

    Raises:
        OstrakonError: Ray is not installed, or cannot be reached.
    """
    ray = extra("ray", "ray", "ON=ray")
    begun_here = not ray.is_initialized()
    if begun_here:
        try:
            ray.init(log_to_driver=False, configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise OstrakonError(
                f"ON=ray finds no cluster ({last_line(error)}): correct RAY_ADDRESS, or unset it for a local Ray"
            ) from error
    gpus = 1 if any(one.device != "cpu" for group in groups for one in group) else 0
    remote = ray.remote(num_cpus=1, num_gpus=gpus)(_compute)
    pending: dict[Any, Group] = {remote.remote(group): group for group in groups}
    try:
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            group = pending.pop(done)
            try:
                records: list[Record] = ray.get(done)
            except ray.exceptions.RayError as error:
                records = [failed(last_line(error)) for _ in group]
            tell(sum(one.rounds for one in group))
            yield group, records
    finally:
        for task in pending:
            ray.cancel(task, force=True)
        if begun_here:
            ray.shutdown()


def _compute(group: Group) -> list[Record]:
    prepare(1)
    return compute(group, lambda rounds: None)
