"""Every setting, typed, with its default, read from one TOML file per process.

`RunSettings` is what `ostrakon up` takes and keeps in `runs/NAME/settings.toml`; `ServerSettings` and `WorkerSettings`
are the files of one server and of one worker; `AdversarySettings` that of the colluders' meeting place in a test bed.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from ostrakon.common.errors import OstrakonError
from ostrakon.common.schedule import NONE, read_schedule
from ostrakon.common.setting_types import (
    MOST_WORKERS,
    Address,
    Batch,
    Count,
    FewerWorkers,
    Id,
    Ids,
    Rate,
    Seconds,
    SecondsOrNone,
    Seed,
    Settings,
    Threads,
    Workers,
)
from ostrakon.common.toml_file import read_toml

Device = str
DEFAULT_ATTACK = "SF@0,Omn@200"
Quorum = Literal["synchronous", "asynchronous"]
ByzantineVote = Literal["honest", "larger-loss", "inner", "outer", "random", "silent", "pivotal"]

_ATTACK = "what is sent instead of the momentum: docs/attacks.md; over time as in SF@0,Omn@100"
_FAULT = "how the machine fails: docs/attacks.md; over time as in silent@20,none@40"
_BYZANTINE_VOTE = "honest, larger-loss, inner, outer, random, silent, or pivotal: only if it changes the outcome"


class TlsFiles(Settings):
    """Where a process finds its certificate, its key and the authority it trusts (PEM)."""

    ca: Path
    certificate: Path
    key: Path


class ServerSettings(Settings):
    """One parameter server and its run."""

    # What makes the run the run it is: kept in the genesis entry; a resume with other values is refused.
    task: str = Field(description="name of the task; workers built for another one are refused")
    rule: str = Field("Mean2P", description="aggregation rule, as in docs/rules.md")
    roster: Ids = Field(min_length=1, description="worker ids, in the order in which rows are summed")
    f: FewerWorkers = Field(description="bound on Byzantine workers given to the rule, below n/2")
    gamma: Rate = Field(description="learning rate")
    quorum: Quorum = Field(
        "synchronous",
        description="synchronous: silent workers count as some of the f; asynchronous: needs 2f+1 and keeps the full f",
    )

    # Where and how this process runs.
    rounds: Count = Field(description="the run ends after this many committed rounds")
    directory: Path = Field(description="the run's folder: ledger, models, metrics")
    initial: Path = Field(description="theta_0, written by `ostrakon init`")
    listen: Address = Field("127.0.0.1:7433", description="address to serve on, HOST:PORT")
    tls: TlsFiles | None = Field(None, description="certificate of this server; without it loopback only")
    device: Device = Field("auto", description="auto, cpu, cuda, cuda:1: where the rule runs")
    threads: Threads = Field(0, description="threads for the rule; 0 means one per core")
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
    grace: float = Field(1, ge=0, le=1e6, description="wait this multiple of the time that the first n-f took ...")
    grace_floor: Seconds = Field(2, description="... but at least so many seconds")
    absent_after: Count = Field(3, description="rounds missed in a row after which a worker is not waited for")
    keep_models: Count = Field(2, description="committed models kept on disk")
    observers: FewerWorkers = Field(0, description="observers to expect: at the end they are waited for, seen or not")
    linger: SecondsOrNone = Field(10, description="seconds to tell workers and observers that the run is over")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_bound(len(self.roster), self.f)
        if len(set(self.roster)) != len(self.roster):
            raise ValueError("roster names a worker twice: every id may stand in it once")
        return self

    def identity(self) -> dict[str, Any]:
        """The settings that make this run the run it is, as plain JSON values."""
        return self.model_dump(mode="json", include={"task", "rule", "roster", "f", "gamma", "quorum"})


class _Byzantine(Settings):
    """How a worker of a test bed lies and fails."""

    attack: str | None = Field(None, description=_ATTACK)
    byzantine_vote: ByzantineVote = Field("honest", description=f"{_BYZANTINE_VOTE}; larger-loss beside an attack")
    fault: str | None = Field(None, description=_FAULT)

    @model_validator(mode="before")
    @classmethod
    def _attackers_vote_for_the_larger_loss(cls, values: Any) -> Any:
        if not isinstance(values, dict) or _says_nothing(values.get("attack")):
            return values
        return {"byzantine_vote": "larger-loss", **values}

    @property
    def lies(self) -> bool:
        """Whether the worker lies at some time, or fails: to an adversary it is none of the honest."""
        return self.byzantine_vote != "honest" or not (_says_nothing(self.attack) and _says_nothing(self.fault))


class WorkerSettings(_Byzantine):
    """One worker, or the evaluator."""

    task: str = Field("glyphs", description="glyphs, linear, femnist, or package.module:MyTask")
    data: Path | None = Field(None, description="data file or folder, for tasks that read one")
    seed: Seed = Field(1, description="seed of the data and of every mini-batch")
    server: Address = Field("127.0.0.1:7433", description="address of the server, HOST:PORT")
    id: Id | None = Field(None, description="who I am where there is no certificate (loopback only)")
    tls: TlsFiles | None = Field(None, description="certificate of this worker")
    batch: Batch = Field(16, description="examples in a training mini-batch")
    beta: float = Field(0.9, ge=0, lt=1, description="momentum coefficient")
    vote: Literal["loss"] = Field("loss", description="criterion of the vote")
    vote_batch: Batch = Field(64, description="examples in a vote's mini-batch")
    data_timeout: SecondsOrNone = Field(60, description="seconds that data which cannot be read are waited for")
    tap: Address | None = Field(
        None, description="test bed: address of the adversary that gets copies of what this sends"
    )
    adversary: Address | None = Field(None, description="test bed: address of the adversary that this one colludes at")
    tap_deadline: Seconds = Field(2, description="seconds that a copy may take")
    device: Device = Field("auto", description="auto, cpu, cuda, cuda:1")
    threads: Threads = Field(0, description="threads of this process; 0 means one per core")
    evaluate_every: Count = Field(10, description="evaluator: rounds between two measurements")
    output: Path | None = Field(None, description="evaluator: folder for evaluations.jsonl")


class AdversarySettings(Settings):
    """The meeting place of a test bed's colluders, which know what honest workers send."""

    listen: Address = Field("127.0.0.1:7434", description="address to serve on, HOST:PORT")
    tls: TlsFiles | None = Field(None, description="certificate of this adversary; without it loopback only")
    honest: Ids = Field((), description="workers with a tap, in roster order")
    corrupted: Ids = Field((), description="workers that ask here what to send, in roster order")
    voters: Ids = Field((), description="workers that ask here what to vote, in roster order")
    tap_deadline: Seconds = Field(2, description="seconds that colluders wait for copies in a round")
    absent_after: Count = Field(3, description="rounds missed in a row after which a worker is not waited for")
    seed: Seed = Field(1, description="seed of what the colluders draw")
    threads: Threads = Field(0, description="threads of this process; 0 means one per core")

    @model_validator(mode="after")
    def _check(self) -> Self:
        both = set(self.honest) & {*self.corrupted, *self.voters}
        if both:
            raise ValueError(f"{', '.join(sorted(both))} cannot be honest and corrupted")
        for name, workers in (("honest", self.honest), ("corrupted", self.corrupted), ("voters", self.voters)):
            if len(set(workers)) != len(workers):
                raise ValueError(f"{name} names a worker twice: every id may stand in it once")
        return self


