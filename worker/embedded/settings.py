"""What an embedded worker is told: settings of `ostrakon worker`, under the same names."""

from ostrakon.common.setting_types import Address, Id, Seconds, Settings
from ostrakon.common.settings import TlsFiles, same_as
from ostrakon.worker.settings import TakingPart

OWN = "own"
"""The name of a task that is nobody's but the loop's."""


class EmbeddedSettings(Settings):
    """One embedded worker."""

    server: Address = same_as(TakingPart, "server")
    id: Id | None = same_as(TakingPart, "id")
    tls: TlsFiles | None = same_as(TakingPart, "tls")
    task: str = same_as(TakingPart, "task", default=OWN, description="the task that the server's settings name")
    beta: float = same_as(TakingPart, "beta")
    server_timeout: Seconds = same_as(TakingPart, "server_timeout")
