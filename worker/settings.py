"""What an honest worker and an evaluator can be told."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ostrakon.common.names import written
from ostrakon.common.setting_types import (
    Address,
    Batch,
    Count,
    Id,
    Norm,
    Options,
    Precision,
    Seconds,
    SecondsOrNone,
    Seed,
    Settings,
)
from ostrakon.common.settings import Machine, TlsFiles

SERVER_TIMEOUT = 86_400  # seconds: a server may be down over a night

Vote = Literal["loss", "momentum", "mixed", "proximity"]


class TakingPart(Settings):
    """In what a process takes part, as whom, and with what."""

    task: str = Field("glyphs", description="glyphs, linear, femnist, cifar10, or package.module:MyTask")
    data: Path | None = Field(None, description="data file or folder, for tasks that read one; {worker} in it: own id")
    options: Options | None = Field(None, description="a table: what the task can be told, docs/tasks.md")
    seed: Seed = Field(1, description="seed of theta_0, of the data and of every mini-batch")
    server: Address = Field("127.0.0.1:7433", description="address of the server, HOST:PORT")
    id: Id | None = Field(None, description="who I am where there is no certificate (loopback only)")
    tls: TlsFiles | None = Field(None, description="certificate of this process")
    batch: Batch = Field(16, description="examples in a training mini-batch")
    beta: float = Field(0.9, ge=0, lt=1, description="momentum coefficient")
    clip: Norm | None = Field(None, description="largest norm of a mini-batch's gradient; longer ones are scaled down")
    precision: Precision = Field("float32", description="of the model in training: float32, bf16, or float16 on a GPU")
    vote: Vote = Field("loss", description="criterion of the vote: loss, momentum, mixed, proximity")
    vote_batch: Batch = Field(64, description="examples in a vote's mini-batch")
    data_timeout: SecondsOrNone = Field(60, description="seconds that data which cannot be read are waited for")
    server_timeout: Seconds = Field(
        SERVER_TIMEOUT, description="seconds that a server is waited for which does not answer; then this process ends"
    )

    @property
    def built_for(self) -> str:
        """The task with its options, as it is said to the server."""
        return written(self.task, self.options or {})


class WorkerSettings(Machine, TakingPart):
    """One honest worker."""


class EvaluatorSettings(WorkerSettings):
    """The evaluator; a file for a worker may be one for it too."""

    evaluate_every: Count = Field(10, description="evaluator: rounds between two measurements")
    output: Path | None = Field(None, description="evaluator: folder for evaluations.jsonl")
