"""Where a process finds its data, if one settings file says it for all of them: `data = "/data/{worker}.npz"`."""

from pathlib import Path

from ostrakon.common.errors import OstrakonError
from ostrakon.worker.settings import TakingPart

WORKER = "{worker}"


def own_data(settings: TakingPart) -> Path | None:
    """`data` with this process's id, as its certificate or else `id` has it, in place of `{worker}`.

    Raises:
        OstrakonError: its id is wanted, and it has none.
    """
    if settings.data is None or WORKER not in str(settings.data):
        return settings.data
    id = settings.id
    if settings.tls is not None:
        from ostrakon.common.identity.credentials import read_certificate  # gRPC comes with it

        identity, _ = read_certificate(settings.tls.certificate)
        id = None if identity is None else identity.id
    if id is None:
        raise OstrakonError(
            f"data = {str(settings.data)!r} is another file for each worker, but this process has no id: give tls with "
            "its certificate, or id"
        )
    return data_of(settings.data, id)


def data_of(data: Path | None, id: str) -> Path | None:
    """`data` of the process that has this id."""
    return None if data is None else Path(str(data).replace(WORKER, id))
