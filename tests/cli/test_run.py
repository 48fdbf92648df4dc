import json
import subprocess
from importlib import metadata

import pytest
import torch
from safetensors.torch import load_file


def weights(folder, which="latest"):
    return load_file(folder / "exp" / "tiny" / "checkpoints" / which / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_run_writes_all_its_files_to_its_folder(audiozen, project):
    outcome = audiozen("run", "tiny.toml", "-M", "train", "test")
    assert outcome.code == 0, outcome.err
    folder = project / "exp" / "tiny"
    assert {path.name.split("__")[0] for path in folder.iterdir()} == {
        "tiny.log", "run.lock", "metrics.jsonl", "config", "session", "checkpoints", "samples", "tb_log", "test"
    }  # fmt: skip
    assert "noisy and enhanced" in outcome.out
    (results,) = (folder / "test").iterdir()
    assert results.name.startswith("best_epoch_000")
    assert {path.name for path in (results / "0").iterdir()} == {
        "scores.csv",
        "scores.metrics.json",
        "scores.json",
        "audio",
    }
    assert len(list((results / "0/audio").iterdir())) == 12
    events = [json.loads(line)["event"] for line in (folder / "tiny.log").read_text().splitlines()]
    assert events[0] == "experiment tiny"
    assert "epoch 2/2" in events


def test_running_the_saved_config_gives_identical_weights(audiozen, project):
    audiozen("run", "tiny.toml", "--set", "optimizer.args.lr=0.01")
    first = weights(project)
    (saved,) = (project / "exp" / "tiny").glob("config__*.toml")
    outcome = audiozen("run", str(saved), "--set", "meta.save_dir=again")
    assert outcome.code == 0, outcome.err
    assert same(first, load_file(project / "again/tiny/checkpoints/latest/model.safetensors"))


def test_saved_config_finds_modules_beside_the_original_file(audiozen, project):
    (project / "model.py").write_text("from audiozen_plugins.model.sdnn import SDNN\nclass Model(SDNN): pass\n")
    text = (project / "tiny.toml").read_text()
    (project / "tiny.toml").write_text(text.replace('path = "sdnn"', 'path = "model.Model"'))
    assert audiozen("run", "tiny.toml").code == 0
    (saved,) = (project / "exp" / "tiny").glob("config__*.toml")
    outcome = audiozen("run", str(saved), "--set", "meta.save_dir=again")
    assert outcome.code == 0, outcome.err
    assert (project / "again/tiny/checkpoints/latest").exists()


def test_saved_config_records_versions_commit_and_command(audiozen, project):
    for command in (["init", "-q"], ["add", "tiny.toml"], ["commit", "-qm", "experiment"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    audiozen("run", "tiny.toml")
    (saved,) = (project / "exp" / "tiny").glob("config__*.toml")
    head = saved.read_text().partition("[meta]")[0]
    assert f"# commit: {commit}\n" in head
    assert "# command: audiozen run tiny.toml\n" in head
    assert f"torch {metadata.version('torch')}" in head
    assert "audiozen " in head
    with (project / "tiny.toml").open("a") as file:
        file.write("# changed\n")
    audiozen("run", "tiny.toml", "--set", "meta.id=other")
    (saved,) = (project / "exp" / "other").glob("config__*.toml")
    assert f"# commit: {commit}, with uncommitted changes in 1 files\n" in saved.read_text()


def test_weights_are_identical_only_with_the_same_seed(audiozen, project):
    for name in ("a", "b"):
        assert audiozen("run", "tiny.toml", "--set", f"meta.save_dir={name}").code == 0
    audiozen("run", "tiny.toml", "--set", "meta.save_dir=c", "--set", "meta.seed=2")
    a, b, c = (load_file(project / name / "tiny/checkpoints/latest/model.safetensors") for name in "abc")
    assert same(a, b)
    assert not same(a, c)


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_run(audiozen, project):
    whole = audiozen("run", "tiny.toml", "--set", "meta.save_dir=whole", "--set", "trainer.args.max_epochs=4")
    assert whole.code == 0
    assert audiozen("run", "tiny.toml").code == 0
    before = weights(project)
    outcome = audiozen("run", "tiny.toml", "--resume", "--set", "trainer.args.max_epochs=4")
    assert outcome.code == 0, outcome.err
    uninterrupted = load_file(project / "whole/tiny/checkpoints/latest/model.safetensors")
    assert same(uninterrupted, weights(project))
    assert not same(before, weights(project))
    epochs = [json.loads(line)["epoch"] for line in (project / "exp/tiny/metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]


def test_resuming_a_finished_run_goes_straight_to_the_test(audiozen, project):
    audiozen("run", "tiny.toml")
    before = weights(project)
    outcome = audiozen("run", "tiny.toml", "-R", "-M", "train", "test")
    assert outcome.code == 0
    assert "max_epochs = 2 is reached" in outcome.err
    assert "SI-SDR" in outcome.out
    assert same(before, weights(project))


def test_validate_test_and_predict_load_a_checkpoint(audiozen, project):
    audiozen("run", "tiny.toml")
    assert "epoch_000" in audiozen("run", "tiny.toml", "-M", "validate").err
    latest = audiozen("run", "tiny.toml", "--mode", "test", "--ckpt-path", "latest")
    assert "epoch_0002" in latest.err
    for path in ("exp/tiny/checkpoints/epoch_0001", "epoch_0001"):
        named = audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", path)
        assert named.code == 0, named.err
        assert "checkpoint=" in named.err
        assert "checkpoints/epoch_0001" in named.err
    missing = audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", "epoch_0009")
    assert missing.code == 2
    assert "exp/tiny/checkpoints contains: epoch_000" in missing.err
    weights_alone = project / "exp/tiny/checkpoints/latest/model.safetensors"
    assert audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", str(weights_alone)).code == 0
    assert audiozen("run", "tiny.toml", "-M", "predict").code == 0
    tests = sorted(path.name for path in (project / "exp/tiny/test").iterdir())
    assert tests == ["epoch_0001", "epoch_0001_2", "epoch_0002_model", "latest_epoch_0002"]
    assert list((project / "exp/tiny/predict").glob("best_epoch_000?/0/clip_0.wav"))


def test_finetuning_starts_from_the_weights_of_another_run(audiozen, project):
    audiozen("run", "tiny.toml")
    (project / "next.toml").write_text('extends = "tiny.toml"\n[optimizer.args]\nlr = 0.0\n')
    outcome = audiozen("run", "next.toml", "-M", "finetune", "--ckpt-path", "exp/tiny/checkpoints/latest")
    assert outcome.code == 0, outcome.err
    assert same(weights(project), load_file(project / "exp/next/checkpoints/latest/model.safetensors"))
    assert audiozen("run", "tiny.toml", "-M", "finetune", "-R").code == 0


def test_deterministic_algorithms_are_enabled_only_if_the_config_says_so(audiozen, project):
    outcome = audiozen(
        "run", "tiny.toml", "--set", "meta.use_amp=true", "--set", "meta.use_deterministic_algorithms=true"
    )
    assert outcome.code == 0, outcome.err
    assert torch.are_deterministic_algorithms_enabled()
    audiozen("run", "tiny.toml", "-M", "validate")
    assert not torch.are_deterministic_algorithms_enabled()


def test_conv_tasnet_from_torchaudio_trains(audiozen, project):
    text = (project / "tiny.toml").read_text()
    start, end = text.index("[model]"), text.index("[loss_function]")
    model = """[model]
path = "torchaudio.models.ConvTasNet"
[model.args]
num_sources = 1
enc_num_feats = 16
msk_num_feats = 8
msk_num_hidden_feats = 8
msk_num_layers = 2
msk_num_stacks = 1

"""
    (project / "tasnet.toml").write_text(text[:start] + model + text[end:])
    arguments = ["--set", "+trainer.args.domain=waveform", "--set", "+trainer.args.add_channel=true"]
    outcome = audiozen("run", "tasnet.toml", *arguments)
    assert outcome.code == 0, outcome.err


def test_config_adds_hooks_and_switches_off_default_hooks(audiozen, project):
    (project / "hooks.py").write_text(
        "from audiozen_core.hooks.marker import hookimpl\n"
        "class StopAt:\n"
        "    def __init__(self, epoch: int): self.epoch = epoch\n"
        "    @hookimpl\n"
        "    def stop_reason(self, trainer):\n"
        "        return 'far enough' if trainer.progress.epoch >= self.epoch else None\n"
    )
    with (project / "tiny.toml").open("a") as file:
        file.write('[[hooks]]\npath = "hooks.StopAt"\nargs = {epoch = 1}\n')
        file.write('[[hooks]]\npath = "tensorboard"\nenabled = false\n')
    outcome = audiozen("run", "tiny.toml")
    assert outcome.code == 0, outcome.err
    assert "far enough" in outcome.err
    assert not (project / "exp/tiny/tb_log").exists()


@pytest.mark.parametrize("order", [["-M", "train", "test"], ["-M", "train", "-M", "test"], ["--mode", "train", "test"]])
def test_mode_option_accepts_a_list_and_can_be_repeated(order):
    from audiozen_core.cli.run import command

    for arguments in ([*order, "x.toml"], ["x.toml", *order]):
        context = command.make_context("run", list(arguments))
        assert context.params["modes"] == ("train", "test")
        assert [file.name for file in context.params["files"]] == ["x.toml"]


def test_run_joins_several_training_sets(audiozen, project):
    text = (project / "tiny.toml").read_text()
    start, end = text.index("[dataset]"), text.index("[test_dataset]")
    folders = 'args = {noisy_dir = "data/noisy", clean_dir = "data/clean", clip_seconds = 0.25}\n'
    sets = [f'[[{name}]]\npath = "noisy_clean_folders"\n{folders}' for name in ("dataset", "validate_dataset") * 2]
    (project / "tiny.toml").write_text(text[:start] + "".join(sorted(sets)) + text[end:])
    outcome = audiozen("run", "tiny.toml")
    assert outcome.code == 0, outcome.err
    # Two training sets of four files, one file per batch, two epochs.
    assert "steps=16" in outcome.err


GAN = """\
[meta]
save_dir = "exp"

[trainer]
path = "trainer.Trainer"
[trainer.args]
max_epochs = 2

[model_g]
path = "model.Net"
[model_d]
path = "model.Net"

[optimizer_g]
path = "torch.optim.Adam"
[optimizer_d]
path = "torch.optim.SGD"
[optimizer_d.args]
lr = 0.0

[lr_scheduler_g]
path = "torch.optim.lr_scheduler.StepLR"
[lr_scheduler_g.args]
step_size = 1

[loss_function]
path = "torch.nn.L1Loss"

[dataset]
path = "noisy_clean_folders"
[dataset.args]
noisy_dir = "data/noisy"
clean_dir = "data/clean"
"""


def test_two_networks_with_separate_optimizers_train_and_resume(audiozen, project):
    (project / "gan.toml").write_text(GAN)
    (project / "model.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.filter = nn.Conv1d(1, 1, 9, padding='same')\n"
        "    def forward(self, wave):\n"
        "        return self.filter(wave.unsqueeze(1)).squeeze(1)\n"
    )
    (project / "trainer.py").write_text(
        "from audiozen_core.trainer.base_trainer import BaseTrainer\n"
        "class Trainer(BaseTrainer):\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        fake = self.models['g'](batch['noisy'])\n"
        "        judged = self.models['d'](fake)\n"
        "        return {'loss_g': self.loss_function(fake, batch['clean']), 'loss_d': judged.square().mean()}\n"
    )
    outcome = audiozen("run", "gan.toml")
    assert outcome.code == 0, outcome.err
    checkpoints = project / "exp/gan/checkpoints"
    first, last = (load_file(checkpoints / f"epoch_000{epoch}" / "model_g.safetensors") for epoch in (1, 2))
    assert not same(first, last)
    # The optimizer of the discriminator has a learning rate of 0.
    first, last = (load_file(checkpoints / f"epoch_000{epoch}" / "model_d.safetensors") for epoch in (1, 2))
    assert same(first, last)
    assert audiozen("run", "gan.toml", "-R", "--set", "trainer.args.max_epochs=3").code == 0


def test_optimizer_without_a_matching_model_is_an_error(audiozen, project):
    (project / "gan.toml").write_text(GAN.replace("[model_g]", "[model_h]"))
    outcome = audiozen("check", "gan.toml")
    assert outcome.code == 2
    assert "`[optimizer_g]` has no `[model_g]` to work on" in outcome.err


def test_log_names_the_loaded_checkpoint(audiozen, project):
    audiozen("run", "tiny.toml")
    audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", "exp/tiny/checkpoints/epoch_0002")
    audiozen("run", "tiny.toml", "-R", "--set", "trainer.args.max_epochs=3", "--set", "+trainer.args.max_steps=5")
    (project / "data/noisy/clip_1.wav").write_bytes(b"")
    events = [json.loads(line) for line in (project / "exp/tiny/tiny.log").read_text().splitlines()]
    named = {event["event"]: event.get("checkpoint", "") for event in events}
    assert named["weights are loaded"].endswith("epoch_0002")
    assert named["resumed"].endswith("epoch_0002")
    records = [json.loads(line) for line in (project / "exp/tiny/metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records if "test/si_sdr" in record] == [2]


def test_log_ends_with_the_error_that_stopped_the_run(audiozen, project):
    (project / "model.py").write_text(
        "from audiozen_plugins.model.sdnn import SDNN\n"
        "class Model(SDNN):\n"
        "    def forward(self, noisy):\n"
        "        return super().forward(noisy)[:, :-1]\n"
    )
    text = (project / "tiny.toml").read_text()
    (project / "tiny.toml").write_text(text.replace('path = "sdnn"', 'path = "model.Model"'))
    outcome = audiozen("run", "tiny.toml")
    assert outcome.code == 2
    assert "the model returns [2, 64, 32] for an input of shape [2, 65, 32]" in outcome.err
    last = json.loads((project / "exp/tiny/tiny.log").read_text().splitlines()[-1])
    assert last["event"] == "ended with an error"
    assert "the model returns" in last["error"]
