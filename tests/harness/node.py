"""The Node.js worker of the examples, with its packages; where these are not, tests of it are skipped with a reason."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.harness.cluster import ROOT

EXAMPLE = ROOT / "examples" / "node"
PROTO = ROOT / "protos" / "ostrakon" / "v1" / "parameter_server.proto"
INSTALL_SECONDS = 120


@cache
def _installed() -> TemporaryDirectory[str] | str:
    """A folder with the worker and its packages, as long as this process lives, or why there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not on this machine"
    folder = TemporaryDirectory(prefix="ostrakon-node-")
    for name in (*(file.name for file in EXAMPLE.glob("*.js*")), "iris.csv", ".npmrc"):
        shutil.copy(EXAMPLE / name, folder.name)
    command = ["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund"]
    try:
        installed = subprocess.run(command, cwd=folder.name, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        return "npm's registry does not answer"
    return folder if installed.returncode == 0 else f"npm ci: {installed.stderr.strip().splitlines()[:1]}"


def node_worker(server: str, tls: Path, id: str, task: str) -> list[str]:
    """The command that starts it."""
    folder = _installed()
    if isinstance(folder, str):
        pytest.skip(folder)
    given = {"--server": server, "--tls": str(tls), "--id": id, "--task": task, "--proto": str(PROTO)}
    return ["node", str(Path(folder.name) / "worker.js"), *(word for pair in given.items() for word in pair)]
