"""The table of attacks: the runs that it is made of, and its place on the page."""

import re
from pathlib import Path

import pytest

import ostrakon.common.markdown
from ostrakon.bench.attacks import PLACE, ROWS, RULES, Setting, markdown
from ostrakon.common.errors import OstrakonError
from ostrakon.deploy.launch_settings import check_parts, new_run, parse
from tests.harness.cluster import ROOT

LINEAR = Setting("linear", 15, 6, 20, 1)


@pytest.mark.parametrize("attack", ROWS)
def test_every_run_of_the_table_is_one_that_make_up_takes(attack: str) -> None:
    names = set()
    for rule in RULES:
        settings = new_run(parse(LINEAR.words(attack, rule)))
        check_parts(settings)
        assert (settings.workers, settings.byzantine, settings.f, settings.rounds) == (15, 6, 6, 20)
        assert (settings.attack, settings.rule) == (attack, rule)
        assert settings.byzantine_vote == ("honest" if attack == "none" else "larger-loss")
        names.add(settings.run)
    assert len(names) == len(RULES)


def test_the_table_has_a_row_for_every_attack_and_ends_with_the_worst() -> None:
    found = {(attack, "Avg"): (i + 10) / 100 for i, attack in enumerate(ROWS)}
    table = markdown(LINEAR, found, ["Avg"]).splitlines()
    assert table[2:5] == ["| attack | `Avg` |", "| --- | --- |", "| `none` | 0.10 |"]
    assert len(table) == 2 + 2 + len(ROWS) + 1
    assert table[-1] == "| worst | 0.10 |"


def test_the_table_is_put_in_its_place_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- {PLACE} -->\nold\n<!-- its end -->\nafter\n")
    ostrakon.common.markdown.renew(page, PLACE, "new")
    assert page.read_text() == f"before\n<!-- {PLACE} -->\n\nnew\n\n<!-- its end -->\nafter\n"
    with pytest.raises(OstrakonError, match="has no line <!-- another -->"):
        ostrakon.common.markdown.renew(page, "another", "new")


def test_the_page_has_the_table_with_all_attacks_and_rules() -> None:
    text = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    (table,) = re.findall(rf"<!-- {PLACE} -->\n(.*?)<!-- its end -->", text, re.DOTALL)
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    assert cells[0] == ["attack", *(f"`{rule}`" for rule in RULES)]
    assert [row[0] for row in cells[2:]] == [*(f"`{attack}`" for attack in ROWS), "worst"]
    assert all(re.fullmatch(r"0\.\d\d", cell) for row in cells[2:] for cell in row[1:])
