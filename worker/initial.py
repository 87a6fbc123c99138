"""theta_0: the task's model with the weights that follow from the seed, or with those of a file, for the server."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.model_file import write_model
from ostrakon.common.safetensors_file import open_safetensors
from ostrakon.common.tasks.passes import initial_model
from ostrakon.common.tasks.registry import task
from ostrakon.worker.own_data import own_data
from ostrakon.worker.settings import WorkerSettings

_ADVICE = "give a safetensors file, which safetensors.torch.save_file(model.state_dict(), FILE) writes"
_MOST_NAMED = 3


def write_initial(settings: WorkerSettings, path: Path, source: Path | None = None) -> None:
    """Write the initial model of the settings' task and seed.

    Args:
        source: a safetensors file with weights that take the place of those that follow from the seed: a state dict of
            the task's model, of any floating-point types.

    Raises:
        OstrakonError: the task cannot be used, its model cannot be flattened, `source` does not fit it or cannot be
            read, or the file cannot be written.
    """
    made = task(settings.task, own_data(settings), settings.seed, settings.options)
    model = FlatModel(initial_model(made, settings.seed), "cpu")
    if source is not None:
        _take(model, source)
    metadata = {"task": settings.built_for, "seed": str(settings.seed)}
    write_model(path, model.theta.numpy(), model.layout, metadata, model.fixed())


def _take(model: FlatModel, source: Path) -> None:
    """Copy the weights of a file into a model; what no update changes has to be the same in both."""
    known = {name: value for name, value in model.module.state_dict().items() if isinstance(value, Tensor)}
    first = {name: name for name, _ in model.layout} | dict(model.aliases)
    with open_safetensors(source, advice=_ADVICE, framework="pt") as file:
        names = set(file.keys())
        _check_names(source, known, names, {name for name, _ in model.layout} - {first.get(name, "") for name in names})
        taken: dict[str, Tensor] = {}
        for name in sorted(names):
            found, here = torch.as_tensor(file.get_tensor(name)), known[name]
            _check_kind(source, name, found, here, trained=name in first)
            if name not in first:
                if not torch.equal(found, here):
                    raise OstrakonError(
                        f"{source}: {name} has other values than in the task's model, where no training changes it: "
                        "let the task's `model` read them, so that every worker has them"
                    )
            elif not torch.equal(found, taken.setdefault(first[name], found)):
                raise OstrakonError(f"{source}: {name} and {first[name]}, one parameter of the task's model, differ")
    with torch.no_grad():
        for name, value in taken.items():
            known[name].copy_(value)


def _check_names(source: Path, known: Mapping[str, Tensor], names: set[str], missing: set[str]) -> None:
    lacking, unknown = _listed(missing), _listed(names - known.keys())
    if unknown:
        near = get_close_matches(unknown.split(", ")[0], known, n=1)
        hint = f"; is {near[0]} meant?" if near else ""
        also = f", and lacks {lacking}" if lacking else ""
        raise OstrakonError(f"{source} holds {unknown}, which the task's model does not have{also}{hint}")
    if lacking:
        raise OstrakonError(f"{source} lacks {lacking} of the task's model: write a state dict of the whole model")


def _check_kind(source: Path, name: str, found: Tensor, here: Tensor, *, trained: bool) -> None:
    if found.shape != here.shape:
        raise OstrakonError(f"{source}: {name} is {tuple(found.shape)}, in the task's model it is {tuple(here.shape)}")
    if here.is_floating_point() and not found.is_floating_point():
        raise OstrakonError(f"{source}: {name} is {found.dtype}, in the task's model it is {here.dtype}")
    if trained and not found.to(here.dtype).isfinite().all():
        raise OstrakonError(f"{source}: {name} holds values that are not finite as {here.dtype}: use a finite model")


def _listed(names: Iterable[str]) -> str:
    every = sorted(names)
    more = f" and {len(every) - _MOST_NAMED} more" if len(every) > _MOST_NAMED else ""
    return ", ".join(every[:_MOST_NAMED]) + more
