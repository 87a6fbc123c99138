"""What `ostrakon up` can be told, and keeps in `runs/NAME/settings.toml`.

What a process of the run has under the same name is passed on to it: to offer one more setting takes a line here.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from ostrakon.common.bf16 import Wire
from ostrakon.common.errors import OstrakonError
from ostrakon.common.learning_rate import check_decay
from ostrakon.common.schedule import NONE
from ostrakon.common.setting_types import FewerWorkers, Norm, Options, Precision, Settings, Workers
from ostrakon.common.settings import Machine, same_as
from ostrakon.deploy.goal import read_goal
from ostrakon.server.settings import Quorum, ServerSettings, check_bound
from ostrakon.worker.settings import EvaluatorSettings, Vote, WorkerSettings
from ostrakon.worker.testbed.settings import VOTES, Byzantine, ByzantineVote, Company, says_nothing


class Liars(Byzantine):
    """Some workers of a run that lie or fail in the same way."""

    count: Workers = Field(1, description="how many")


class RunSettings(Settings):
    """What `ostrakon up` takes: a server, an evaluator and N workers on this machine."""

    run: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=200,
        description="name of the run, a folder in runs/",
    )
    workers: Workers = Field(10, description="n, workers on the roster")
    byzantine: FewerWorkers = Field(4, description="how many of them lie (the first ones)")
    f: int = same_as(ServerSettings, "f", default=4, description="bound given to the rule; its own setting")
    attack: str = Field("SF@0,Omn@200", description="what they send: docs/attacks.md; none beside a FAULT")
    byzantine_vote: ByzantineVote = Field("larger-loss", description=f"what they vote: {VOTES}")
    fault: str = Field(NONE, description="how their machines fail: docs/attacks.md")
    rule: str = same_as(ServerSettings, "rule")
    rounds: int = same_as(ServerSettings, "rounds", default=400)
    task: str = same_as(WorkerSettings, "task")
    data: Path | None = same_as(WorkerSettings, "data")
    options: Options | None = same_as(
        WorkerSettings,
        "options",
        description='what the task can be told: OPTIONS="partition=by_writer,...", docs/tasks.md',
    )
    seed: int = same_as(WorkerSettings, "seed")
    batch: int = same_as(WorkerSettings, "batch")
    gamma: float | str = same_as(ServerSettings, "gamma", default=0.8)
    weight_decay: float = same_as(ServerSettings, "weight_decay")
    beta: float = same_as(WorkerSettings, "beta")
    clip: Norm | None = same_as(WorkerSettings, "clip")
    precision: Precision = same_as(WorkerSettings, "precision")
    vote: Vote = same_as(WorkerSettings, "vote")
    vote_batch: int = same_as(WorkerSettings, "vote_batch")
    quorum: Quorum = same_as(ServerSettings, "quorum")
    wire: Wire = same_as(ServerSettings, "wire")
    device: str = same_as(Machine, "device")
    port: int = Field(0, ge=0, le=65535, description="port of the server; 0 picks a free one")
    evaluate_every: int = same_as(
        EvaluatorSettings, "evaluate_every", description="rounds between two measurements on the test data"
    )
    until: str | None = Field(
        None, max_length=200, description="end earlier: accuracy>=0.9, or no higher accuracy in 10 (measurements)"
    )
    join_timeout: float = same_as(ServerSettings, "join_timeout")
    grace_floor: float = same_as(ServerSettings, "grace_floor", default=10)
    tap_deadline: float = same_as(
        Company, "tap_deadline", description="seconds that colluders wait for copies of what the honest send"
    )
    team: tuple[Liars, ...] = Field((), description="liars of several kinds, in a settings file: SETTINGS=FILE")

    @field_validator("until")
    @classmethod
    def _a_goal(cls, value: str | None) -> str | None:
        if value is None or value == NONE:
            return None
        try:
            read_goal(value)
        except OstrakonError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="before")
    @classmethod
    def _what_goes_without_saying(cls, values: dict[str, Any]) -> dict[str, Any]:
        """A team says what each does; a machine that only fails is honest otherwise."""
        if values.get("team"):
            silent = {"attack": NONE, "byzantine_vote": "honest", "fault": NONE}
            for name, value in silent.items():
                if values.get(name, value) != value:
                    raise ValueError(f"{name} = {values[name]!r} beside a team: write it in [[team]]")
            return {"byzantine": _members(values["team"]), **values, **silent}
        if not says_nothing(values.get("fault")):
            values = {"attack": NONE, **values}
        nothing = "attack" in values and says_nothing(values["attack"])
        return {"byzantine_vote": "honest", **values} if nothing else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_bound(self.workers, self.f)
        check_decay(self.gamma, self.weight_decay)
        if self.team and self.byzantine != sum(liars.count for liars in self.team):
            raise ValueError(f"byzantine={self.byzantine}, but the team has others: leave byzantine out")
        if self.byzantine > self.workers:
            raise ValueError(f"byzantine={self.byzantine} of {self.workers} workers: at most all of them can lie")
        return self

    def against(self) -> str:
        """What the Byzantine workers do, in a few words; empty where there are none."""
        if self.team:
            return "a mixed team"
        lies = [lie for lie in (self.attack, self.fault) if not says_nothing(lie)]
        if not lies and self.byzantine_vote != "honest":
            lies = [f"{self.byzantine_vote} votes"]
        return " and ".join(lies) if self.byzantine else ""

    def liars(self) -> tuple[Liars, ...]:
        """What each Byzantine worker does, one of them after the other; the first workers of the roster are they."""
        if self.team:
            return tuple(each for each in self.team for _ in range(each.count))
        each = Liars(attack=self.attack, byzantine_vote=self.byzantine_vote, fault=self.fault)
        return (each,) * self.byzantine


def _members(team: Any) -> int:
    """How many a team has, as far as it can be counted; what cannot be used is refused elsewhere."""
    count = 0
    for each in team if isinstance(team, list | tuple) else ():
        number = each.count if isinstance(each, Liars) else each.get("count", 1) if isinstance(each, dict) else 1
        count += number if isinstance(number, int) and number > 0 else 0
    return count
