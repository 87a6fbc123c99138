"""Passes of a batch through a task's model and losses: what user code computes, and cannot spoil.

Each pass gets a batch of its own and a model in the same state, whatever an earlier one wrote into either; it draws
from generators that were seeded for it; what it raises becomes a sentence, and what it returns is checked.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ostrakon.common.errors import OstrakonError
from ostrakon.common.flat_model import FlatModel
from ostrakon.common.setting_types import Precision
from ostrakon.common.tasks.contract import Examples, Task, described
from ostrakon.common.tasks.measures import ACCURACY, checked
from ostrakon.common.tasks.precision import autocast, check_precision, loss_scale, widened
from ostrakon.common.tasks.streams import MODEL, seed_generators, torch_generator
from ostrakon.common.tasks.user_code import user_code

_CPU = torch.device("cpu")
# Apart from the generator that the pass's batch is drawn with.
_PASS = 1
_AUGMENTED = 2
_RNG = 1  # apart from the global generators


def initial_model(task: Task, seed: int) -> nn.Module:
    """The model with the weights that follow from `seed`; torch's global generator is left as it was.

    Raises:
        OstrakonError: the task's code raises, or makes no module.
    """
    what = f"task {type(task).__name__}: model"
    with torch.random.fork_rng(devices=[]), user_code(what):
        seed_generators(_CPU, seed, MODEL)
        torch.manual_seed(seed)
        module = task.model()
    if not isinstance(module, nn.Module):
        is_class = isinstance(module, type) and issubclass(module, nn.Module)
        advice = f": the class and no module of it: write {module.__name__}()" if is_class else ""
        raise OstrakonError(f"{what} returned a {described(module)}: expected a torch.nn.Module{advice}")
    return module


@dataclass(frozen=True)
class Draw:
    """What a pass draws random numbers for: the same numbers in the same draw, wherever and whenever it is."""

    seed: int
    purpose: int  # see `ostrakon.worker.sampling`
    worker: int = 0
    round: int = 0


class Passes:
    """A task's computing on one device.

    Attributes:
        model: where it is done. Passes overwrite what it holds.

    Args:
        precision: of the model's forward and backward in training; losses, votes and measurements are in float32.

    Raises:
        OstrakonError: the model's device cannot compute so.
    """

    def __init__(self, task: Task, model: FlatModel, precision: Precision = "float32") -> None:
        check_precision(precision, model.theta.device)
        self.model = model
        self._task = task
        self._precision = precision
        self._scale = loss_scale(precision)
        self._name = f"task {type(task).__name__}"

    def gradient(self, theta: Tensor, batch: Examples, draw: Draw) -> float:
        """The mean loss of a batch at theta, (d,); its gradient lies in `model.gradient` then.

        Raises:
            OstrakonError: `theta` does not fit the model; the task's code raises, or breaks the contract.
        """
        loss = self._backward(theta, batch, draw)
        while self._scale is not None and not self._scale.settle(self.model.gradient):
            loss = self._backward(theta, batch, draw)
        return loss

    def _backward(self, theta: Tensor, batch: Examples, draw: Draw) -> float:
        model = self.model
        with torch.enable_grad():
            losses, _ = self._losses(theta, batch, draw, training=True)
            loss = losses.mean()
            if not loss.requires_grad:
                raise OstrakonError(
                    f"{self._name}: the losses do not depend on the model's parameters by any operation that torch "
                    "follows: compute them from the outputs, without detach(), item() or numpy"
                )
            model.zero_gradient()
            with user_code(f"{self._name}: the gradient of the losses"):
                (loss if self._scale is None else loss * self._scale.value).backward()  # type: ignore[no-untyped-call]
        model.collect_gradient()
        return loss.item()

    @torch.no_grad()
    def losses(self, theta: Tensor, batch: Examples, draw: Draw) -> Tensor:
        """Loss of each example of a batch at theta, (m,), in evaluation mode and in memory of their own.

        Raises:
            OstrakonError: as `gradient`.
        """
        return self._losses(theta, batch, draw, training=False)[0].clone()

    def loss(self, theta: Tensor, batch: Examples, draw: Draw) -> float:
        """The mean loss of a batch at theta, (d,), in evaluation mode.

        Raises:
            OstrakonError: as `gradient`.
        """
        return self.losses(theta, batch, draw).mean().item()

    @torch.no_grad()
    def answers(self, theta: Tensor, batch: Examples, draw: Draw) -> tuple[Tensor, Tensor]:
        """Loss of each example of a batch at theta, (m,), and whether it is answered rightly, (m,) bool.

        Raises:
            OstrakonError: as `gradient`.
        """
        losses, outputs = self._losses(theta, batch, draw, training=False)
        with user_code(f"{self._name}: correct"):
            correct = self._task.correct(outputs, batch.labels.clone())
        m = len(batch)
        if not isinstance(correct, Tensor) or correct.dtype != torch.bool or correct.shape != (m,):
            raise OstrakonError(
                f"{self._name}: correct returned {described(correct)} for outputs {described(outputs)} and labels "
                f"{described(batch.labels)}: expected bool ({m},), whether each example is answered rightly"
                + _advice(correct, outputs, batch.labels, correct=True)
            )
        return losses, correct

    @torch.no_grad()
    def measures(self, theta: Tensor, batch: Examples, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each example of a batch at theta, (m,), and what else is measured of each, (m,) by name.

        An example without a finite loss counts as False.

        Raises:
            OstrakonError: as `gradient`.
        """
        if type(self._task).measures is Task.measures:
            losses, correct = self.answers(theta, batch, draw)
            return losses, {ACCURACY: correct & losses.isfinite()}
        losses, outputs = self._losses(theta, batch, draw, training=False)
        with user_code(f"{self._name}: measures"):
            found = checked(self._task.measures(outputs, batch.labels.clone()), len(batch))
        return losses, {
            name: one & losses.isfinite() if one.dtype == torch.bool else one for name, one in found.items()
        }

    def _losses(self, theta: Tensor, batch: Examples, draw: Draw, *, training: bool) -> tuple[Tensor, Any]:
        """The losses of a batch, (m,), and the outputs, as they were before `losses` could write into them."""
        model, own = self.model, batch.copy()
        if training and type(self._task).augment is not Task.augment:
            own = batch = self._augmented(own, draw)
        model.load(theta)
        self._set_mode(training)
        seed_generators(model.theta.device, draw.seed, draw.purpose, draw.worker, draw.round, _PASS)
        precision = self._precision if training else "float32"
        with user_code(f"{self._name}: the model's forward"), autocast(precision, model.theta.device):
            outputs = model.module(own.inputs)
        outputs = outputs if precision == "float32" else widened(outputs)
        if (name := model.state.overwritten()) is not None:
            raise OstrakonError(
                f"{self._name}: the model writes into its parameter {name}, which requires no gradient and so must "
                "stay what it is: let it require one, or compute what changes in forward"
            )
        kept = outputs if training else _copied(outputs)
        with user_code(f"{self._name}: losses"):
            losses = self._task.losses(outputs, own.labels)
        m = len(batch)
        if not isinstance(losses, Tensor) or losses.shape != (m,) or losses.dtype not in (torch.float32, torch.float64):
            raise OstrakonError(
                f"{self._name}: losses returned {described(losses)} for outputs {described(outputs)} and labels "
                f"{described(batch.labels)}: expected one loss for each example, float32 ({m},)"
                + _advice(losses, outputs, batch.labels)
            )
        return losses, kept

    def _augmented(self, batch: Examples, draw: Draw) -> Examples:
        device, what = self.model.theta.device, (draw.purpose, draw.worker, draw.round, _AUGMENTED)
        seed_generators(device, draw.seed, *what)
        with user_code(f"{self._name}: augment"):
            found = self._task.augment(batch, torch_generator(device, draw.seed, *what, _RNG))
        if not isinstance(found, Examples):
            raise OstrakonError(
                f"{self._name}: augment returned a {described(found)}: expected Examples, as in "
                "`return Examples(inputs, labels)`"
            )
        return Examples(found.inputs.to(device), found.labels.to(device))

    def _set_mode(self, training: bool) -> None:
        """Training or evaluation mode, of torch's modules."""
        module = self.model.module
        with user_code(f"{self._name}: the model's train"):
            module.train(training)
        if module.training != training:
            raise OstrakonError(
                f"{self._name}: {type(module).__name__}.train is not torch's, which sets the mode of a module: give "
                "your method another name, fit say"
            )


