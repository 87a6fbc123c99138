"""The documented task of one's own, with the command beside it."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.harness.cluster import ROOT
from tests.harness.command import ostrakon

PAGE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def test_the_documented_task_learns_although_one_of_three_workers_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, *_, load = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (words,) = re.findall(r"^make up (TASK=mytask:Spirals .*)$", PAGE, re.MULTILINE)
    assert len(source.splitlines()) < 30
    (tmp_path / "mytask.py").write_text(source, encoding="utf-8")

    up = ostrakon(tmp_path, "up", *shlex.split(words))
    assert up.status == 0, up.said + up.wrong

    summary = json.loads((tmp_path / "runs" / "spirals" / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["accuracy"] > 0.8  # guessing gives a third
    assert not summary["missing"]
    assert not summary["refused"]

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(load, {})
