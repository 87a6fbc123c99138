"""What the README and the pages in docs/ list is what there is."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from ostrakon.common.aggregation import PRE_AGGREGATIONS
from ostrakon.common.aggregation.registry import RULE_MAKERS
from ostrakon.common.criteria import CRITERIA
from ostrakon.common.setting_types import Settings
from ostrakon.common.settings import build
from ostrakon.deploy.settings import RunSettings
from ostrakon.server.settings import ServerSettings
from ostrakon.worker.attacks import ATTACKS, attack_schedule
from ostrakon.worker.testbed.faults import Fault, fault_schedule
from ostrakon.worker.testbed.settings import AdversarySettings, ByzantineVote, WorkerFile
from tests.harness.cluster import ROOT
from tests.harness.team import REFUSED

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]


def page(name: str) -> str:
    """The text of a page in docs/."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


ATTACKS_PAGE = page("attacks")


def rows(header: str, page: str) -> list[list[str]]:
    """The cells of the table whose first column has this header, code marks taken off the whole cell."""
    (table,) = re.findall(rf"^\| {re.escape(header)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    return [
        [re.sub(r"^`([^`]*)`$", r"\1", cell.strip()) for cell in line.strip("|").split("|")]
        for line in table.splitlines()
    ]


def test_the_table_of_settings_is_the_settings_of_make_up() -> None:
    listed = [(name, default) for name, default, _ in rows("setting", page("settings"))]
    fields = [(name, f) for name, f in RunSettings.model_fields.items() if name != "team"]
    expected = [(name.upper(), "" if f.default is None else str(f.default)) for name, f in fields]
    assert listed == [*expected, ("SETTINGS", "")]


@pytest.mark.parametrize(
    ("file", "kind"),
    [("server", ServerSettings), ("worker", WorkerFile), ("adversary", AdversarySettings)],
)
def test_the_tables_of_a_process_are_its_settings(file: str, kind: type[Settings]) -> None:
    def shown(field: FieldInfo) -> str:
        return "needed" if field.is_required() else "" if field.default in (None, ()) else str(field.default)

    listed = [(name, default) for name, default, _ in rows(f"`{file}.toml`", page("settings"))]
    assert listed == [(name, shown(field)) for name, field in kind.model_fields.items()]


def test_the_table_of_criteria_is_the_criteria() -> None:
    assert [name for name, *_ in rows("`VOTE=`", page("settings"))] == list(CRITERIA)


def test_the_table_of_rules_is_the_registry() -> None:
    cells = " ".join(cell for cell, _ in rows("`RULE=`", page("rules")))
    assert set(re.findall(r"[A-Z][\w-]+", cells)) == {*RULE_MAKERS, *PRE_AGGREGATIONS}


def test_the_table_of_attacks_names_all_of_them() -> None:
    listed = [name for names, _ in rows("`ATTACK=`", ATTACKS_PAGE) for name in re.findall(r"[\w-]+", names)]
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


def test_the_example_on_the_page_of_experiments_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", page("experiments"), re.MULTILINE | re.DOTALL)
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("completed Measurement(round=60, accuracy=0.")
    accuracy = {tuple(line.split()[:2]): float(line.split()[2]) for line in printed[2:]}
    assert accuracy["Honest", "1"] > accuracy["Avg", "1"]


def test_the_settings_files_on_the_page_of_attacks_are_read() -> None:
    team, adversary = re.findall(r"^```toml\n(.*?)^```$", ATTACKS_PAGE, re.MULTILINE | re.DOTALL)
    settings = build(RunSettings, tomllib.loads(team), source="team.toml")
    for liars in settings.liars():
        attack_schedule(liars.attack)
        fault_schedule(liars.fault)
    build(AdversarySettings, tomllib.loads(adversary), source="adversary.toml")


@pytest.mark.parametrize("name", ["server.toml", "worker-oslo.toml", "evaluator.toml"])
def test_the_settings_files_are_read(name: str) -> None:
    (text,) = re.findall(rf"^`{name}`:\n\n```toml\n(.*?)^```$", page("hosts"), re.MULTILINE | re.DOTALL)
    kind = ServerSettings if name == "server.toml" else WorkerFile
    build(kind, tomllib.loads(text), source=name)


def headings(page: Path) -> set[str]:
    """The anchors of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}


def targets(page: Path) -> list[str]:
    """Where the links and pictures of a page lead."""
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_linked_and_every_target_that_is_named_exists(page: Path) -> None:
    for target in targets(page):
        if not target.startswith("https://"):
            file, _, anchor = target.partition("#")
            linked = page.parent / file if file else page
            assert linked.exists(), target
            assert not anchor or anchor in headings(linked), target
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = " ".join(re.findall(r"^(?:\.PHONY:|PLANS :=) (.*)$", makefile, re.M)).split()
    # Where code begins with `make`: an inline mark, or a line of a block.
    assert set(re.findall(r"(?:`|^)make ([a-z0-9]+)", page.read_text(encoding="utf-8"), re.M)) <= set(phony)


def test_the_readme_is_short_and_leads_to_every_page_and_no_picture_is_left_over() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
    assert {f"docs/{one.name}" for one in DOCS} <= {target.partition("#")[0] for target in targets(README)}
    shown = {(page.parent / target).resolve() for page in PAGES for target in targets(page)}
    assert {one for one in (ROOT / "docs").iterdir() if one.suffix in (".png", ".svg")} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_commands_as_they_are_typed(page: Path) -> None:
    modules = re.findall(r"python -m (ostrakon[\w.]*)", page.read_text(encoding="utf-8"))
    assert set(modules) <= {"ostrakon.bench"}


def test_the_glossary_gives_every_word_one_meaning() -> None:
    lines = re.findall(r"^\| (?!word \|)([^|]+) \|", page("glossary"), re.M)
    words = [word.strip() for line in lines for word in line.split(",")]
    assert len(words) == len(set(words)) > 80


def test_the_walk_through_the_code_names_methods_that_there_are() -> None:
    rooms = [ROOT / room for room in ("common", "server", "worker", "deploy")]
    code = "\n".join(file.read_text(encoding="utf-8") for room in rooms for file in sorted(room.rglob("*.py")))
    named = re.findall(r"`([A-Z]\w+)\.(\w+)(?:\(|`)", page("a-round-in-the-code"))
    assert len(named) > 20
    for kind, method in named:
        bodies = re.findall(rf"^class {kind}\b.*?(?=^\S|\Z)", code, re.MULTILINE | re.DOTALL)
        assert any(f" def {method}(" in body for body in bodies), f"{kind}.{method}"
    for function in re.findall(r"`(_\w+)`", page("a-round-in-the-code")):
        assert f"def {function}(" in code, function


def test_every_promise_names_tests_that_exist() -> None:
    promises = re.findall(r"^\| (I\d) \| .* \| (.*) \|$", page("safety"), re.M)
    assert [name for name, _ in promises] == [f"I{number}" for number in range(1, 10)]
    for name, shown_by in promises:
        files = re.findall(r"`(tests/[\w/]+\.py)`", shown_by)
        assert files and all((ROOT / file).is_file() for file in files), name
