"""Lazy modules get their shapes from one training batch, before anything else uses their weights."""

from __future__ import annotations

import json

import pytest
import torch

from audiozen_core.errors import BuildError, DataError, RunError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from tests.tiny_experiment import TOML, TinyExperiment

LAZY = """
class Lazy(nn.Module):
    def __init__(self, unused: bool = False):
        super().__init__()
        self.first = nn.LazyLinear(3)
        self.norm = nn.LazyBatchNorm1d()
        self.last = nn.LazyLinear(1)
        if unused:
            self.unused = nn.LazyLinear(2)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


class LazyLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.LazyLinear(1)

    def forward(self, output, target):
        return (self.scale(output) - target).square().mean()


class Sees:
    @hookimpl
    def on_setup(self, trainer):
        self.shape = list(trainer.model.first.weight.shape)
        trainer.log.info(f"first weight {self.shape}")


class FirstIsBroken(Data):
    def __getitem__(self, index):
        if index < 2:
            raise OSError("broken file")
        return super().__getitem__(index)


class Mine(Trainer):
    def prepare_batch(self, batch, mode):
        return batch["mask"]


class Average:
    @hookimpl
    def on_setup(self, trainer):
        self.average = torch.optim.swa_utils.AveragedModel(trainer.model)
        trainer.state.register("average", self.average)

    @hookimpl
    def on_optimizer_step_end(self, trainer):
        self.average.update_parameters(trainer.model)

    @hookimpl
    def on_evaluation_start(self, trainer, mode):
        if mode == "test":
            trainer.model.load_state_dict(self.average.module.state_dict())


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LazyInstanceNorm1d(affine=True, track_running_stats=True)
        self.last = nn.LazyLinear(1)

    def forward(self, x):
        return self.last(self.norm(x[:, None])[:, 0])


def compiled():
    return torch.compile(nn.Linear(4, 1), backend="eager")


class Draws(Data):
    # Draws random numbers when it is built.
    def __init__(self, numbers: int = 0):
        super().__init__()
        torch.randn(numbers)
"""

MODEL = 'path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}'


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, LAZY)


def lazy(**args):
    values = ", ".join(f"{name} = {str(value).lower()}" for name, value in args.items())
    return MODEL, f'path = "parts.Lazy"\nargs = {{{values}}}'


def test_lazy_network_is_trained_and_tested(tiny, capsys):
    hooks = ("[dataset]", '[[hooks]]\npath = "parts.Sees"\n[dataset]')
    facts = dry_run(Experiment.load(tiny.write(lazy(), hooks)))
    assert facts["weights"] == "model 25"
    state = tiny.run(lazy(), hooks, modes=("train", "test"))
    assert state["model"]["first.weight"].shape == (3, 4)
    assert "first weight [3, 4]" in capsys.readouterr().err
    # A test alone has no training batch; the weights get their shapes from the checkpoint.
    tiny.run(lazy(), modes=("test",))


def test_initial_weights_and_running_means_do_not_depend_on_the_materialising_batch(tiny):
    trainer, _ = tiny.build(lazy())
    model = trainer.model
    assert torch.equal(model.norm.running_mean, torch.zeros(3))
    assert model.norm.num_batches_tracked == 0
    assert model.first.weight.grad is None
    drawn, _ = tiny.build(
        lazy(), ('[dataset]\npath = "parts.Data"', '[dataset]\npath = "parts.Draws"\nargs.numbers = 7')
    )
    assert torch.equal(model.first.weight, drawn.model.first.weight)


def test_resumed_lazy_training_ends_like_an_uninterrupted_one(tiny):
    longer = ["trainer.args.max_epochs=4"]
    whole = tiny.run(lazy(), name="whole", overrides=longer)
    tiny.run(lazy(), name="parts")
    resumed = tiny.run(lazy(), name="parts", overrides=longer, resume=True)
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name])
    tiny.run(lazy(), name="tuned", modes=("finetune",), ckpt_path=str(tiny.folder / "exp/whole/checkpoints/best"))