def _copied(outputs: Any) -> Any:
    """Outputs in memory of their own; a task may have its model return more than one tensor."""
    return tree_map(lambda one: one.detach().clone() if isinstance(one, Tensor) else one, outputs)


def _advice(found: object, outputs: Any, labels: Tensor, *, correct: bool = False) -> str:
    """What to write instead of these losses, or of this `correct`, where that can be guessed."""
    m = len(labels)
    if not isinstance(found, Tensor):
        return ": return a tensor"
    if isinstance(outputs, Tensor) and found.shape == (m, m) and outputs.dim() != labels.dim():
        what = "outputs" if outputs.dim() > labels.dim() else "labels"
        return f", but outputs and labels were spread over each other: write {what}[:, 0] or {what}.squeeze(1)"
    if correct:
        return _advice_on_correct(found, m)
    if found.dim() == 0:
        return ": write reduction='none', and no mean() or sum()"
    if found.shape == (m, 1):
        return ": write [:, 0] or squeeze(1)"
    if found.dim() >= 2 and len(found) == m:
        return ", so take the mean over all other dimensions: write .flatten(1).mean(dim=1)"
    if found.dim() >= 1 and m and found.numel() % m == 0 and found.numel() > m:
        return f": write .view({m}, -1).mean(dim=1)"
    if found.shape == (m,) and found.is_floating_point():
        return ": half precision decides no vote: write outputs.float()"
    return ""


def _advice_on_correct(found: Tensor, m: int) -> str:
    if found.dim() == 0:
        return ": no sum() and no mean()"
    if found.shape == (m, 1):
        return ": write [:, 0] or squeeze(1)"
    if found.dim() >= 2 and len(found) == m:
        return ": write .flatten(1).all(dim=1)"
    if found.shape == (m,):
        return ": write > 0" if found.is_floating_point() else ": write .bool()"
    return ""
