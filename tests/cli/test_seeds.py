"""`audiozen run --seeds`: several runs, and how much their results vary."""

from __future__ import annotations

import json
import statistics

import pytest
import torch
from safetensors.torch import load_file

from audiozen_core.testing.tiny import TinyExperiment


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path).set("trainer", max_epochs=1).set("optimizer", lr=0.02)


def weights(folder, name):
    return load_file(folder / "exp" / name / "checkpoints/latest/model.safetensors")


def recorded(folder, name, scalar):
    lines = (folder / "exp" / name / "metrics.jsonl").read_text().splitlines()
    return [record[scalar] for record in map(json.loads, lines) if scalar in record][-1]


def test_each_seed_is_a_run_of_its_own_and_the_table_has_mean_and_deviation(audiozen, tiny, tmp_path):
    done = audiozen("run", str(tiny.write()), "-M", "train", "test", "--seeds", "2")
    assert done.code == 0, done.err
    assert "has no checkpoint yet" not in done.err
    assert not (tmp_path / "exp/tiny").exists()
    found = json.loads((tmp_path / "exp/tiny_seeds.json").read_text())
    assert found["seeds"] == [1, 2]
    values = [recorded(tmp_path, f"tiny_seed_{seed}", "test/si_sdr") for seed in (1, 2)]
    row = found["scalars"]["test/si_sdr"]
    assert row["values"] == values
    assert row["mean"] == pytest.approx(sum(values) / 2)
    assert row["standard_deviation"] == pytest.approx(statistics.stdev(values))
    assert values[0] != values[1]
    (line,) = [line for line in done.out.splitlines() if line.startswith("test/si_sdr ")]
    assert line.split()[1] == f"{row['mean']:.4g}"
    # The run of a seed is that of a file with this seed.
    tiny.values["meta"] |= {"seed": 2, "id": "alone"}
    tiny.run()
    expected = weights(tmp_path, "alone")
    assert all(torch.equal(weights(tmp_path, "tiny_seed_2")[name], tensor) for name, tensor in expected.items())


def test_seeds_that_have_ended_are_not_trained_again(audiozen, tiny, tmp_path):
    assert audiozen("run", str(tiny.write()), "--seeds", "1").code == 0
    before = (tmp_path / "exp/tiny_seed_1/checkpoints/latest/model.safetensors").stat().st_mtime_ns
    done = audiozen("run", str(tiny.write()), "--seeds", "2")
    assert done.code == 0, done.err
    assert (tmp_path / "exp/tiny_seed_1/checkpoints/latest/model.safetensors").stat().st_mtime_ns == before
    assert "best score" in done.out


@pytest.mark.parametrize("option", [["--resume"], ["--fast-dev-run"], ["--nproc-per-node", "2"]])
def test_options_that_contradict_seeds_are_refused(audiozen, tiny, option):
    done = audiozen("run", str(tiny.write()), "--seeds", "2", *option)
    assert done.code == 2
    assert "--seeds" in done.err
