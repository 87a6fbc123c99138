"""A plan that was run, as CSV and as Markdown."""

import csv
import io
from collections.abc import Iterable, Sequence

from ostrakon.common.markdown import table
from ostrakon.experiments.experiment import Experiment
from ostrakon.experiments.tables.paper import Known
from ostrakon.experiments.tables.plan import Plan
from ostrakon.experiments.tables.summary import Filled, Spread, over_row, worst_of_paper

_COLUMNS = (
    *("block", "row", "attack", "round", "accuracy", "std", "pooled", "pooled_std", "runs", "diverged", "failed"),
    *("paper", "paper_std", "inner", "task", "options", "rule", "workers", "byzantine", "f", "vote", "vote_batch"),
    *("batch", "gamma", "beta", "rounds"),
)


def as_csv(plan: Plan, filled: Sequence[Filled]) -> str:
    """A line for each cell; of curves, one for each round that was measured, all that is known in the last."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in filled:
        experiment = one.cell.experiment
        common = {
            **experiment.model_dump(mode="json", include=set(_COLUMNS)),
            "block": one.cell.block,
            "row": one.cell.row,
            "f": experiment.bound,
            "options": options_of(experiment),
            "runs": len(one.records),
            "diverged": one.diverged,
            "failed": len(one.errors),
        }
        if plan.kind != "table":
            writer.writerows({**common, "round": at, **_numbers("", found)} for at, found in one.curve()[:-1])
        known = one.cell.paper
        last = {
            "round": experiment.rounds,
            **_numbers("", one.accuracy),
            **_numbers("pooled", one.pooled),
            "paper": "" if known is None else known.accuracy,
            "paper_std": "" if known is None or known.std is None else known.std,
            "inner": "" if one.inner is None else f"{one.inner:.3f}",
        }
        writer.writerow({**common, **last})
    return text.getvalue()


def as_markdown(plan: Plan, filled: Sequence[Filled], seeds: int) -> str:
    """A table for each block, the paper's figures in brackets, and below what they were measured with."""
    parts = [f"**{plan.name}**: {plan.title}. Test accuracy after the last round, mean ± deviation, [the paper's]."]
    for block, cells in plan.blocks():
        own = [one for one in filled if one.cell.block == block]
        columns = list(dict.fromkeys(cell.column for cell in cells))
        rows = [_row(row, [one for one in own if one.cell.row == row]) for row in dict.fromkeys(c.row for c in cells)]
        parts.append(f"{block}:\n\n{table([plan.corner, *columns, 'worst', 'mean'], rows)}")
    return "\n\n".join([*parts, _measured_with(filled, seeds)])


def number(found: Spread | None, known: Known | None) -> str:
    """A cell's text: `0.61 ± 0.02 [0.61]`."""
    texts = []
    if found is not None:
        texts.append(f"{found.mean:.2f}" if found.std is None else f"{found.mean:.2f} ± {found.std:.2f}")
    if known is not None:
        texts.append(f"[{known.accuracy:.2f}]")
    return " ".join(texts)


def _row(name: str, filled: Sequence[Filled]) -> list[str]:
    overall, worst = over_row(filled), worst_of_paper(filled)
    ends = ["", ""] if overall is None else [f"{one:.2f}" for one in overall]
    if worst is not None:
        ends[0] = f"{ends[0]} [{worst:.2f}]".strip()
    return [f"`{name}`", *(_cell(one) for one in filled), *ends]


def _cell(one: Filled) -> str:
    marks = [f"{one.diverged} diverged"] * bool(one.diverged) + [f"{len(one.errors)} failed"] * bool(one.errors)
    return " ".join([number(one.accuracy, one.cell.paper), *(f"({mark})" for mark in marks)]).strip()


def _measured_with(filled: Sequence[Filled], seeds: int) -> str:
    """The settings, each once where all cells share it, what was measured on, and what is not known yet."""
    experiments = [one.cell.experiment for one in filled]
    first = experiments[0]
    records = [record for one in filled for record in one.records]
    missing, failed = sum(one.missing for one in filled), [error for one in filled for error in one.errors]
    lines = [
        f"Measured with: task {_all(one.task for one in experiments)}; "
        f"data {first.data.name if first.data else 'none'}; "
        f"options {_all(options_of(one) or 'none' for one in experiments)}; {first.workers} workers, "
        f"{_all(str(one.byzantine) for one in experiments)} of them Byzantine, "
        f"f = {_all(str(one.bound) for one in experiments)}; {first.rounds} rounds; "
        f"{f'seeds 1 to {seeds}' if seeds > 1 else 'seed 1'}; batch {first.batch}; "
        f"gamma {_rate(first)}; beta {first.beta:g}; "
        f"votes by {_all(_vote(one) for one in experiments if one.made_rule.two_phase)}, those of liars for the larger "
        f"loss; computed on {_all(record.device for record in records)}.",
        "Accuracy is the mean over the workers' own test sets; a run that diverged counts as 0. The deviation is over "
        "seeds (n - 1).",
    ]
    if missing:
        lines.append(f"{missing} of {len(filled) * seeds} runs are not computed yet: the same command goes on.")
    if failed:
        lines.append(
            f"{len(failed)} runs failed: {'; '.join(dict.fromkeys(failed))}. The same command tries them again."
        )
    return "  \n".join(lines)


def _rate(experiment: Experiment) -> str:
    gamma = experiment.gamma if isinstance(experiment.gamma, str) else f"{experiment.gamma:g}"
    decay = f" with weight decay {experiment.weight_decay:g}" if experiment.weight_decay else ""
    return gamma + decay + (f"; gradients clipped to {experiment.clip:g}" if experiment.clip else "")


def _vote(experiment: Experiment) -> str:
    return f"{experiment.vote} on {experiment.vote_batch} images"


def options_of(experiment: Experiment) -> str:
    """The options of its task as users write them; empty where it has none."""
    return ",".join(f"{name}={value}" for name, value in (experiment.options or {}).items())


def _all(texts: Iterable[str]) -> str:
    """Different texts, each once."""
    return ", ".join(dict.fromkeys(texts)) or "none"


def _numbers(name: str, found: Spread | None) -> dict[str, str]:
    mean, std = (name, f"{name}_std") if name else ("accuracy", "std")
    if found is None:
        return {}
    return {mean: f"{found.mean:.4f}", std: "" if found.std is None else f"{found.std:.4f}"}
