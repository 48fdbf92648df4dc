"""A step that is made again is that of the training, to the last digit, and nothing in the run changes."""

import hashlib
import json
import math
import shlex
import shutil

import pytest
import torch

from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.trial import Trial
from audiozen_core.hooks.nonfinite import NonFiniteError
from audiozen_core.replay.replay import ProgressReporter, replay
from audiozen_core.replay.target import BatchPosition, Target
from audiozen_core.trainer.step_scalars import StepScalars
from tests.core.replay.waves import TOML, WaveExperiment, digest, recorded

pytestmark = pytest.mark.usefixtures("_no_pictures")


def at(epoch: int, batch: int) -> Target:
    return Target(BatchPosition(epoch, batch))


def files(folder):
    """Returns the hash of each file in the folder of a run, without what replays have written."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "replay" not in path.relative_to(folder).parts
    }


@pytest.mark.parametrize(("epoch", "batch"), [(2, 0), (2, 2), (3, 3)])
def test_the_loss_is_the_recorded_one(tiny, run, epoch, batch, tmp_path):
    before = files(run)
    found = replay(run, at(epoch, batch), step=True, output=tmp_path / "out")
    step = 4 * (epoch - 1) + batch + 1
    record = recorded(run)[step]
    assert found.step.step == step
    assert found.step.scalars["loss"] == record["step/loss"]
    assert found.step.scalars["power"] == record["step/power"]
    assert found.recorded["loss"] == record["step/loss"]
    assert found.differing_scalars == []
    assert found.start == f"epoch_000{epoch - 1}"
    assert digest(found.batch) == tiny.kept()[epoch, batch]
    assert files(run) == before


def test_gradients_are_those_without_the_scale_of_the_loss(tmp_path):
    scaled = ('[[hooks]]\npath = "parts.Keep"', '[[hooks]]\npath = "parts.Scale"')
    norms = []
    for name, changes in (("plain", ()), ("scaled", (scaled,))):
        (tmp_path / name).mkdir()
        run = WaveExperiment(tmp_path / name).train(*changes, ("max_epochs = 3", "max_epochs = 1"))
        found = replay(run, at(1, 0), step=True)
        assert found.differing_scalars == []
        norms.append(
            [(row.output_gradient.norm, row.weight_gradient) for row in found.step.rows if row.output_gradient]
        )
    assert norms[1] == norms[0]  # 1024 is a power of two, so nothing is rounded


def test_the_losses_are_those_of_modules_that_nobody_watches(tmp_path):
    experiment = WaveExperiment(tmp_path)
    parts = experiment.folder / "parts.py"
    drawn = "self.drop(torch.relu(self.first(noisy)))"
    assert drawn in parts.read_text()
    # As a kernel that steps aside for a watched module does.
    other = "(1.25 if self.first._forward_hooks else 1.0)"
    parts.write_text(parts.read_text().replace(drawn, f"{drawn} * {other}"))
    found = replay(experiment.train(), at(2, 2), step=True)
    assert found.recorded
    assert found.differing_scalars == []
    (watched,) = (row for row in found.step.rows if row.name == "[loss_function]")
    assert watched.activation.norm != found.step.scalars["loss"]


BUFFERS = """\
        self.register_buffer("count", torch.ones(()))
        self.register_buffer("mean", torch.zeros(8), persistent=False)
"""
CHANGING = """\
        self.count += 1
        hidden = self.drop(self.first(noisy))
        self.mean = 0.5 * self.mean + hidden.detach().mean(0)
        return self.last(hidden * self.count + self.mean)
