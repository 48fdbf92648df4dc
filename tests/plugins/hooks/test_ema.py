"""Small experiments run with the average, and are compared with averages that are computed by hand."""

import json
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import AudioZenError, Interrupted, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.testing.recorder import HookRecorder
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_plugins.hooks.ema import Ema

STEPS = 6  # two batches in each of three epochs


class Watch(HookRecorder):
    """Records the weights that the networks hold at the start, after each step, and in each evaluation.

    Args:
        stop_at: the optimiser step after which the training stops.
        in_validation: called in the validation of the second epoch.
    """

    def __init__(self, stop_at=None, in_validation=None):
        super().__init__()
        self.stop_at, self.in_validation = stop_at, in_validation
        self.trained = []
        self.evaluated = []

    @hookimpl
    def on_run_start(self, trainer, mode):
        self.trainer = trainer
        if mode == "train":
            self.trained.append(weights_of(trainer))

    @hookimpl
    def on_optimizer_step_end(self, trainer):
        self.trained.append(weights_of(trainer))

    @hookimpl
    def on_evaluation_step_end(self, trainer, mode, batch_idx):
        if batch_idx == 0:
            self.evaluated.append(weights_of(trainer))
        if mode == "validate" and trainer.progress.epoch == 2 and self.in_validation:
            self.in_validation()

    @hookimpl
    def on_checkpoint_request(self, trainer):
        self.requested = weights_of(trainer)

    @hookimpl
    def stop_within_epoch_reason(self, trainer):
        return "enough" if trainer.progress.step == self.stop_at else None


def weights_of(trainer):
    """Returns the weights that the networks hold, by section and name."""
    sections = {f"model_{suffix}" if suffix else "model": model for suffix, model in trainer.models.items()}
    return {
        f"{section}.{name}": weight.detach().clone()
        for section, model in sections.items()
        for name, weight in model.named_parameters()
    }


def averages(trained, decay_of):
    """Averages recorded weights in double precision. `decay_of` returns the decay of a step, which counts from 1."""
    average = {name: weight.double() for name, weight in trained[0].items()}
    found = [average]
    for step, weights in enumerate(trained[1:], start=1):
        decay = decay_of(step)
        average = {name: decay * mean + (1 - decay) * weights[name].double() for name, mean in average.items()}
        found.append(average)
    return found


def distance(left, right):
    """Returns the largest difference between two sets of weights. They have the same names."""
    assert left.keys() == right.keys()
    return max(float((left[name].double() - right[name].double()).abs().max()) for name in left)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def experiment_in(folder, **args):
    """Returns an experiment with the hook. Its learning rate is high, so that weights and average differ."""
    folder.mkdir(exist_ok=True)
    experiment = TinyExperiment(folder).set("trainer", max_epochs=3).set("optimizer", lr=0.01)
    experiment.set("model", "torch.nn.Conv1d", in_channels=65, out_channels=65, kernel_size=3, padding=1)
    return experiment.add_hook("ema", **args) if args else experiment


