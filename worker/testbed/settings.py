"""What the processes of a test bed can be told beside what honest ones can."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ostrakon.common.errors import OstrakonError
from ostrakon.common.schedule import read_schedule
from ostrakon.common.setting_types import Address, Ids, Seconds, Settings
from ostrakon.common.settings import Machine, TlsFiles, Waiting, same_as
from ostrakon.worker.settings import EvaluatorSettings, TakingPart, WorkerSettings

ByzantineVote = Literal["honest", "larger-loss", "inner", "outer", "random", "silent", "pivotal"]
VOTES = "honest, larger-loss, inner, outer, random, silent, or pivotal: only if it changes the outcome"


class Byzantine(Settings):
    """How a worker of a test bed lies and fails."""

    attack: str | None = Field(
        None, description="what is sent instead of the momentum: docs/attacks.md; over time as in SF@0,Omn@100"
    )
    byzantine_vote: ByzantineVote = Field("honest", description=f"{VOTES}; larger-loss beside an attack")
    fault: str | None = Field(
        None, description="how the machine fails: docs/attacks.md; over time as in silent@20,none@40"
    )

    @model_validator(mode="before")
    @classmethod
    def _attackers_vote_for_the_larger_loss(cls, values: Any) -> Any:
        if not isinstance(values, dict) or says_nothing(values.get("attack")):
            return values
        return {"byzantine_vote": "larger-loss", **values}

    @property
    def lies(self) -> bool:
        """Whether the worker lies at some time, or fails: to an adversary it is none of the honest."""
        return self.byzantine_vote != "honest" or not (says_nothing(self.attack) and says_nothing(self.fault))


class Company(Settings):
    """Where a worker of a test bed meets the adversary."""

    tap: Address | None = Field(
        None, description="test bed: address of the adversary that gets copies of all this sends"
    )
    adversary: Address | None = Field(None, description="test bed: address of the adversary that this one colludes at")
    tap_deadline: Seconds = Field(2, description="test bed: seconds that a copy may take")


class WorkerFile(EvaluatorSettings, Machine, Company, TakingPart, Byzantine):
    """All that the file of a worker or of an evaluator may say, in this order from the last base to the first."""


class AdversarySettings(Settings):
    """The meeting place of a test bed's colluders, which know what honest workers send."""

    listen: Address = Field("127.0.0.1:7434", description="address to serve on, HOST:PORT")
    tls: TlsFiles | None = Field(None, description="certificate of this adversary; without it loopback only")
    honest: Ids = Field((), description="workers with a tap, in roster order")
    corrupted: Ids = Field((), description="workers that ask here what to send, in roster order")
    voters: Ids = Field((), description="workers that ask here what to vote, in roster order")
    tap_deadline: float = same_as(
        Company, "tap_deadline", description="seconds that colluders wait for copies in a round"
    )
    absent_after: int = same_as(Waiting, "absent_after")
    seed: int = same_as(WorkerSettings, "seed", description="seed of what the colluders draw")
    threads: int = same_as(Machine, "threads")

    @model_validator(mode="after")
    def _check(self) -> Self:
        both = set(self.honest) & {*self.corrupted, *self.voters}
        if both:
            raise ValueError(f"{', '.join(sorted(both))} cannot be honest and corrupted")
        for name, workers in (("honest", self.honest), ("corrupted", self.corrupted), ("voters", self.voters)):
            if len(set(workers)) != len(workers):
                raise ValueError(f"{name} names a worker twice: every id may stand in it once")
        return self


def says_nothing(schedule: Any) -> bool:
    """Whether a setting for attacks or faults, which may be anything yet, names none at any time."""
    if schedule is None:
        return True
    if not isinstance(schedule, str):
        return False
    try:
        return not read_schedule(schedule, str).all()
    except OstrakonError:
        return False
