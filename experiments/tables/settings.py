"""What a user chooses of a table: how many seeds and rounds, which data, where it is computed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ostrakon.common.criteria import CRITERIA
from ostrakon.common.setting_types import Batch, Count, Settings, Workers
from ostrakon.common.settings import Machine, build, same_as
from ostrakon.common.words import read_words, whole_path
from ostrakon.experiments.experiment import Experiment
from ostrakon.experiments.yardsticks import IDEAL

SOURCE = "ostrakon experiments"


class TableSettings(Settings):
    """All that can be said on the command line; what is left out is as in the paper."""

    seeds: Count = Field(5, le=1000, description="runs of each cell, with the seeds 1 to SEEDS")
    rounds: int = same_as(Experiment, "rounds")
    task: str | None = Field(None, description="what is learned; the plan's own if not given")
    data: Path | None = same_as(Experiment, "data")
    workers: Workers = Field(35, description="n")
    total: float = Field(1, gt=0, description="what p sums to in Dir(0.1 p); the paper does not say; 62: classes")
    vote: str = Field("loss", description=f"criterion of the vote: {', '.join((*CRITERIA, IDEAL))}")
    vote_batch: Batch = Field(3, description="images that each worker looks at for its vote")
    rules: str | None = Field(None, description="rows of the table, with ; between them")
    attacks: str | None = Field(None, description="columns of the table, with ; between them")
    rates: str | None = Field(None, description="shares of liars, with ; between them: 0.1;0.2;0.4")
    device: str = same_as(Machine, "device", default="cpu")
    jobs: int = Field(0, ge=0, le=1024, description="processes at once; 0: one per core, or one for a GPU")
    together: Count = Field(96, le=4096, description="runs side by side on a GPU; half as many where they do not fit")
    on: Literal["here", "ray"] = Field("here", description="here, or ray: on a Ray cluster")
    log: Literal["tensorboard", "mlflow"] | None = Field(None, description="tensorboard or mlflow: log all runs")
    results: Path = Field(Path("results"), description="folder that everything is written to")

    def chosen(self, name: Literal["rules", "attacks", "rates"], default: Iterable[str]) -> tuple[str, ...]:
        """What was named, each once, or the default."""
        text: str | None = getattr(self, name)
        if text is None:
            return tuple(default)
        return tuple(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))


def table_settings(words: Iterable[str]) -> TableSettings:
    """The settings in KEY=VALUE words.

    Raises:
        OstrakonError: a word is no setting, or its value cannot be used.
    """
    given: dict[str, Any] = dict(read_words(words, tuple(TableSettings.model_fields)))
    paths = {name: whole_path(given[name], Path()) for name in ("data", "results") if name in given}
    return build(TableSettings, given | paths, source=SOURCE)


def described() -> str:
    """Every setting with its default and its meaning, one a line."""
    lines = []
    for name, field in TableSettings.model_fields.items():
        default = "" if field.default is None else str(field.default)
        lines.append(f"  {f'{name.upper()}={default}':<28}{field.description}")
    return "\n".join(lines)
