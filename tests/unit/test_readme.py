"""What the README and the pages beside it list is what there is."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from ostrakon.common.aggregation import PRE_AGGREGATIONS
from ostrakon.common.aggregation.registry import RULE_MAKERS
from ostrakon.common.settings import build
from ostrakon.deploy.settings import RunSettings
from ostrakon.server.settings import ServerSettings
from ostrakon.worker.attacks import ATTACKS, attack_schedule
from ostrakon.worker.testbed.faults import Fault, fault_schedule
from ostrakon.worker.testbed.settings import AdversarySettings, ByzantineVote, WorkerFile
from tests.cluster import ROOT
from tests.team import REFUSED

README = (ROOT / "README.md").read_text(encoding="utf-8")
ATTACKS_PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")


def rows(header: str, page: str = README) -> list[list[str]]:
    """The cells of the table whose first column has this header, code marks taken off the whole cell."""
    (table,) = re.findall(rf"^\| {re.escape(header)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    return [
        [re.sub(r"^`([^`]*)`$", r"\1", cell.strip()) for cell in line.strip("|").split("|")]
        for line in table.splitlines()
    ]


def test_the_table_of_settings_is_the_settings_of_make_up() -> None:
    listed = [(name, default) for name, default, _ in rows("setting")]
    fields = [(name, f) for name, f in RunSettings.model_fields.items() if name != "team"]
    expected = [(name.upper(), "" if f.default is None else str(f.default)) for name, f in fields]
    assert listed == [*expected, ("SETTINGS", "")]


def test_the_table_of_rules_is_the_registry() -> None:
    cells = " ".join(cell for cell, _ in rows("`RULE=`"))
    assert set(re.findall(r"[A-Z][\w-]+", cells)) == {*RULE_MAKERS, *PRE_AGGREGATIONS}


def test_the_table_of_attacks_names_all_of_them() -> None:
    listed = [name for names, _ in rows("`ATTACK=`") for name in re.findall(r"[\w-]+", names)]
    assert sorted(listed) == sorted(ATTACKS)


def test_the_page_of_attacks_has_every_attack_with_its_parameters_and_what_it_knows() -> None:
    expected = []
    for name, entry in ATTACKS.items():
        parameters = ", ".join(f"`{p} = {found.default!r}`" for p, found in entry.parameters.items())
        expected.append((name, parameters.strip("`") if len(entry.parameters) == 1 else parameters, entry.knows))
    assert [(name, parameters, who) for name, parameters, who, _ in rows("attack", ATTACKS_PAGE)] == expected


def test_the_page_of_attacks_has_every_vote_and_every_fault_with_its_refusals() -> None:
    votes = [name for names, _ in rows("`BYZANTINE_VOTE=`", ATTACKS_PAGE) for name in re.findall(r"[\w-]+", names)]
    assert sorted(votes) == sorted(get_args(ByzantineVote))
    faults = {}
    for names, _, said in rows("`FAULT=`", ATTACKS_PAGE):
        faults |= dict.fromkeys(re.findall(r"[\w-]+", names), said)
    assert set(faults) == {fault.value for fault in Fault}
    for fault, reasons in REFUSED.items():
        for reason in reasons:
            assert f"`{reason}`" in faults[fault.value] or reason == faults[fault.value], fault


def test_the_example_on_the_page_of_attacks_runs() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", ATTACKS_PAGE, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["sent"].shape == (6, 1000)


def test_the_settings_files_on_the_page_of_attacks_are_read() -> None:
    team, adversary = re.findall(r"^```toml\n(.*?)^```$", ATTACKS_PAGE, re.MULTILINE | re.DOTALL)
    settings = build(RunSettings, tomllib.loads(team), source="team.toml")
    for liars in settings.liars():
        attack_schedule(liars.attack)
        fault_schedule(liars.fault)
    build(AdversarySettings, tomllib.loads(adversary), source="adversary.toml")


@pytest.mark.parametrize("name", ["server.toml", "worker-oslo.toml", "evaluator.toml"])
def test_the_settings_files_are_read(name: str) -> None:
    (text,) = re.findall(rf"^`{name}`:\n\n```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    kind = ServerSettings if name == "server.toml" else WorkerFile
    build(kind, tomllib.loads(text), source=name)


def headings(page: Path) -> set[str]:
    """The anchors of a page."""
    text = page.read_text(encoding="utf-8")
    return {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/rules.md", "docs/attacks.md", "docs/safety.md"])
def test_every_file_that_is_linked_and_every_target_that_is_named_exists(name: str) -> None:
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            file, _, anchor = target.partition("#")
            linked = page.parent / file if file else page
            assert linked.exists(), target
            assert not anchor or anchor in headings(linked), target
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[0].split()
    # Where code begins with `make`: an inline mark, or a line of a block.
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.M)) <= set(phony)


def test_every_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\| (I\d) \| .* \| (.*) \|$", page, re.M)
    assert [name for name, _ in promises] == [f"I{number}" for number in range(1, 10)]
    for name, shown_by in promises:
        files = re.findall(r"`(tests/[\w/]+\.py)`", shown_by)
        assert files and all((ROOT / file).is_file() for file in files), name
