"""What the README lists is what there is."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from common.aggregation import PRE_AGGREGATIONS
from common.aggregation.registry import RULE_MAKERS
from common.settings import RunSettings, ServerSettings, WorkerSettings, build
from tests.cluster import ROOT
from worker.attacks import ATTACKS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """The cells of the table whose first column has this header, code marks taken off the whole cell."""
    (table,) = re.findall(rf"^\| {re.escape(header)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", README, re.MULTILINE)
    return [
        [re.sub(r"^`([^`]*)`$", r"\1", cell.strip()) for cell in line.strip("|").split("|")]
        for line in table.splitlines()
    ]


def test_the_table_of_settings_is_the_settings_of_make_up() -> None:
    listed = [(name, default) for name, default, _ in rows("setting")]
    fields = RunSettings.model_fields.items()
    assert listed == [(name.upper(), "" if f.default is None else str(f.default)) for name, f in fields]


def test_the_table_of_rules_is_the_registry() -> None:
    cells = " ".join(cell for cell, _ in rows("`RULE=`"))
    assert set(re.findall(r"[A-Z][\w-]+", cells)) == {*RULE_MAKERS, *PRE_AGGREGATIONS}


def test_the_table_of_attacks_is_the_registry() -> None:
    listed = [(name, parameters) for name, parameters, _ in rows("`ATTACK=`")]
    expected = []
    for name, entry in ATTACKS.items():
        signature = inspect.signature(entry.send)
        expected.append((name, "; ".join(f"`{p}`, {signature.parameters[p].default:g}" for p in entry.parameters)))
    assert listed == expected


@pytest.mark.parametrize("name", ["server.toml", "worker-oslo.toml", "evaluator.toml"])
def test_the_settings_files_are_read(name: str) -> None:
    (text,) = re.findall(rf"^`{name}`:\n\n```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    kind = ServerSettings if name == "server.toml" else WorkerSettings
    build(kind, tomllib.loads(text), source=name)


def headings(page: Path) -> set[str]:
    """The anchors of a page."""
    text = page.read_text(encoding="utf-8")
    return {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/rules.md"])
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
