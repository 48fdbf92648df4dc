"""`audiozen run --seeds`: several runs, and how much their results vary."""

from __future__ import annotations

import json
import math
import statistics

import pytest
import torch
from safetensors.torch import load_file

from audiozen_core.experiment import seeds
from audiozen_core.experiment.seeds import SeedResults
from audiozen_core.testing.tiny import TinyExperiment

NET_THAT_ANSWERS_NAN = """
from torch import nn


class Net(nn.Linear):
    def __init__(self):
        super().__init__(65, 65)

    def forward(self, magnitude):
        mask = super().forward(magnitude.transpose(1, 2)).transpose(1, 2)
        return magnitude * (mask if self.training else mask * float("nan"))
"""


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
    assert "warning" not in done.err
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


def test_scalar_that_a_run_lacks_is_null_at_its_place(monkeypatch, tiny, tmp_path):
    found = iter([{"test/si_sdr": 1.0, "test/pesq": 2.0}, {"test/si_sdr": 3.0}])
    monkeypatch.setattr(seeds, "_scalars", lambda result: next(found))
    results = seeds.run_seeds(tiny.write(), 2)
    assert [list(map(str, values)) for values in results.scalars.values()] == [["1.0", "3.0"], ["2.0", "nan"]]
    row = json.loads(results.file.read_text())["scalars"]["test/pesq"]
    assert row == {"mean": None, "standard_deviation": None, "values": [2.0, None]}


def test_id_may_have_characters_that_toml_and_json_escape_differently(monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(seeds, "_scalars", lambda result: {})
    monkeypatch.setattr(seeds.Experiment, "run", lambda experiment, **options: experiment)
    (tmp_path / "exp").mkdir()
    tiny.values["meta"]["id"] = "\U00020000"
    assert seeds.run_seeds(tiny.write(), 1).file == tmp_path / "exp/\U00020000_seeds.json"


@pytest.mark.parametrize("option", [["--resume"], ["--fast-dev-run"], ["--nproc-per-node", "2"]])
def test_options_that_contradict_seeds_are_refused(audiozen, tiny, option):
    done = audiozen("run", str(tiny.write()), "--seeds", "2", *option)
    assert done.code == 2
    assert "--seeds" in done.err


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_scalar_that_is_not_finite_with_one_seed_has_no_mean(bad):
    assert all(map(math.isnan, SeedResults.mean_and_deviation([1.0, bad, -bad])))


def test_network_that_fails_with_each_seed_has_a_table_and_valid_json(audiozen, tiny, tmp_path):
    (tmp_path / "nets.py").write_text(NET_THAT_ANSWERS_NAN)
    tiny.set("model", "nets.Net")
    done = audiozen("run", str(tiny.write()), "-M", "train", "test", "--seeds", "2")
    assert done.code == 0, done.err

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((tmp_path / "exp/tiny_seeds.json").read_text(), parse_constant=refuse)
    missing = {"mean": None, "standard_deviation": None, "values": [None, None]}
    assert found["scalars"]["test/si_sdr"] == missing
    assert found["scalars"]["test/si_sdr_noisy"]["mean"] > 0
    (line,) = [line for line in done.out.splitlines() if line.startswith("test/si_sdr ")]
    assert line.split()[1:] == ["nan"] * 4