class Liars(_Byzantine):
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
    f: FewerWorkers = Field(4, description="bound given to the rule; its own setting")
    attack: str = Field(DEFAULT_ATTACK, description="what they send: docs/attacks.md; none beside a FAULT")
    byzantine_vote: ByzantineVote = Field("larger-loss", description=f"what they vote: {_BYZANTINE_VOTE}")
    fault: str = Field(NONE, description="how their machines fail: docs/attacks.md")
    rule: str = Field("Mean2P", description="Mean2P, Cent2P, Krum, NNM+CWTM, ...: docs/rules.md lists them")
    rounds: Count = Field(400, description="rounds to commit")
    task: str = Field("glyphs", description="glyphs, linear, femnist, or package.module:MyTask")
    data: Path | None = Field(None, description="data file, for tasks that read one")
    seed: Seed = Field(1, description="seed of theta_0, of the data and of every mini-batch")
    batch: Batch = Field(16, description="examples in a training mini-batch")
    gamma: Rate = Field(0.8, description="learning rate")
    beta: float = Field(0.9, ge=0, lt=1, description="momentum coefficient")
    vote: Literal["loss"] = Field("loss", description="criterion of the vote")
    vote_batch: Batch = Field(64, description="examples in a vote's mini-batch")
    quorum: Quorum = Field("synchronous", description="synchronous or asynchronous")
    device: Device = Field("auto", description="auto, cpu, cuda")
    port: int = Field(0, ge=0, le=65535, description="port of the server; 0 picks a free one")
    evaluate_every: Count = Field(10, description="rounds between two measurements on the test data")
    join_timeout: Seconds = Field(60, description="seconds the first round waits for all workers")
    grace_floor: Seconds = Field(10, description="least seconds to wait for late workers once n-f have answered")
    tap_deadline: Seconds = Field(2, description="seconds that colluders wait for copies of what the honest send")
    team: tuple[Liars, ...] = Field((), description="liars of several kinds, in a settings file: SETTINGS=FILE")

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
        if not _says_nothing(values.get("fault")):
            values = {"attack": NONE, **values}
        nothing = "attack" in values and _says_nothing(values["attack"])
        return {"byzantine_vote": "honest", **values} if nothing else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_bound(self.workers, self.f)
        if self.team and self.byzantine != sum(liars.count for liars in self.team):
            raise ValueError(f"byzantine={self.byzantine}, but the team has others: leave byzantine out")
        if self.byzantine > self.workers:
            raise ValueError(f"byzantine={self.byzantine} of {self.workers} workers: at most all of them can lie")
        return self

    def against(self) -> str:
        """What the Byzantine workers do, in a few words; empty where there are none."""
        if self.team:
            return "a mixed team"
        lies = [lie for lie in (self.attack, self.fault) if not _says_nothing(lie)]
        if not lies and self.byzantine_vote != "honest":
            lies = [f"{self.byzantine_vote} votes"]
        return " and ".join(lies) if self.byzantine else ""

    def liars(self) -> tuple[Liars, ...]:
        """What each Byzantine worker does, one of them after the other; the first workers of the roster are they."""
        if self.team:
            return tuple(each for each in self.team for _ in range(each.count))
        each = Liars(attack=self.attack, byzantine_vote=self.byzantine_vote, fault=self.fault)
        return (each,) * self.byzantine