def test_lazy_loss_is_trained(tiny):
    loss = ('path = "torch.nn.MSELoss"', 'path = "parts.LazyLoss"\ntrainable = true')
    state = tiny.run(loss)
    assert state["loss_function"]["scale.weight"].shape == (1, 1)
    assert len(state["optimizer"]["state"]) == 4


@pytest.mark.parametrize("trainable", ["true", "false"])
def test_lazy_loss_that_is_frozen_is_not_trained(tiny, trainable):
    loss = ('path = "torch.nn.MSELoss"', f'path = "parts.LazyLoss"\ntrainable = {trainable}')
    trainer, loaders = tiny.build(loss)
    before = trainer.loss_function.scale.weight.detach().clone()
    trainer.train(loaders["train"][0])
    assert trainer.loss_function.scale.weight.requires_grad == (trainable == "true")
    assert torch.equal(before, trainer.loss_function.scale.weight) == (trainable == "false")


HOOK = ("[dataset]", '[[hooks]]\npath = "parts.Average"\n[dataset]')


@pytest.mark.parametrize("path", ["parts.Lazy", "parts.Norm"])
@pytest.mark.parametrize("hooks", [(), (HOOK,)], ids=["without a hook", "with an average"])
def test_separate_test_of_a_lazy_network_has_the_result_of_the_test_after_the_training(tiny, path, hooks):
    changes = (MODEL, f'path = "{path}"'), *hooks
    tiny.run(*changes, modes=("train", "test"))
    tiny.run(*changes, modes=("test",))
    lines = [json.loads(line) for line in (tiny.folder / "exp/tiny/metrics.jsonl").read_text().splitlines()]
    together, alone = [line["test/loss"] for line in lines if "test/loss" in line]
    assert together == alone


def test_registered_average_of_a_compiled_network_has_the_names_of_a_plain_one(tiny):
    compiled = tiny.run((MODEL, 'path = "parts.compiled"'), HOOK, name="compiled")
    plain = tiny.run(HOOK, name="plain")
    assert compiled["average"].keys() == plain["average"].keys() == {"n_averaged", "module.weight", "module.bias"}
    weights = str(tiny.folder / "exp/compiled/checkpoints/latest")
    tiny.run(HOOK, name="plain", modes=("test",), ckpt_path=weights)


def test_error_names_the_weights_that_no_batch_reaches(tiny):
    with pytest.raises(
        BuildError, match=r"`unused.weight` of \[model\], `unused.bias` of \[model\] still have no shape"
    ):
        tiny.build(lazy(unused=True))


@pytest.mark.parametrize("optimizer", ["Adagrad", "Muon"])
def test_optimizer_that_needs_the_shapes_is_an_error_with_the_way_out(tiny, optimizer):
    with pytest.raises(BuildError, match=r"needs the shapes of all weights, and \[model\] has lazy modules") as error:
        tiny.build(lazy(), text=TOML.replace("torch.optim.Adam", f"torch.optim.{optimizer}"))
    assert "with explicit sizes" in error.value.remedy


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_dry_run_and_lazy_modules_skip_a_batch_that_can_not_be_read_as_the_training_does(tiny, policy):
    changes = (
        lazy(),
        ('[dataset]\npath = "parts.Data"', '[dataset]\npath = "parts.FirstIsBroken"\ndataloader.shuffle = false'),
        ("max_epochs = 2", f'max_epochs = 2\non_bad_data = "{policy}"'),
    )
    if policy == "stop":
        with pytest.raises(DataError, match="broken file"):
            dry_run(Experiment.load(tiny.write(*changes)))
        return
    assert "loss" in dry_run(Experiment.load(tiny.write(*changes)))
    tiny.run(*changes)


def test_error_of_prepare_batch_names_the_method_in_a_dry_run(tiny):
    with pytest.raises(RunError, match=r"Mine\.prepare_batch failed in batch 0: KeyError: 'mask'"):
        dry_run(Experiment.load(tiny.write(("parts.Trainer", "parts.Mine"))))
