"""Ten thousand rounds with churn: server and workers stay as large as they are, and a run's folder grows by little."""

import os
from pathlib import Path

import pytest

from tests.soak.long_run import MIB, LongRun

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "10000"))

GROWTH = 2 * MIB  # of resident memory, from the fifth tenth of the run to the last: 400 bytes a round
HANDLES = 4  # more open files then
FOLDER = 3072  # bytes that a round adds to ledger and metrics, with up to seven votes
LOGS = 512  # bytes that a round adds to the logs of all processes


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_long_run_with_workers_and_observers_that_come_and_go_does_not_grow(tmp_path: Path) -> None:
    long = LongRun(tmp_path, ROUNDS)
    try:
        summary = long.run()
    finally:
        long.cluster.stop()
    print(summary)
    assert summary.server_growth < GROWTH
    assert summary.worker_growth < GROWTH
    assert summary.server_handle_growth <= HANDLES
    assert summary.worker_handle_growth <= HANDLES
    assert summary.folder_bytes_per_round < FOLDER
    assert summary.log_bytes_per_round < LOGS
    kept = long.cluster.server_settings.get("keep_models", 2)
    assert summary.most_model_files <= kept + 3  # one more before the oldest is forgotten, and two candidates
    assert summary.model_files_at_the_end == kept
