"""The table of rules: at a terminal and on its page."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ostrakon.common.aggregation import PRE_AGGREGATIONS, RULES, table
from ostrakon.common.errors import OstrakonError
from tests.harness.cluster import ROOT

PAGE = ROOT / "docs" / "rules.md"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_the_table_on_the_page_is_current(tmp_path: Path) -> None:
    """If it is not: make docs."""
    again = tmp_path / "rules.md"
    again.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    table.update(again, 35, 14)
    assert again.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_a_page_without_a_place_for_the_table_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Nothing\n")
    with pytest.raises(OstrakonError, match="has no line <!-- the table of rules -->"):
        table.update(page, 35, 14)


def test_the_example_on_the_page_runs() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["inner"].vector.shape == (1000,)


def test_the_table_lists_everything_with_its_constants_for_n_and_f() -> None:
    lines = {line.name: line for line in table.lines(35, 14)}
    assert set(lines) == {*RULES, *PRE_AGGREGATIONS, "TwoPhase(Mean1P, Avg)", "MoNNA(pivot=9)"}
    assert (lines["Mean2P"].resilience, lines["Mean2P"].robustness) == ("4.24", "36")
    assert (lines["Avg"].resilience, lines["Avg"].robustness) == ("-", "-")
    assert (lines["SMEA"].resilience, lines["SMEA"].robustness) == ("n/a", "n/a")
    assert [refusal.split(":")[1].split()[0] for refusal in table.refusals(35, 14)] == ["SMEA", "Bulyan"]


@pytest.mark.slow
def test_the_command_prints_the_table_and_refuses_in_a_sentence() -> None:
    printed = run("ostrakon", "rules", "--n", "10", "--f", "4")
    assert printed.returncode == 0
    assert "n = 10 rows, f = 4" in printed.stdout
    assert "O(n^2 d)" in printed.stdout  # whole, where it does not go to a narrow terminal
    assert "Krum needs n >= 2f + 3, so with n=10 f can be at most" in " ".join(printed.stdout.split())


def test_a_bound_that_no_rule_meets_is_refused_in_a_sentence() -> None:
    with pytest.raises(OstrakonError, match="f=5 of n=10 workers: f must be below n/2, so at most 4"):
        table.terminal(10, 5, 160)
