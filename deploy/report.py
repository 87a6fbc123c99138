"""Summary and curves of a run, from what survives kill -9."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ostrakon.common.files import write_atomically
from ostrakon.deploy import plots
from ostrakon.deploy.measured import Measurement, shown_value
from ostrakon.deploy.record import Record, read_record
from ostrakon.server.storage.history import History

SUMMARY = "summary.json"
CURVES = "curves.png"


@dataclass(frozen=True)
class Summary:
    """How a run went; None where nothing was measured."""

    status: str  # completed, diverged, stopped, or interrupted: no process has written an end
    stopped_by: str | None  # what stopped the run before its last round: a signal, or UNTIL=...
    rounds: int  # committed
    accuracy: float | None  # of the last committed model that was measured, on the test data
    accuracy_round: int | None  # whose model that is
    accuracy_of_average: float | None  # of the average of the committed models
    accuracy_of_average_round: int | None  # up to which they were averaged for that
    measures: dict[str, float | None]  # of the same model, by name, the headline first; None where one was not finite
    measures_of_average: dict[str, float | None]
    shares: tuple[str, ...]  # the names of those that are shares of examples, 0 to 1
    seconds: float  # over all server processes of the run
    rounds_per_second: float | None  # rounds / seconds
    seconds_to_first_commit: float | None  # from the start of the first server process
    bytes_per_worker_round: float | None  # received and sent by the server
    wins: dict[str, int]  # of inner and outer
    without_a_vote: int  # rounds among them in which there was one candidate, or two that were the same
    refused: dict[str, dict[str, int]]  # worker, or "" for callers that are none -> reason -> how often
    missing: dict[str, dict[str, int]]  # worker -> reason -> rounds
    revoked: tuple[str, ...]  # workers
    server_peak_bytes: int | None  # resident memory, the largest of all server processes
    errors: dict[str, str]  # evaluator or worker -> the error that ended it, although the run went on


def summarise(record: Record) -> Summary:
    """Draw the figures of a run from its record."""
    seconds = sum(life.seconds for life in record.lives)
    history = _history(record)
    last, average = record.measurements[-1] if record.measurements else None, record.average
    measures, of_average = (_values(one) for one in (last, average))
    return Summary(
        status=record.status,
        stopped_by=record.ending.stopped_by,
        rounds=record.rounds,
        accuracy=measures.get("accuracy"),
        accuracy_round=None if last is None else last.round,
        accuracy_of_average=of_average.get("accuracy"),
        accuracy_of_average_round=None if average is None else average.round,
        measures=measures,
        measures_of_average=of_average,
        shares=tuple(sorted({name for one in (last, average) if one is not None for name in one.shares})),
        seconds=seconds,
        rounds_per_second=record.rounds / seconds if seconds else None,
        seconds_to_first_commit=_first_commit(record),
        bytes_per_worker_round=_bytes_per_worker_round(record),
        wins={"inner": history.wins["inner"], "outer": history.wins["outer"]},
        without_a_vote=sum(not entry.votes for entry in record.entries),
        refused=_by_worker(history.refused),
        missing=_by_worker(history.missing),
        revoked=record.entries[-1].revoked if record.entries else (),
        server_peak_bytes=max((int(line["peak_bytes"]) for life in record.lives for line in life.lines), default=None),
        errors=record.ending.errors,
    )


def write(folder: Path) -> Summary:
    """Write summary.json and curves.png into a run's folder.

    Raises:
        OstrakonError: the folder holds no run, or what it holds is damaged.
    """
    record = read_record(folder)
    summary = summarise(record)
    write_atomically(folder / SUMMARY, (json.dumps(asdict(summary), indent=2) + "\n").encode())
    if record.genesis is not None:
        write_atomically(folder / CURVES, plots.curves(record))
    return summary


def table(name: str, summary: Summary) -> Table:
    """The summary for a terminal."""
    by = f" by {summary.stopped_by}" if summary.stopped_by else ""
    shown = Table(
        title=Text(f"run {name}: {summary.status}{by}"), show_header=False, title_justify="left", min_width=50
    )
    shown.add_column("what", style="bold")
    shown.add_column("value")
    shown.add_row("rounds", str(summary.rounds))
    names = list(summary.measures or summary.measures_of_average or ["accuracy"])
    when, averaged = f"round {summary.accuracy_round}", f"rounds 1 to {summary.accuracy_of_average_round}"
    for measure in names:
        shown.add_row(Text(f"test {measure}"), _measured(summary.measures, measure, summary.shares, when))
    which = f"{names[0]} " if len(names) > 1 else ""
    average = _measured(summary.measures_of_average, names[0], summary.shares, averaged)
    shown.add_row(Text(f"{which}of the averaged model"), average)
    rate = f", {summary.rounds_per_second:.2f} rounds a second" if summary.rounds_per_second else ""
    shown.add_row("time", f"{summary.seconds:.1f} s{rate}")
    shown.add_row("first commit after", _unit(summary.seconds_to_first_commit, 1, "s"))
    shown.add_row("traffic per worker and round", _unit(summary.bytes_per_worker_round, 1e3, "kB"))
    unvoted = f" ({summary.without_a_vote} without a vote)" if summary.without_a_vote else ""
    shown.add_row("wins", f"Inner {summary.wins['inner']}, Outer {summary.wins['outer']}{unvoted}")
    shown.add_row("refused", counts(summary.refused) or "nobody")
    shown.add_row("missing", counts(summary.missing) or "nobody")
    if summary.revoked:
        shown.add_row("revoked", ", ".join(summary.revoked))
    shown.add_row("server memory, peak", _unit(summary.server_peak_bytes, 1e6, "MB"))
    for process, error in summary.errors.items():
        shown.add_row(f"{process} ended", Text(error))
    return shown


def counts(by_worker: dict[str, dict[str, int]]) -> str:
    """Worker -> reason -> how often, in words."""
    return "\n".join(
        f"{worker or 'strangers'}: " + ", ".join(f"{reason} x{count}" for reason, count in reasons.items())
        for worker, reasons in by_worker.items()
    )


def _first_commit(record: Record) -> float | None:
    for life in record.lives:
        if life.rounds:
            return float(life.rounds[min(life.rounds)]["elapsed"])
    return None


def _bytes_per_worker_round(record: Record) -> float | None:
    measured = [line for life in record.lives for line in life.rounds.values()]
    if not measured:
        return None
    total = sum(int(line["bytes_received"]) + int(line["bytes_sent"]) for line in measured)
    return total / (record.n * len(measured))


def _history(record: Record) -> History:
    history = History()
    for entry in record.entries:
        history.add(entry)
    for life in record.lives:
        if life.finished is not None:  # what a server that was killed refused outside its entries is not known
            history.refused.update({(who, why): count for who, why, count in life.finished["refused"]})
    return history


def _by_worker(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    return {
        worker: {why: count for (who, why), count in sorted(counts.items()) if who == worker}
        for worker in sorted({who for who, _ in counts})
    }


def _values(found: Measurement | None) -> dict[str, float | None]:
    if found is None:
        return {}
    return {name: value if math.isfinite(value) else None for name, value in found.values.items()}


def _measured(values: dict[str, float | None], name: str, shares: Sequence[str], when: str) -> str:
    if name not in values:
        return "not measured"
    return f"{shown_value(values[name], share=name in shares)} ({when})"


def _unit(value: float | None, unit: float, name: str) -> str:
    return "not measured" if value is None else f"{value / unit:,.1f} {name}"