def checkpoint(outcome, name="latest"):
    """Returns the weights in `model.safetensors`, the average and the raw weights of a checkpoint."""
    state = CheckpointStore(outcome.folder / "checkpoints").load(name).state
    average, raw = state["hook_ema"].values()
    return {name: state["model"][name.removeprefix("model.")] for name in average}, average, raw


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that has ended. Returns its experiment, its outcome and its record."""
    watch = Watch()
    experiment = experiment_in(tmp_path_factory.mktemp("ema") / "finished", decay=0.8, warmup=False)
    return experiment, experiment.run("train", hooks=watch), watch


@pytest.fixture
def copied(finished, tmp_path):
    """The finished run in a folder of its own."""
    experiment = finished[0]
    shutil.copytree(experiment.folder, tmp_path / "copied", symlinks=True)
    values = {**experiment.values, "meta": {**experiment.values["meta"], "save_dir": str(tmp_path / "copied" / "exp")}}
    return TinyExperiment(tmp_path / "copied", {**values, "hooks": list(values["hooks"])})


# ------------------------------------------------------------------------------- the average


@pytest.mark.parametrize(
    ("args", "decay_of"),
    [
        ({"decay": 0.8, "warmup": False}, lambda step: 0.8),
        ({"decay": 0.3}, lambda step: [0.1, 2 / 11, 3 / 12, 0.3, 0.3, 0.3][step - 1]),
        ({"decay": 0.8, "warmup": False, "start": 3}, lambda step: 0 if step <= 3 else 0.8),
    ],
)
def test_average_is_that_of_the_weights_after_each_step(tmp_path, args, decay_of):
    watch = Watch()
    outcome = experiment_in(tmp_path / "run", **args).run("train", hooks=watch)
    assert len(watch.trained) == 1 + STEPS
    expected = averages(watch.trained, decay_of)
    assert [distance(*pair) for pair in zip(watch.evaluated, expected[2::2], strict=True)] == pytest.approx(
        [0, 0, 0], abs=1e-6
    )
    saved, average, raw = checkpoint(outcome)
    assert same(saved, watch.trained[-1])
    assert same(average, watch.evaluated[-1])
    assert raw == {}
    assert distance(average, saved) > 1e-3


def test_training_is_the_same_with_and_without_an_average(finished, tmp_path):
    watch = Watch()
    plain = experiment_in(tmp_path / "plain").run("train", hooks=watch)
    assert all(same(*pair) for pair in zip(watch.trained, finished[2].trained, strict=True))
    assert plain.metrics("train/loss") == finished[1].metrics("train/loss")
    assert plain.metrics("validate/score") != finished[1].metrics("validate/score")


def test_average_is_not_evaluated_if_it_is_not_wanted(tmp_path):
    watch = Watch()
    experiment_in(tmp_path / "run", decay=0.8, evaluate=False).run("train", hooks=watch)
    assert all(same(*pair) for pair in zip(watch.evaluated, watch.trained[2::2], strict=True))


NETWORKS = """
from audiozen.trainer.base_trainer import BaseTrainer
from torch import nn

shared = nn.Linear(1, 1)

class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain, self.norm = shared, nn.BatchNorm1d(1)

    def forward(self, wave):
        return self.gain(self.norm(wave.reshape(-1, 1))).reshape(wave.shape)

class Trainer(BaseTrainer):
    def training_step(self, batch, batch_idx):
        return {f"loss_{name}": self.loss_functions[name](model(batch["noisy"]), batch["clean"])
                for name, model in self.models.items()}

    def validation_step(self, batch, batch_idx, dataloader_idx):
        return sum(self.training_step(batch, batch_idx).values())

    def validation_epoch_end(self, outputs):
        return -float(sum(outputs[0]))
