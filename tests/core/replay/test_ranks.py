"""Batches and errors of a training run in several processes."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from audiozen_core.replay.replay import replay
from audiozen_core.replay.target import BatchPosition, Target
from tests.core.replay.waves import TOML, WaveExperiment, digest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_no_pictures")]


def test_the_batch_of_the_guilty_rank_is_replayed(tmp_path):
    experiment = WaveExperiment(tmp_path)
    parts = tmp_path / "parts.py"
    text = parts.read_text().replace('"kept.jsonl"', 'f"kept{trainer.ranks.rank}.jsonl"')
    text = text.replace("batch_idx]:\n", "batch_idx] and self.ranks.rank == 1:\n")
    parts.write_text(text)
    broken = ("log_interval = 1", "log_interval = 1\nnan_in = [2, 1]\nin_loss = true")
    file = experiment.write(broken, text=TOML, name="waves")
    audiozen = Path(sys.executable).with_name("audiozen")
    ran = subprocess.run([audiozen, "run", file, "--nproc-per-node", "2"], capture_output=True, text=True, check=False)
    run = tmp_path / "exp/waves"
    command = ["audiozen", "replay", str(run), "--epoch", "2", "--batch", "1", "--rank", "1"]
    assert shlex.join(command) in ran.stderr
    for rank in (0, 1):
        kept = [json.loads(line) for line in (tmp_path / f"kept{rank}.jsonl").read_text().splitlines()]
        assert len(kept) == 4
        for epoch, batch, expected in kept:
            found = replay(run, Target(BatchPosition(epoch, batch)), rank=rank, output=tmp_path / "out")
            assert digest(found.batch) == expected
    # Right after a checkpoint, one process can make the step of each rank.
    step = replay(run, Target(BatchPosition(2, 0)), rank=1, step=True, output=tmp_path / "out").step
    assert (step.step, digest(step.batch)) == (3, kept[2][2])