"""


def test_the_watched_pass_starts_from_the_same_state(tmp_path):
    experiment = WaveExperiment(tmp_path)
    parts = experiment.folder / "parts.py"
    text = parts.read_text()
    layers = "nn.Linear(480, 8), nn.Dropout(0.3), nn.Linear(8, 480)\n"
    forward = "        return self.last(self.drop(torch.relu(self.first(noisy))))\n"
    assert layers in text
    step = '        estimate = self.model(batch["noisy"])\n'
    assert forward in text
    assert step in text
    # A buffer that is changed, one that is replaced, and a batch that is changed: all have an effect on the output.
    text = text.replace(layers, layers + BUFFERS).replace(forward, CHANGING)
    text = text.replace(step, '        batch["noisy"] += 1\n' + step)
    parts.write_text(text)
    found = replay(experiment.train(), at(1, 1), step=True, catch_up=True)
    assert found.differing_scalars == []
    (watched,) = (row for row in found.step.rows if row.name == "[loss_function]")
    assert watched.activation.norm == found.step.scalars["loss"]


def test_mixed_precision_is_replayed(tmp_path):
    run = WaveExperiment(tmp_path).train(("seed = 3", "seed = 3\nuse_amp = true"))
    found = replay(run, at(2, 2), step=True)
    assert found.recorded["loss"] == found.step.scalars["loss"]


def test_another_recorded_loss_is_reported(run):
    copy = run.parent / "other_loss"
    shutil.copytree(run, copy, symlinks=True)
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    changed = [json.loads(line) for line in lines]
    for record in changed:
        if "step/loss" in record:
            record["step/loss"] = math.nextafter(record["step/loss"], 1)
    (copy / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in changed) + '{"step": 5')
    found = replay(copy, at(2, 0), step=True)
    assert found.differing_scalars == ["loss"]
    assert json.loads((found.folder / "replay.json").read_text())["differing"] == ["loss"]


def test_the_state_of_each_step_within_an_epoch_is_exact(tmp_path):
    experiment = WaveExperiment(tmp_path)
    accumulates = ("log_interval = 1", "log_interval = 1\ngradient_accumulation_steps = 3")
    run = experiment.train(accumulates)
    records = recorded(run)
    for step, place in ((3, BatchPosition(2, 2)), (4, BatchPosition(2, 3)), (6, BatchPosition(3, 3))):
        found = replay(run, Target(step=step), step=True, output=tmp_path / "out")
        assert found.place == place
        assert found.step.scalars["loss"] == records[step]["step/loss"]
        assert found.recorded
    # `metrics.jsonl` has the scalars of the last batch of a step only.
    found = replay(run, at(2, 1), step=True, output=tmp_path / "out")
    assert found.step.step == 3
    assert not found.recorded


def test_an_epoch_without_a_checkpoint_before_it_is_an_error(run):
    copy = run.parent / "no_checkpoint"
    shutil.copytree(run, copy, symlinks=True)
    shutil.rmtree(copy / "checkpoints" / "epoch_0002")
    with pytest.raises(
        RunError, match="epoch 3 has no checkpoint before batch 1: the nearest checkpoint, epoch_0001, is 5"
    ) as e:
        replay(copy, at(3, 1), step=True)
    assert e.value.notes == ("checkpoints: epoch_0001, epoch_0003",)
    assert "--catch-up" in e.value.remedy
    assert not (copy / "replay" / "epoch_0003_batch_0001").exists()
    done = []
    progress = ProgressReporter(lambda what, total: done.append((what, total)), done.append)
    found = replay(copy, at(3, 1), step=True, catch_up=True, progress=progress)
    assert found.step.scalars["loss"] == recorded(run)[10]["step/loss"]
    assert done == [("training from epoch_0001", 5), 1, 2, 3, 4, 5]


def test_a_damaged_checkpoint_is_reported_and_not_used(run, capsys):
    copy = run.parent / "damaged"
    shutil.copytree(run, copy, symlinks=True)
    state = copy / "checkpoints" / "epoch_0002" / "state.json"
    state.write_bytes(state.read_bytes()[:-3] + b"   ")
    found = replay(copy, at(3, 0), step=True, catch_up=True)
    assert found.start == "epoch_0001"
    assert found.step.scalars["loss"] == recorded(run)[9]["step/loss"]
    assert capsys.readouterr().err.count("a checkpoint can't be read and is ignored") == 1


def test_the_start_needs_no_checkpoint_if_the_user_says_so(run):
    copy = run.parent / "none"
    shutil.copytree(run, copy, symlinks=True)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(RunError, match="the start is 6 batches earlier") as raised:
        replay(copy, at(2, 2), step=True)
    assert raised.value.notes == ("checkpoints: none",)
    found = replay(copy, at(2, 2), step=True, catch_up=True)
    assert found.step.scalars["loss"] == recorded(run)[7]["step/loss"]
    # The first step of all follows the start.
    assert replay(copy, at(1, 0), step=True).step.scalars["loss"] == recorded(run)[1]["step/loss"]


def test_schedulers_that_follow_the_score_are_caught_up(tmp_path):
    plateau = '[lr_scheduler]\npath = "torch.optim.lr_scheduler.ReduceLROnPlateau"\n'
    plateau += 'args = {mode = "min", factor = 0.1, patience = 0}\n[dataset]\n'
    lower = ("max_epochs = 3", "max_epochs = 3\nsave_max_score = false")
    run = WaveExperiment(tmp_path).train(("[dataset]\n", plateau), lower)
    records = recorded(run)
    assert records[9]["step/lr"] < records[1]["step/lr"]  # the validations have had an effect
    shutil.rmtree(run / "checkpoints")
    found = replay(run, at(3, 1), step=True, catch_up=True)
    assert found.step.scalars["loss"] == records[10]["step/loss"]


def test_a_finetuning_does_not_start_from_other_weights(tmp_path):
    experiment = WaveExperiment(tmp_path)
    base = experiment.train(("max_epochs = 3", "max_epochs = 1"))
    run = experiment.train(name="tuned", modes=("finetune",), ckpt_path=str(base / "checkpoints" / "latest"))
    assert replay(run, at(1, 1), step=True).step.scalars["loss"] == recorded(run)[2]["step/loss"]
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match="its initial weights came from another run"):
        replay(run, at(1, 1), step=True, catch_up=True)


def test_a_resume_with_other_settings_is_reported(tmp_path, capsys):
    experiment = WaveExperiment(tmp_path)
    experiment.train(("max_epochs = 3", "max_epochs = 1"))
    run = experiment.train(("args.lr = 0.01", "args.lr = 0.5"), resume=True, allow_drift=True)
    capsys.readouterr()
    found = replay(run, at(2, 1), step=True)
    assert found.step.scalars["loss"] == recorded(run)[6]["step/loss"]
    assert "the run was resumed with changed settings" in capsys.readouterr().err


def test_several_ranks_need_a_checkpoint_right_before(run):
    copy = run.parent / "step_of_ranks"
    shutil.copytree(run, copy, symlinks=True)
    shutil.rmtree(copy / "checkpoints")
    record = next(copy.glob("config__*.toml"))
    record.write_text(record.read_text().replace("# processes: 1", "# processes: 2"))
    with pytest.raises(RunError, match="can't be replayed: the run had 2 processes"):
        replay(copy, at(1, 1), step=True, catch_up=True)
    found = replay(copy, at(1, 0), rank=1, step=True)
    assert len(found.samples) == 2
    assert not found.recorded  # the records have the means of all ranks


# ------------------------------------------------------------------------------------------- NaN


def broken(experiment: WaveExperiment, *changes, place, in_loss, name="broken"):
    """Runs a training with a NaN, and returns its error and its folder."""
    said = f"nan_in = [{place[0]}, {place[1]}]\nin_loss = {str(in_loss).lower()}\nlog_interval = 1"
    with pytest.raises(NonFiniteError) as raised:
        experiment.train(("log_interval = 1", said), *changes, name=name)
    return raised.value, experiment.folder / "exp" / name


def command_of(error: NonFiniteError) -> list[str]:
    return shlex.split(error.remedy.splitlines()[-1])


def test_the_error_of_a_nan_ends_with_the_command(tmp_path):
    experiment = WaveExperiment(tmp_path)
    error, run = broken(experiment, place=(2, 1), in_loss=True)
    expected = ["audiozen", "replay", str(run), "--epoch", "2", "--batch", "1", "--step"]
    assert command_of(error) == expected
    assert str(error).splitlines()[-1].strip() == shlex.join(expected)
    found = replay(run, at(2, 1), step=True)
    numbers = json.loads((found.folder / "replay.json").read_text())
    assert numbers["scalars"]["loss"] is None
    assert numbers["first_activation_not_finite"] is None
    assert numbers["first_gradient_not_finite"] == "[loss_function]"
    assert math.isfinite(numbers["scalars"]["power"])
    assert found.step.first_gradient.output_gradient.described()["norm"] is None


def test_a_nan_in_the_first_epoch_asks_to_catch_up(tmp_path):
    experiment = WaveExperiment(tmp_path)
    error, run = broken(experiment, place=(1, 2), in_loss=False, name="it's broken")
    assert command_of(error)[2] == str(run)  # quoted, as for a shell
    assert command_of(error)[-1] == "--catch-up"
    found = replay(run, at(1, 2), step=True, catch_up=True)
    assert math.isfinite(found.step.scalars["loss"])
    assert found.step.first_activation is None
    assert found.step.first_gradient.name == "[model] last"
    weights = {row.name: row.weight_gradient.not_finite for row in found.step.rows if row.weight_gradient}
    assert weights["[model] last"] > 0


def test_of_several_batches_the_guilty_one_is_reported(tmp_path):
    experiment = WaveExperiment(tmp_path)
    accumulates = ("max_epochs = 3", "max_epochs = 3\ngradient_accumulation_steps = 3")
    error, run = broken(experiment, accumulates, place=(2, 1), in_loss=False)
    assert error.location.batches == (0, 1, 2)
    assert command_of(error)[-3:] == ["--batch", "2", "--step"]
    assert replay(run, at(2, 2), step=True).step.earlier == (1,)
    assert replay(run, at(2, 1), step=True).step.earlier == ()
    # A loss names its own batch.
    error, _ = broken(experiment, accumulates, place=(2, 1), in_loss=True, name="loss")
    assert command_of(error)[-3:] == ["--batch", "1", "--step"]


def test_a_loss_that_is_read_late_names_its_own_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(StepScalars, "lag", property(lambda self: 2))  # as on a GPU
    error, _ = broken(WaveExperiment(tmp_path), place=(2, 1), in_loss=True)
    assert command_of(error)[-5:] == ["--epoch", "2", "--batch", "1", "--step"]


def test_a_trial_in_a_folder_that_is_deleted_has_no_replay(tmp_path):
    experiment = WaveExperiment(tmp_path)
    path = experiment.write(("log_interval = 1", "nan_in = [1, 0]\nin_loss = true"), text=TOML, name="waves")
    with pytest.raises(NonFiniteError) as raised:
        Experiment.load(path, trial=Trial(1, tmp_path / "gone" / "waves")).run()
    assert "audiozen replay" not in raised.value.remedy


def test_batches_of_an_overfit_are_those_of_the_overfit(tmp_path):
    experiment = WaveExperiment(tmp_path)
    Experiment.load(experiment.write(text=TOML, name="waves"), trial=Trial(2)).run()
    run = tmp_path / "exp" / "waves_overfit"
    assert len(experiment.kept()) == 6
    for (epoch, batch), expected in experiment.kept().items():
        assert digest(replay(run, at(epoch, batch), output=tmp_path / "out").batch) == expected
    assert replay(run, at(3, 1), step=True).step.scalars["loss"] == recorded(run)[6]["step/loss"]
    with pytest.raises(RunError, match="no batch 2"):
        replay(run, at(1, 2))


def test_a_rollback_is_repeated(tmp_path):
    experiment = WaveExperiment(tmp_path)
    said = 'log_interval = 1\nnan_in = [2, 1]\nin_loss = true\non_nonfinite = "rollback"'
    run = experiment.train(("log_interval = 1", said))
    step = recorded(run)[8]
    found = replay(run, at(2, 3), step=True)
    assert found.step.scalars["loss"] == step["step/loss"]
    assert not math.isfinite(replay(run, at(2, 1), step=True).step.scalars["loss"])


def test_broken_weights_are_reported(tmp_path):
    experiment = WaveExperiment(tmp_path)
    parts = experiment.folder / "parts.py"
    layers = "nn.Dropout(0.3), nn.Linear(8, 480)\n"
    assert layers in parts.read_text()
    spoiled = f"{layers}        self.last.bias.data[3] = float('inf')\n"
    parts.write_text(parts.read_text().replace(layers, spoiled))
    _, run = broken(experiment, place=(9, 9), in_loss=True)
    found = replay(run, at(1, 0), step=True, catch_up=True)
    assert found.step.weights == ("`last.bias` of [model]",)
    assert found.step.first_activation.name == "[model] last"
    assert found.step.first_activation.activation.not_finite == 2
    assert torch.isfinite(found.batch["noisy"]).all()