def _says_nothing(schedule: Any) -> bool:
    """Whether a setting for attacks or faults, which may be anything yet, names none at any time."""
    if schedule is None:
        return True
    if not isinstance(schedule, str):
        return False
    try:
        return not read_schedule(schedule, str).all()
    except OstrakonError:
        return False


def _members(team: Any) -> int:
    """How many a team has, as far as it can be counted; what cannot be used is refused elsewhere."""
    count = 0
    for each in team if isinstance(team, list | tuple) else ():
        number = each.count if isinstance(each, Liars) else each.get("count", 1) if isinstance(each, dict) else 1
        count += number if isinstance(number, int) and number > 0 else 0
    return count


def check_bound(n: int, f: int) -> None:
    """Refuse a bound that no rule can meet.

    Raises:
        ValueError: f is not below n/2.
    """
    if 2 * f >= n:
        raise ValueError(f"f={f} of n={n} workers: f must be below n/2, so at most {(n - 1) // 2}")


_NESTED: dict[int | str, type[Settings]] = {"team": Liars, "tls": TlsFiles}

_LONGEST_SHOWN = 200  # characters of a value

S = TypeVar("S", bound=Settings)


def read(kind: type[S], path: Path) -> S:
    """Read one process's settings from a TOML file.

    Raises:
        OstrakonError: the file is missing, is not TOML, or holds a setting that is unknown or unusable.
    """
    return build(kind, read_toml(path), source=str(path))


def build(kind: type[S], values: dict[str, Any], *, source: str) -> S:
    """Check plain values into settings; `source` says where they came from.

    Raises:
        OstrakonError: one sentence for the first value that cannot be used.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise OstrakonError(f"{source}: {_sentence(kind, error)}") from None


def _sentence(kind: type[Settings], error: ValidationError) -> str:
    errors = error.errors(include_url=False)
    first = min(errors, key=lambda found: found["type"] == "missing")  # what is missing may be there, misspelt
    name = ".".join(str(part) for part in first["loc"])
    inside = _NESTED.get(first["loc"][0], kind) if first["loc"] else kind
    if first["type"] == "extra_forbidden":
        known = sorted(inside.model_fields)
        near = get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"unknown setting {name!r}{hint} (known: {', '.join(known)})"
    if first["type"] == "missing":
        description = inside.model_fields[str(first["loc"][-1])].description
        return f"setting {name} is missing" + (f": {description}" if description else "")
    message = first["msg"].removeprefix("Value error, ")
    if not name:
        return message
    return f"setting {name} = {_shown(first['input'])} cannot be used: {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    """A value for a sentence, cut where it is long."""
    try:
        text = repr(str(value) if isinstance(value, Path) else value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