"""


def test_several_networks_are_averaged_even_if_they_share_a_layer(tmp_path):
    experiment = experiment_in(tmp_path / "run", decay=0.8, warmup=False)
    (experiment.folder / "nets.py").write_text(NETWORKS)
    del experiment.values["model"], experiment.values["optimizer"], experiment.values["loss_function"]
    experiment.set("trainer", "nets.Trainer", max_epochs=3)
    for suffix in "ab":
        experiment.set(f"model_{suffix}", "nets.Gain").set(f"optimizer_{suffix}", "torch.optim.SGD", lr=0.1)
        experiment.set(f"loss_function_{suffix}", "torch.nn.MSELoss")
    watch = Watch()
    outcome = experiment.run("train", hooks=watch)
    expected = averages(watch.trained, lambda step: 0.8)
    for weights, average in zip(watch.evaluated, expected[2::2], strict=True):
        assert distance(weights, average) < 1e-6
    assert distance(expected[-1], watch.trained[-1]) > 1e-4
    state = CheckpointStore(outcome.folder / "checkpoints").load("latest").state
    assert sorted(state["hook_ema"]["average"]) == [
        "model_a.gain.bias", "model_a.gain.weight", "model_a.norm.bias", "model_a.norm.weight",
        "model_b.norm.bias", "model_b.norm.weight",
    ]  # fmt: skip
    for suffix in "ab":
        assert torch.equal(state[f"model_{suffix}"]["gain.weight"], watch.trained[-1]["model_a.gain.weight"])


@pytest.mark.parametrize("args", [{"decay": 1.0}, {"decay": -0.1}, {"start": -1}])
def test_arguments_that_are_out_of_range_are_an_error(tmp_path, args):
    with pytest.raises(AudioZenError, match=next(iter(args))):
        experiment_in(tmp_path / "run", **args).run("train")


# ------------------------------------------------------------------------------- evaluations


def write_weights(path, outcome, weights):
    """Writes a file like `model.safetensors` of the latest checkpoint, but with these weights. Returns its name."""
    state = load_file(outcome.folder / "checkpoints" / "latest" / "model.safetensors")
    save_file({**state, **{name.removeprefix("model."): weight for name, weight in weights.items()}}, path)
    return str(path)


def test_a_new_test_or_prediction_uses_the_average_of_the_checkpoint(finished, copied, tmp_path):
    """The score is also compared with that of a file that holds the average, without the hook."""
    saved, average, _ = checkpoint(finished[1], "best")
    watch = Watch()
    copied.run("test", "predict", hooks=watch)
    assert [same(weights, average) for weights in watch.evaluated] == [True, True]
    copied.values["hooks"] = []
    for weights in (average, saved):
        file = write_weights(tmp_path / "weights.safetensors", finished[1], weights)
        outcome = copied.run("test", ckpt_path=file)
    score, of_average, of_saved = outcome.metrics("test/si_sdr")
    assert score == of_average != of_saved


def test_the_user_chooses_the_weights_of_an_evaluation(finished, copied):
    saved, average, _ = checkpoint(finished[1], "best")
    watch = Watch()
    for weights in ("raw", "ema", None):
        folder = copied.run("test", hooks=watch, weights=weights).folder
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    names = [record["checkpoint"] for record in records if "checkpoint" in record][-3:]
    assert names == [f"{names[2]}_raw", f"{names[2]}_ema", names[2]]
    assert all((folder / "test" / name).is_dir() for name in names)
    assert [same(weights, average) for weights in watch.evaluated] == [False, True, True]
    assert same(watch.evaluated[0], saved)
    with pytest.raises(RunError, match="no hook offers weights named `swa`") as caught:
        copied.run("test", weights="swa")
    assert "`raw`, `ema`" in str(caught.value.remedy)
    with pytest.raises(RunError, match="the modes include training"):
        copied.run("train", "test", resume=True, weights="raw")


def test_a_file_of_weights_is_evaluated_as_it_is(finished, copied, tmp_path):
    """It has no average. The average that a new hook starts with must not take the place of its weights."""
    watch = Watch()
    copied.run(
        "test",
        ckpt_path=write_weights(tmp_path / "weights.safetensors", finished[1], finished[2].trained[3]),
        hooks=watch,
    )
    assert same(watch.evaluated[0], finished[2].trained[3])


def test_a_test_after_the_training_uses_the_average_of_the_best_epoch(tmp_path):
    watch = Watch()
    experiment = experiment_in(tmp_path / "run", decay=0.8).set("optimizer", lr=1.0)
    outcome = experiment.run("train", "test", hooks=watch)
    best = CheckpointStore(outcome.folder / "checkpoints").load("best").epoch
    assert best == 1  # with this learning rate, later epochs are worse
    assert same(watch.evaluated[3], watch.evaluated[best - 1])
    assert not same(watch.evaluated[3], watch.evaluated[2])


def test_networks_hold_the_trained_weights_again_after_a_validation_that_fails(tmp_path):
    def fail():
        raise ValueError("no")

    watch = Watch(in_validation=fail)
    with pytest.raises(AudioZenError, match="no"):
        experiment_in(tmp_path / "run", decay=0.8).run("train", hooks=watch)
    assert same(weights_of(watch.trainer), watch.trained[4])
    assert not same(watch.evaluated[1], watch.trained[4])


# ------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(("stop", "save_average"), [("step", False), ("validation", True)])
def test_a_resumed_run_continues_to_the_last_bit(finished, tmp_path, stop, save_average):
    """Also if it was stopped within an epoch, or by a signal while the networks held the average."""
    args = {"decay": 0.8, "warmup": False, "save_average": save_average}
    if stop == "step":
        experiment_in(tmp_path / "run", **args).run("train", hooks=Watch(stop_at=3))
    else:
        watch = Watch(in_validation=lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            experiment_in(tmp_path / "run", **args).run("train", hooks=watch)
        assert same(watch.requested, watch.trained[-1])
    watch = Watch()
    outcome = experiment_in(tmp_path / "run", **args).run("train", resume=True, hooks=watch)
    _, whole, trained = finished
    first = 3 if stop == "step" else 4
    assert all(same(*pair) for pair in zip(watch.trained, trained.trained[first:], strict=True))
    assert outcome.metrics("validate/score") == whole.metrics("validate/score")
    assert same(checkpoint(outcome)[1], checkpoint(whole)[1])


def test_weights_of_a_checkpoint_are_the_average_if_that_is_wanted(finished, tmp_path):
    experiment = experiment_in(tmp_path / "run", decay=0.8, warmup=False, save_average=True)
    outcome = experiment.run("train")
    saved, average, raw = checkpoint(outcome)
    assert same(saved, average)
    assert same(saved, checkpoint(finished[1])[1])
    assert same(raw, checkpoint(finished[1])[0])
    file = load_file(outcome.folder / "checkpoints" / "latest" / "model.safetensors")
    assert all(torch.equal(file[name.removeprefix("model.")], weight) for name, weight in average.items())
    # The hook finds the average in the checkpoint, and without the hook the same weights are evaluated.
    experiment.run("test")
    experiment.values["hooks"] = []
    scores = experiment.run("test").metrics("test/si_sdr")
    assert scores[0] == scores[1]


def test_the_weights_in_the_checkpoints_may_change_on_resume(finished, copied):
    copied.values["hooks"][-1]["args"]["save_average"] = True
    watch = Watch()
    outcome = copied.set("trainer", max_epochs=4).run("train", resume=True, hooks=watch)
    saved, average, raw = checkpoint(outcome)
    assert same(saved, average)
    assert same(raw, watch.trained[-1])
    assert same(watch.trained[0], finished[2].trained[-1])


def test_finetuning_starts_a_new_average_from_the_weights_that_it_loads(finished, copied):
    watch = Watch()
    copied.values["meta"]["id"] = "finetuned"
    start = str(finished[1].folder / "checkpoints" / "latest")
    copied.run("finetune", ckpt_path=start, hooks=watch)
    assert same(watch.trained[0], checkpoint(finished[1])[0])
    assert distance(watch.evaluated[0], averages(watch.trained, lambda step: 0.8)[2]) < 1e-6


def test_a_rollback_restores_the_average(tmp_path):
    """The loss of one batch is NaN. The run returns to the checkpoint before it, and leaves the batch out."""
    experiment = experiment_in(tmp_path / "run", decay=0.8, warmup=False, save_average=True)
    experiment.folder.joinpath("broken.py").write_text(
        "from audiozen.trainer import EnhancementTrainer\n"
        "class Trainer(EnhancementTrainer):\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        loss = super().training_step(batch, batch_idx)\n"
        "        bad = self.progress.step == 4\n"
        "        return {**loss, 'loss': loss['loss'] * float('nan')} if bad else loss\n"
    )
    experiment.values["trainer"]["path"] = "broken.Trainer"
    watch = Watch()
    outcome = experiment.set("trainer", on_nonfinite="rollback").run("train", hooks=watch)
    assert outcome.hooks.names.count("on_rollback") == 1
    expected = averages(watch.trained, lambda step: 0.8)[-1]
    _, average, raw = checkpoint(outcome)
    assert distance(average, expected) < 1e-6
    assert same(raw, watch.trained[-1])
    assert len(watch.trained) == 1 + STEPS


def test_names_are_those_without_a_wrapper():
    network = torch.nn.Linear(2, 1)
    wrapped = torch.nn.Module()
    wrapped.add_module("_orig_mod", network)  # as torch.compile does
    names = []
    for model in (network, wrapped):
        hook = Ema()
        hook.on_run_start(SimpleNamespace(models={"": model}))
        names.append(list(hook.state_dict()["average"]))
    assert names[0] == names[1] == ["model.weight", "model.bias"]
