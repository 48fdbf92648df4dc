"""Several ranks train what one process trains with a batch so many times as large."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from audiozen_core.data.loader import BatchLoader
from audiozen_core.distributed.join import joined_ranks
from audiozen_core.distributed.ranks import ALONE
from audiozen_core.distributed.settings import Distributed
from audiozen_core.testing.tiny import TinyExperiment, write_pairs
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from tests.measured import without_measured
from tests.on_ranks import Failed, all_right, on_ranks

CLIPS = 7


def experiment(folder, *, batch_size, **trainer):
    """An experiment with seven clips, so that the last batch of an epoch is smaller, also with several ranks."""
    tiny = TinyExperiment(folder)
    write_pairs(folder, CLIPS, seconds=0.25)
    tiny.set(
        "trainer", save_ckpt_interval_steps=1, max_num_checkpoints=100, log_interval=1, **{"plot_norm": True, **trainer}
    )
    # With Adam, tiny differences of a gradient near zero become differences as large as the learning rate.
    tiny.set("optimizer", "torch.optim.SGD", lr=0.5)
    tiny.values["dataset"]["dataloader"]["batch_size"] = batch_size
    tiny.values["distributed"] = {"timeout": 60.0}  # a mistake should not make the tests wait for ten minutes
    return tiny


def state_of(folder: Path, name: str = "latest") -> dict[str, torch.Tensor]:
    return {
        f"{file.stem}.{key}": value
        for file in sorted((folder / "exp/tiny/checkpoints" / name).glob("*.safetensors"))
        for key, value in load_file(file).items()
    }


def records(folder: Path) -> list[dict]:
    lines = map(json.loads, (folder / "exp/tiny/metrics.jsonl").read_text().splitlines())
    return [
        {key: value for key, value in without_measured(line).items() if isinstance(value, int | float)}
        for line in lines
    ]


def assert_near(one: dict, several: dict, limit: float = 1e-6):
    trained = [name for name in one if name.startswith(("model", "optimizer"))]
    assert trained == [name for name in several if name.startswith(("model", "optimizer"))]
    for name in trained:
        torch.testing.assert_close(
            several[name], one[name], rtol=0, atol=limit, msg=lambda text, name=name: name + text
        )


@pytest.fixture
def folders(tmp_path):
    for name in ("one", "several"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "several"


@pytest.mark.parametrize(
    ("size", "window"),
    [(2, 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, 2), (3, 1), (3, 2)))],
)
def test_ranks_train_like_one_process_with_a_larger_batch(folders, size, window):
    one, several = folders
    experiment(one, batch_size=2 * size, gradient_accumulation_steps=window).run("train", "test")
    tiny = experiment(several, batch_size=2, gradient_accumulation_steps=window)
    all_right(on_ranks(size, lambda rank: tiny.run("train", "test") and None))

    assert_near(state_of(one), state_of(several))
    if window == 1:
        # The number of samples of the first batch, after the ranks have put their scalars together twice.
        origins = load_file(several / "exp/tiny/checkpoints/epoch_0001_step_0000001/scalars.safetensors")["origins"]
        assert origins.tolist() == [[0, 2 * size]]
    first = state_of(one, "epoch_0001")
    assert any((first[name] != value).any() for name, value in state_of(one).items() if name.startswith("model"))
    for expected, found in zip(records(one), records(several), strict=True):
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_settings_of_the_engine_change_nothing(folders):
    one, several = folders
    experiment(one, batch_size=4).run()
    tiny = experiment(several, batch_size=2)
    tiny.values["distributed"] |= {"static_graph": True, "find_unused_parameters": False, "bucket_cap_mb": 1}
    all_right(on_ranks(2, lambda rank: tiny.run() and None))
    assert_near(state_of(one), state_of(several))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPUs")
@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("meta", "device", "cuda", '`device = "cuda"` can\'t be used here'),
        ("distributed", "sync_batch_norm", True, "`sync_batch_norm = true` of [distributed] needs GPUs"),
    ],
)
def test_what_needs_gpus_is_refused_on_cpus_before_anything_is_written(tmp_path, section, key, value, message):
    tiny = experiment(tmp_path, batch_size=2).set("model", "tests.core.distributed.networks.Dropping")
    tiny.values[section][key] = value
    for failed in on_ranks(2, lambda rank: tiny.run() and None):
        assert isinstance(failed, Failed)
        assert message in str(failed.args[0])
    assert not (tmp_path / "exp").exists()


class _SeveralNetworks(BaseTrainer):
    """Two networks with an optimiser each, as in adversarial training, and unused weights."""

    def training_step(self, batch, batch_idx):
        made = self.models["g"].weight * batch["x"]
        real, fake = self.models["d"](batch["x"]), self.models["d"](made)
        losses = {"loss_g": (fake - 1).square().mean()}
        # The second network is trained in every other batch.
        if batch_idx % 2 == 0:
            detached = self.models["d"](made.detach())
            losses["loss_d"] = (real - 1).square().mean() + detached.square().mean()
        return losses


class _Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))
        self.unused = torch.nn.Parameter(torch.tensor(0.7))


def _train_two(ranks, batch_size):
    torch.manual_seed(0)
    models = {"g": _Scale(), "d": torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))}
    optimizers = {
        suffix: torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1) for suffix, model in models.items()
    }
    trainer = _SeveralNetworks(
        Components(models=models, optimizers=optimizers, ranks=ranks), max_epochs=2, gradient_accumulation_steps=2
    )
    samples = [{"x": torch.randn(4, generator=torch.Generator().manual_seed(index))} for index in range(21)]
    trainer.train(BatchLoader(samples, batch_size=batch_size, shuffle=True, share=(ranks.rank, ranks.size)))
    return {
        f"{suffix}.{name}": weight.tolist()
        for suffix, model in models.items()
        for name, weight in model.state_dict().items()
    }


def test_several_networks_and_optimisers_are_each_trained_like_in_one_process():
    expected = _train_two(ALONE, 4)

    def train(rank):
        with joined_ranks(Distributed(), "cpu") as ranks:
            return _train_two(ranks, 2)

    for weights in all_right(on_ranks(2, train)):
        for name, weight in weights.items():
            torch.testing.assert_close(torch.tensor(weight), torch.tensor(expected[name]), rtol=0, atol=1e-6)
    # Weight decay would have changed it if the ranks had given it a gradient of zero.
    assert expected["g.unused"] == pytest.approx(0.7)
    assert expected["g.weight"] != 0.5
