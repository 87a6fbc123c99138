"""The page on loops of one's own, followed as it is written."""

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors.torch import load_file

from ostrakon.cli.main import run
from tests.harness.cluster import PATIENCE, ROOT, free_port, importing
from tests.harness.examples import EXAMPLES, example
from tests.harness.together import together

PAGE = (ROOT / "docs" / "your-own-loop.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


def script(name: str) -> ModuleType:
    """An example, which the page shows as it is."""
    assert (EXAMPLES / name).read_text(encoding="utf-8") in blocks("python"), f"the page shows another {name}"
    return example(name)


def follow(line: str) -> Callable[[], None] | None:
    """Do what a line says, and return what goes on beside the others."""
    match line.split():
        case ["ostrakon", "server", *_] | ["sed", *_]:
            process = subprocess.Popen(
                ["sh", "-c", line.replace("ostrakon", "exec $PYTHON -m ostrakon", 1)], env=ENVIRONMENT
            )
            return partial(ended, process) if line.startswith("ostrakon") else ended(process)
        case ["ostrakon", *words]:
            assert run(words) == 0
        case ["python", name, "init", path]:
            script(name).write_initial(script(name).make_model(), path)
        case ["python", name, *words]:
            return partial(script(name).main, *words)
    return None


ENVIRONMENT = importing() | {"PYTHON": sys.executable}


def ended(process: "subprocess.Popen[bytes]") -> None:
    try:
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()


def error(model: Path, inputs: np.ndarray) -> float:
    """Mean squared error, of a variance of 4."""
    found = load_file(model)
    hidden = np.maximum(inputs @ found["0.weight"].numpy().T + found["0.bias"].numpy(), 0)
    outputs = hidden @ found["2.weight"].numpy().T + found["2.bias"].numpy()
    return float(np.mean((outputs[:, 0] - inputs.sum(axis=1)) ** 2))


@pytest.mark.slow
def test_three_hosts_learn_what_their_data_have_in_common_and_so_do_two_beside_a_liar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    rng = np.random.default_rng(1)
    for name in ("oslo", "pisa", "riga"):
        inputs = rng.standard_normal((200, 4))
        np.savetxt(f"{name}.csv", np.column_stack([inputs, inputs.sum(axis=1)]), delimiter=",")
    (settings,) = blocks("toml")
    Path("server.toml").write_text(settings.replace("127.0.0.1:7433", address))
    for block in blocks("sh"):
        lines = block.replace("127.0.0.1:7433", address).splitlines()
        together([beside for line in lines if (beside := follow(line)) is not None])
    inputs = rng.standard_normal((500, 4)).astype(np.float32)
    assert error(Path("run/last.safetensors"), inputs) < 0.4
    assert error(Path("against-a-liar/last.safetensors"), inputs) < 0.4
    assert {"oslo.pt", "pisa.pt", "riga.pt"} <= {one.name for one in tmp_path.iterdir()}
