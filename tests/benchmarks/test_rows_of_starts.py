"""The rows of starts, folders and checkpoints measure both sides."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "count"),
    [("cli_start", 2), ("installed_plugins", 3), ("check_start", 2), ("checkpoint", 4), ("folder_listing", 2)],
)
def test_row_is_measured(row, count, repository, tmp_path):
    command = [sys.executable, "-m", "benchmarks", row, "--rounds", "1", "--json", tmp_path / "rows.json"]
    subprocess.run(command, cwd=repository, capture_output=True, check=True)
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert len(rows) == count
    assert all(row["ours"]["median"] > 0 and row["peer"]["median"] > 0 for row in rows)
