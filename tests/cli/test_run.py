import json

import pytest
import torch
from safetensors.torch import load_file


def weights(folder, which="latest"):
    return load_file(folder / "exp" / "tiny" / "checkpoints" / which / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_trains_tests_and_leaves_everything_in_its_folder(audiozen, project):
    outcome = audiozen("run", "tiny.toml", "-M", "train", "test")
    assert outcome.code == 0, outcome.err
    folder = project / "exp" / "tiny"
    assert {path.name.split("__")[0] for path in folder.iterdir()} == {
        "tiny.log", "metrics.jsonl", "config", "checkpoints", "tb_log", "metrics", "enhanced"
    }  # fmt: skip
    assert "noisy and enhanced" in outcome.out
    assert len(list((folder / "enhanced").iterdir())) == 12
    events = [json.loads(line)["event"] for line in (folder / "tiny.log").read_text().splitlines()]
    assert events[0] == "experiment tiny"
    assert "epoch 2/2" in events


def test_the_saved_config_repeats_the_run(audiozen, project):
    audiozen("run", "tiny.toml", "--set", "optimizer.args.lr=0.01")
    first = weights(project)
    (saved,) = (project / "exp" / "tiny").glob("config__*.toml")
    again = project / "again"
    again.mkdir()
    saved.rename(again / "tiny.toml")
    assert audiozen("run", str(again / "tiny.toml"), "--set", f"meta.save_dir={again}/exp").code == 0
    assert same(first, weights(again))


def test_one_seed_gives_identical_weights_and_another_does_not(audiozen, project):
    for name in ("a", "b"):
        assert audiozen("run", "tiny.toml", "--set", f"meta.save_dir={name}").code == 0
    audiozen("run", "tiny.toml", "--set", "meta.save_dir=c", "--set", "meta.seed=2")
    a, b, c = (load_file(project / name / "tiny/checkpoints/latest/model.safetensors") for name in "abc")
    assert same(a, b)
    assert not same(a, c)


def test_a_resumed_run_ends_with_the_weights_of_one_that_never_stopped(audiozen, project):
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


def test_a_finished_run_resumes_to_its_end_and_goes_on_to_the_test(audiozen, project):
    audiozen("run", "tiny.toml")
    before = weights(project)
    outcome = audiozen("run", "tiny.toml", "-R", "-M", "train", "test")
    assert outcome.code == 0
    assert "max_epochs = 2 is reached" in outcome.err
    assert "SI-SDR" in outcome.out
    assert same(before, weights(project))


def test_the_modes_that_use_a_checkpoint(audiozen, project):
    audiozen("run", "tiny.toml")
    assert "epoch_000" in audiozen("run", "tiny.toml", "-M", "validate").err
    latest = audiozen("run", "tiny.toml", "--mode", "test", "--ckpt-path", "latest")
    assert "epoch_0002" in latest.err
    named = audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", "exp/tiny/checkpoints/epoch_0001")
    assert "epoch_0001" in named.err
    weights_alone = project / "exp/tiny/checkpoints/latest/model.safetensors"
    assert audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", str(weights_alone)).code == 0
    assert audiozen("run", "tiny.toml", "-M", "predict").code == 0
    assert (project / "exp/tiny/enhanced/clip_0.wav").exists()


def test_finetuning_starts_from_the_weights_of_another_run(audiozen, project):
    audiozen("run", "tiny.toml")
    (project / "next.toml").write_text('extends = "tiny.toml"\n[optimizer.args]\nlr = 0.0\n')
    outcome = audiozen("run", "next.toml", "-M", "finetune", "--ckpt-path", "exp/tiny/checkpoints/latest")
    assert outcome.code == 0, outcome.err
    assert same(weights(project), load_file(project / "exp/next/checkpoints/latest/model.safetensors"))
    assert audiozen("run", "tiny.toml", "-M", "finetune", "-R").code == 0


def test_mixed_precision_and_deterministic_algorithms_are_honoured(audiozen, project):
    outcome = audiozen(
        "run", "tiny.toml", "--set", "meta.use_amp=true", "--set", "meta.use_deterministic_algorithms=true"
    )
    assert outcome.code == 0, outcome.err
    assert torch.are_deterministic_algorithms_enabled()
    audiozen("run", "tiny.toml", "-M", "validate")
    assert not torch.are_deterministic_algorithms_enabled()


def test_convtasnet_of_torchaudio_trains(audiozen, project):
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


def test_hooks_of_the_toml_take_part_and_default_ones_can_be_switched_off(audiozen, project):
    (project / "hooks.py").write_text(
        "from audiozen_core.hookspecs import hookimpl\n"
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
def test_several_modes_can_be_given_in_either_form(order):
    from audiozen_core.cli.run import command

    for arguments in ([*order, "x.toml"], ["x.toml", *order]):
        context = command.make_context("run", list(arguments))
        assert context.params["modes"] == ("train", "test")
        assert context.params["file"].name == "x.toml"
