"""What a parameter server can be told."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ostrakon.common.algorithm import Step
from ostrakon.common.bf16 import Wire
from ostrakon.common.learning_rate import Gamma, check_decay, step_of
from ostrakon.common.names import written
from ostrakon.common.setting_types import (
    MOST_WORKERS,
    Address,
    Count,
    FewerWorkers,
    Ids,
    Options,
    Seconds,
    SecondsOrNone,
    Settings,
)
from ostrakon.common.settings import Machine, TlsFiles, Waiting, same_as

Quorum = Literal["synchronous", "asynchronous"]


class ServerSettings(Settings):
    """One parameter server and its run."""

    # What makes the run the run it is: kept in the genesis entry; a resume with other values is refused.
    task: str = Field(description="name of the task; workers built for another one are refused")
    options: Options | None = Field(None, description="a table: the options of the task, as its workers have them")
    rule: str = Field("Mean2P", description="Mean2P, Cent2P, Krum, NNM+CWTM, ...: docs/rules.md lists them")
    roster: Ids = Field(min_length=1, description="worker ids, in the order in which rows are summed")
    f: FewerWorkers = Field(description="bound on Byzantine workers given to the rule, below n/2")
    gamma: Gamma = Field(description="learning rate, or how it changes: 0.5@0,0.05@200, docs/settings.md")
    weight_decay: float = Field(0, ge=0, lt=1, description="share of a model that a round takes away, times gamma")
    # Synchronous: silent workers count as some of the f; asynchronous: needs 2f+1 and keeps the full f.
    quorum: Quorum = Field("synchronous", description="synchronous or asynchronous")
    wire: Wire = Field("float32", description="float32, or bf16: momenta and aggregates travel in half the bytes")

    # Where and how this process runs.
    rounds: Count = Field(description="rounds to commit")
    directory: Path = Field(description="the run's folder: ledger, models, metrics")
    initial: Path = Field(description="theta_0, written by `ostrakon init`")
    listen: Address = Field("127.0.0.1:7433", description="address to serve on, HOST:PORT")
    tls: TlsFiles | None = Field(None, description="certificate of this server; without it loopback only")
    device: str = same_as(Machine, "device")
    threads: int = same_as(Machine, "threads")
    uploads: int = Field(8, ge=1, le=MOST_WORKERS, description="uploads received at the same time")
    upload_timeout: Seconds = Field(
        30, description="seconds a call may let the server wait for its message, and an upload stall in all"
    )
    upload_rate: float = Field(
        125_000,
        gt=0,
        description="bytes a second an upload has to bring at least: half of what a line of 2 Mbit/s does",
    )
    join_timeout: Seconds = Field(60, description="seconds the first round waits for all workers")
    grace: float = Field(1, ge=0, le=1e6, description="wait this multiple of the time that the first n-f took")
    grace_floor: Seconds = Field(2, description="least seconds to wait for late workers once n-f have answered")
    absent_after: int = same_as(Waiting, "absent_after")
    keep_models: Count = Field(2, description="committed models kept on disk")
    observers: FewerWorkers = Field(0, description="observers to expect: at the end they are waited for, seen or not")
    linger: SecondsOrNone = Field(10, description="seconds to tell workers and observers that the run is over")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_bound(len(self.roster), self.f)
        check_decay(self.gamma, self.weight_decay)
        if len(set(self.roster)) != len(self.roster):
            raise ValueError("roster names a worker twice: every id may stand in it once")
        return self

    def identity(self) -> dict[str, Any]:
        """The settings that make this run the run it is, as plain JSON values."""
        shared = {"task", "rule", "roster", "f", "gamma", "weight_decay", "quorum", "wire"}
        return {**self.model_dump(mode="json", include=shared), "task": self.learns}

    def step(self, round: int) -> Step:
        """How far a round goes, from 1 on."""
        return step_of(self.gamma, self.weight_decay, round)

    @property
    def learns(self) -> str:
        """The task with its options: what workers have to be built for."""
        return written(self.task, self.options or {})


def check_bound(n: int, f: int) -> None:
    """Refuse a bound that no rule can meet.

    Raises:
        ValueError: f is not below n/2.
    """
    if 2 * f >= n:
        raise ValueError(f"f={f} of n={n} workers: f must be below n/2, so at most {(n - 1) // 2}")
