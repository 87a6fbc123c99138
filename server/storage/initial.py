"""The model and the settings that a run begins with, and goes on with only if they are the same."""

from functools import cached_property
from pathlib import Path
from typing import Any

from ostrakon.common.aggregation import rule
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.layout import difference
from ostrakon.common.model_file import ModelFile, read_model
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.ledger import Genesis

_BEFORE = {"wire": "float32", "weight_decay": 0.0}  # what runs did before there were settings for it


class Initial:
    """The file of theta_0, read once, when it is first asked for. Raises `OstrakonError` if it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether there is such a file: a run that has begun does not need it any more."""
        return self.path.exists()

    @cached_property
    def model(self) -> ModelFile:
        """What it holds."""
        return read_model(self.path)

    @cached_property
    def digest(self) -> str:
        """Theta_0's."""
        return digest(self.model.theta)

    def forget(self) -> None:
        """Keep nothing of it in memory."""
        for name in ("model", "digest"):
            self.__dict__.pop(name, None)


def check_same_run(settings: ServerSettings, initial: Initial, genesis: Genesis) -> None:
    """Check that the settings are those that the run of this genesis was started with.

    Raises:
        OstrakonError: naming the setting that differs, both values, and what to do.
    """
    advice = "resume with the old value, or start a new run under another name"
    now = identity(settings)
    for name, then in {**_BEFORE, **genesis.settings}.items():
        if now.get(name) != then:
            raise OstrakonError(
                f"this run was started with {name} = {then!r}, the settings now say {now.get(name)!r}: {advice}"
            )
    if not initial.exists:
        return
    if other := difference(genesis.layout, initial.model.layout, f"initial = {initial.path}"):
        raise OstrakonError(f"{other}: {advice}")
    if initial.digest != genesis.theta_0:
        raise OstrakonError(
            f"this run was started from model {genesis.theta_0[:12]}, initial = {initial.path} holds "
            f"{initial.digest[:12]}: {advice}"
        )


def identity(settings: ServerSettings) -> dict[str, Any]:
    """What must stay as it is; a rule that is written in another way is the same rule."""
    return {**settings.identity(), "rule": rule(settings.rule).name}
