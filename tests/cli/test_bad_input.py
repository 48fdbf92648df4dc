"""Bad input ends with an error and exit code 2, without a traceback and without partial files."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from .conftest import RATE, write_pairs


@pytest.fixture
def failing_run(audiozen, project):
    """Returns a function that runs a command, checks that it fails, and returns its error output."""

    def call(*arguments, no_folder=True):
        outcome = audiozen("run", *(arguments or ("tiny.toml",)))
        assert outcome.code == 2, outcome.err
        assert "Traceback" not in outcome.err
        assert "error[AZ" in outcome.err
        assert not no_folder or not (project / "exp").exists()
        return outcome.err

    return call


def change(project, old, new):
    path = project / "tiny.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_error_for_a_missing_file_suggests_a_similar_name(failing_run):
    assert "no file `tinny.toml`" in (error := failing_run("tinny.toml")) or "tinny.toml" in error
    assert "tiny.toml" in error


def test_error_for_invalid_toml_shows_the_line(failing_run, project):
    change(project, "seed = 1", "seed = ")
    assert "tiny.toml:3:" in failing_run()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[meta]", "[metta]", ["`metta`", "did you mean `meta`?", "tiny.toml:1:"]),
        ("[model]", "[modell]", ["`modell`", "did you mean `model`?", "tiny.toml:17:2"]),
        ("seed = 1", "sead = 1", ["`sead`", "did you mean `seed`?", "tiny.toml:3:1"]),
        ("max_epochs = 2", "max_epoch_s = 2", ["`max_epoch_s`", "did you mean `max_epochs`?"]),
        ("lr = 1e-3", "lrr = 1e-3", ["`lrr`", "torch.optim", "did you mean `lr`?"]),
        ("lr = 1e-3", 'lr = "fast"', ["lr", "tiny.toml:30:6"]),
        ('path = "sdnn"', 'path = "sdnnn"', ["`sdnnn`", "did you mean `sdnn`?"]),
        ('path = "torch.optim.Adam"', 'path = "torch.optim.Adamm"', ["did you mean `torch.optim.Adam`?"]),
        ('path = "torch.optim.Adam"', 'path = "torch.nn.Linear"', ["torch.nn", "tiny.toml:28:8"]),
        ('path = "sdnn"', "path = 7", ["tiny.toml:18:"]),
        ("win_length = 128", "win_length = 256", ["win_length"]),
    ],
)
def test_error_describes_the_mistake_in_the_file(failing_run, project, old, new, words):
    change(project, old, new)
    error = failing_run()
    for word in words:
        assert word in error, error


def test_error_names_a_missing_section(failing_run, project):
    text = (project / "tiny.toml").read_text()
    start, end = text.index("[optimizer]"), text.index("[dataset]")
    (project / "tiny.toml").write_text(text[:start] + text[end:])
    assert "`[optimizer]`" in (error := failing_run()) or "`optimizer`" in error


def test_all_mistakes_are_reported_at_once(failing_run, project):
    for old, new in (("seed = 1", "sead = 1"), ("lr = 1e-3", "lrr = 1e-3"), ('"sdnn"', '"sdnnn"')):
        change(project, old, new)
    error = failing_run()
    assert error.count("error[AZ") == 3
    assert "3 errors" in error


def test_error_shows_the_exception_of_a_module_that_fails_to_import(failing_run, project):
    (project / "model.py").write_text("import nosuchmodule\n")
    change(project, 'path = "sdnn"', 'path = "model.Model"')
    error = failing_run()
    assert "No module named 'nosuchmodule'" in error
    assert "model.py:1" in error


def test_error_shows_the_exception_of_a_constructor_and_its_section(failing_run, project):
    (project / "model.py").write_text(
        "from torch import nn\n"
        "class Model(nn.Module):\n"
        "    def __init__(self, size: int):\n"
        "        raise ValueError('size must be even')\n"
    )
    text = (project / "tiny.toml").read_text()
    start, end = text.index("[model]"), text.index("[loss_function]")
    model = '[model]\npath = "model.Model"\n[model.args]\nsize = 3\n'
    (project / "tiny.toml").write_text(text[:start] + model + text[end:])
    error = failing_run()
    assert "[model] can't be built" in error
    assert "ValueError: size must be even" in error
    assert "model.py:4" in error


def test_traceback_option_raises_the_exception(project, monkeypatch, capsys):
    from audiozen_core.cli.main import main
    from audiozen_core.errors import AudioZenError

    monkeypatch.setattr("sys.argv", ["audiozen", "run", "nothing.toml", "--traceback"])
    with pytest.raises(AudioZenError):
        main()


class TestAudio:
    """Each error names the audio file or folder that can't be used."""

    @pytest.fixture
    def replace_noisy(self, project):
        def write(content, rate=RATE, name="clip_1.wav"):
            path = project / "data" / "noisy" / name
            if content is None:
                path.unlink()
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                soundfile.write(path, content, rate)

        return write

    def test_error_names_a_file_without_a_partner(self, failing_run, replace_noisy):
        replace_noisy(None)
        assert "clip_1" in failing_run()

    def test_error_names_an_empty_file(self, failing_run, replace_noisy):
        replace_noisy(b"")
        assert "clip_1.wav" in failing_run()

    def test_error_names_a_file_without_samples(self, failing_run, replace_noisy):
        replace_noisy(np.zeros(0))
        assert "clip_1.wav" in failing_run()

    def test_error_names_a_file_that_is_not_audio(self, failing_run, replace_noisy):
        replace_noisy(b"this is not audio, but it is long enough to have a header" * 10)
        assert "clip_1.wav" in failing_run()

    def test_error_states_the_sample_rate_of_the_file_and_the_expected_one(self, failing_run, replace_noisy):
        replace_noisy(np.zeros(4000), rate=8000)
        error = failing_run()
        assert "clip_1.wav" in error
        assert "8000" in error
        assert "16000" in error

    def test_error_names_a_pair_of_files_with_different_lengths(self, failing_run, replace_noisy):
        replace_noisy(np.zeros(3000))
        assert "clip_1" in failing_run()

    def test_error_names_an_empty_folder(self, failing_run, project):
        for kind in ("noisy", "clean"):
            (project / "empty" / kind).mkdir(parents=True)
        change(project, 'noisy_dir = "data/noisy"', 'noisy_dir = "empty/noisy"')
        assert "empty/noisy" in failing_run()

    def test_error_names_a_missing_folder(self, failing_run, project):
        change(project, 'noisy_dir = "data/noisy"', 'noisy_dir = "nowhere"')
        assert "nowhere" in failing_run()

    def test_data_set_smaller_than_one_batch_is_an_error(self, failing_run, project):
        change(project, "batch_size = 2", "batch_size = 9\ndrop_last = true")
        assert "fewer than one batch of 9" in failing_run()


def test_new_run_does_not_overwrite_an_existing_run(audiozen, failing_run, project):
    assert audiozen("run", "tiny.toml").code == 0

    def files():
        # Creating and deleting the lock file changes the times of folders, so these times are ignored.
        return {path: path.is_file() and path.stat().st_mtime_ns for path in (project / "exp").rglob("*")}

    before = files()
    error = failing_run(no_folder=False)
    assert "already contains a run, up to epoch 2" in error
    assert "`--resume` (in Python `resume=True`)" in error
    assert before == files()


def test_optimizer_that_evaluates_the_loss_several_times_is_an_error(failing_run):
    error = failing_run("tiny.toml", "--set", "optimizer.path=torch.optim.LBFGS")
    assert "LBFGS needs a closure that evaluates the loss several times a step" in error


def test_resuming_from_a_missing_checkpoint_is_an_error(failing_run):
    assert "nowhere" in failing_run("tiny.toml", "--resume", "--ckpt-path", "nowhere")


def test_testing_without_a_checkpoint_is_an_error(failing_run):
    assert "exp/tiny" in failing_run("tiny.toml", "-M", "test")


def test_testing_a_missing_checkpoint_is_an_error(audiozen, failing_run, project):
    audiozen("run", "tiny.toml")
    error = failing_run("tiny.toml", "-M", "test", "--ckpt-path", "nowhere", no_folder=False)
    assert "nowhere" in error


def test_loading_the_weights_of_another_model_is_an_error(audiozen, failing_run, project):
    audiozen("run", "tiny.toml")
    error = failing_run("tiny.toml", "-M", "test", "--set", "model.args.hidden_size=16", no_folder=False)
    assert "do not fit [model]" in error
    assert "weights with different shapes in the checkpoint and in the network: `" in error
    assert "a size of the network has changed from 8 to 16" in error
    assert len(error.splitlines()) < 8


def test_resuming_with_another_model_says_briefly_what_differs(audiozen, failing_run, project):
    audiozen("run", "tiny.toml")
    error = failing_run("tiny.toml", "-R", "--allow-drift", "--set", "model.args.hidden_size=16", no_folder=False)
    assert "the checkpoint's `model` does not fit" in error
    assert "a size of the network has changed from 8 to 16" in error


def test_finetuning_without_a_checkpoint_is_an_error(failing_run):
    assert "--ckpt-path" in failing_run("tiny.toml", "-M", "finetune")


def test_nan_loss_stops_the_run_and_keeps_the_checkpoints(audiozen, failing_run, project):
    (project / "losses.py").write_text(
        "from torch import nn\n"
        "class Breaks(nn.Module):\n"
        "    calls = 0\n"
        "    def forward(self, estimate, target):\n"
        "        Breaks.calls += self.training and estimate.requires_grad\n"
        "        loss = (estimate - target).abs().mean()\n"
        "        return loss * float('nan') if Breaks.calls > 3 else loss\n"
    )
    change(project, '"torch.nn.L1Loss"', '"losses.Breaks"')
    error = failing_run(no_folder=False)
    assert "`loss` is nan at step 4 (epoch 2, batch 1; samples: clip_" in error
    assert [path.name for path in (project / "exp/tiny/checkpoints").glob("epoch_*")] == ["epoch_0001"]


def test_error_names_a_missing_device(failing_run, project):
    change(project, "seed = 1", 'seed = 1\ndevice = "cuda:7"')
    assert "cuda:7" in failing_run()


def test_error_suggests_a_key_for_a_mistyped_override(failing_run):
    error = failing_run("tiny.toml", "--set", "optimizer.args.lrr=3")
    assert "lrr" in error
    assert "lr" in error


def test_unknown_option_exits_with_code_2(audiozen, project):
    assert audiozen("run", "tiny.toml", "--resum").code == 2
    assert audiozen("run", "tiny.toml", "-M", "trian").code == 2


def test_run_without_bad_input_succeeds(audiozen, project):
    """The negative control for this module."""
    write_pairs(project / "data", count=6)
    outcome = audiozen("run", "tiny.toml")
    assert outcome.code == 0
    assert "steps=6" in outcome.err


def test_error_states_both_sample_rates_if_config_and_audio_differ(failing_run, project):
    change(project, "sr = 16000", "sr = 48000")
    error = failing_run()
    assert "16000 Hz" in error
    assert "48000 Hz is needed" in error


def test_error_names_the_argument_that_does_not_match_the_stft(failing_run, project):
    change(project, "n_fft = 128\nwin_length = 128", "n_fft = 256\nwin_length = 128")
    error = failing_run(no_folder=False)
    assert "num_freqs" in error


def test_error_names_clips_too_short_for_one_stft_frame(failing_run, project):
    change(project, "clip_seconds = 0.125", "clip_seconds = 0.003")
    error = failing_run(no_folder=False)
    assert "too few for an STFT of 128" in error
    assert "samples: clip_" in error


def test_scheduler_that_runs_out_of_steps_is_an_error(failing_run, project):
    change(
        project,
        "[dataset]",
        '[lr_scheduler]\npath = "torch.optim.lr_scheduler.OneCycleLR"\ninterval = "step"\n'
        "[lr_scheduler.args]\nmax_lr = 0.1\ntotal_steps = 2\n\n[dataset]",
    )
    error = failing_run(no_folder=False)
    assert "OneCycleLR has 2 steps, but the training has 4 steps" in error
    assert "`total_steps = 4`" in error
    assert "only with `--allow-drift` (in Python `allow_drift=True`)" in error


def test_data_set_that_averages_channels_is_named_in_the_log(audiozen, project):
    for name in ("noisy", "clean"):
        file = project / f"data/{name}/clip_1.wav"
        wave, rate = soundfile.read(file)
        soundfile.write(file, np.stack([wave, wave], 1), rate)
    outcome = audiozen("run", "tiny.toml", "--set", "trainer.args.max_epochs=1")
    assert outcome.code == 0, outcome.err
    averaged = [line for line in outcome.err.splitlines() if "2 of 8 files have several channels" in line]
    assert ["section=[dataset]" in averaged[0], "section=[validate_dataset]" in averaged[1]] == [True, True]
    assert len(averaged) == 2


@pytest.mark.parametrize("value", ["-0.5", "nan"])  # 0 and -1 are old ways to switch it off
def test_invalid_clipping_value_is_an_error(failing_run, project, value):
    change(project, "max_epochs = 2", f"max_epochs = 2\nclip_grad_norm_value = {value}")
    assert "`clip_grad_norm_value`" in failing_run()


def test_missing_test_step_is_reported_before_training_starts(failing_run, project):
    (project / "trainer.py").write_text(
        "from audiozen_core.trainer.base_trainer import BaseTrainer\n"
        "class Trainer(BaseTrainer):\n"
        "    def training_step(self, batch, batch_idx): return self.model(batch['noisy']).mean()\n"
        "    def validation_step(self, batch, batch_idx, dataloader_idx): return 0\n"
        "    def validation_epoch_end(self, outputs): return 0\n"
    )
    change(project, 'path = "enhancement"', 'path = "trainer.Trainer"')
    change(project, 'metrics = ["si_sdr"]\n', "")
    assert "Trainer does not define `test_step`" in failing_run("tiny.toml", "-M", "train", "test")


def test_sys_exit_in_a_component_ends_the_run_with_an_error(failing_run, project):
    (project / "model.py").write_text(
        "import sys\n"
        "from audiozen_plugins.model.sdnn import SDNN\n"
        "class Model(SDNN):\n"
        "    def forward(self, noisy): sys.exit(0)\n"
    )
    change(project, 'path = "sdnn"', 'path = "model.Model"')
    assert "sys.exit(0)" in failing_run(no_folder=False)


def test_contradictory_modes_and_options_are_an_error(failing_run, project):
    assert "none of the modes is a training mode" in failing_run("tiny.toml", "-M", "test", "--resume")
    assert "does not start from a checkpoint" in failing_run("tiny.toml", "--ckpt-path", "somewhere")
    assert "`test` comes before the training" in failing_run("tiny.toml", "-M", "test", "train")


def test_two_predictions_with_the_same_id_are_an_error(failing_run, audiozen, project):
    assert audiozen("run", "tiny.toml").code == 0
    (project / "ids.py").write_text(
        "from audiozen_plugins.dataset.audio_folder import AudioFolder\n"
        "class Same(AudioFolder):\n"
        "    def __getitem__(self, index): return {**super().__getitem__(index), 'id': 'same'}\n"
    )
    change(project, 'path = "audio_folder"', 'path = "ids.Same"')
    assert "two samples would write the same file `same.wav`" in failing_run(
        "tiny.toml", "-M", "predict", no_folder=False
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("estimate.detach().mean()", "does not depend on any weight"),
        ("estimate", "is a tensor of shape [2, 65, 32]"),
        ("3.0", "is a float"),
        ("None", "is None"),
    ],
)
def test_loss_without_a_gradient_is_an_error(failing_run, project, value, words):
    (project / "losses.py").write_text(f"def loss(estimate, target):\n    return {value}\n")
    change(project, '"torch.nn.L1Loss"', '"losses.loss"')
    assert words in failing_run(no_folder=False)


def test_error_names_a_run_folder_that_cannot_be_created(failing_run, project):
    (project / "file").write_text("")
    change(project, 'save_dir = "exp"', 'save_dir = "file"')
    assert "file" in failing_run()


@pytest.mark.parametrize(("stopped_by", "code"), [("KeyboardInterrupt", 130), ("Interrupted(15, 'saved')", 143)])
def test_ctrl_c_during_exit_does_not_change_the_exit_code(stopped_by, code):
    program = (
        "import atexit, signal\n"
        "from audiozen_core.cli import main\n"
        "from audiozen_core.errors import Interrupted\n"
        "atexit.register(signal.raise_signal, signal.SIGINT)\n"
        f"def stopped(**_): raise {stopped_by}\n"
        "main.cli.main = stopped\n"
        "main.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, "KeyboardInterrupt" in done.stderr) == (code, False), done.stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"exp"', '"ex\\u0000p"', "`meta.save_dir` contains a NUL character"),
        ("seed = 1", 'import_from = ["a\\u0000"]', "`meta.import_from` contains a NUL character"),
        ("batch_size = 2", "batch_size = 99999999999999999999", "`dataset.dataloader.batch_size` must be at most"),
        ("batch_size = 2", "num_workers = 99999999999999999999", "but must be from 0 to 1024"),
        ("batch_size = 2", "timeout = inf", "is inf, but must be from 0 to 1000000, and finite"),
        ("sr = 16000", "sr = 99999999999999999999", "`acoustics.sr` must be at most"),
    ],
)
def test_error_describes_a_value_out_of_range(failing_run, project, old, new, words):
    change(project, old, new)
    assert words in failing_run()


def test_file_name_that_is_not_utf8_is_an_error(failing_run, project):
    name = os.fsdecode(b"t\xffny.toml")
    (project / "tiny.toml").rename(project / name)
    assert "has bytes that are not UTF-8 in its path" in failing_run(name)


def test_override_that_is_not_utf8_is_an_error(failing_run):
    assert "bytes that are not UTF-8" in failing_run("tiny.toml", "--set", os.fsdecode(b"meta.save_dir=e\xff"))


TWO_NETWORKS = """\
meta.save_dir = "exp"
trainer = {path = "trainer.Trainer", args.max_epochs = 1}
model_a = {path = "torch.nn.Linear", args = {in_features = 1, out_features = 1}}
model_b = {path = "torch.nn.Linear", args = {in_features = 1, out_features = 2}}
optimizer_a.path = "torch.optim.SGD"
optimizer_b.path = "torch.optim.SGD"
loss_function.path = "torch.nn.L1Loss"
dataset = {path = "noisy_clean_folders", args = {noisy_dir = "data/noisy", clean_dir = "data/clean"}}
"""


def test_weights_of_another_suffix_are_an_error_that_names_the_suffix(audiozen, failing_run, project):
    (project / "trainer.py").write_text(
        "from audiozen.trainer.base_trainer import BaseTrainer\n"
        "class Trainer(BaseTrainer):\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        return {f'loss_{name}': model(batch['noisy'][:1, :1]).mean() for name, model in self.models.items()}\n"
    )
    (project / "two.toml").write_text(TWO_NETWORKS)
    assert audiozen("run", "two.toml").code == 0
    weights = ("-M", "finetune", "--ckpt-path", "exp/two/checkpoints/latest")
    (project / "swapped.toml").write_text(TWO_NETWORKS.replace("s = 1}}", "s = 3}}").replace("s = 2}}", "s = 1}}"))
    assert "do not fit [model_a]" in failing_run("swapped.toml", *weights, no_folder=False)
    (project / "swapped.toml").write_text(TWO_NETWORKS.replace("s = 2}}", "s = 1}}").replace("s = 1}}", "s = 2}}", 1))
    assert "the weights fit [model_b]: swap the suffixes" in failing_run("swapped.toml", *weights, no_folder=False)
    (project / "other.toml").write_text(
        TWO_NETWORKS.replace("model_b", "model_x").replace("optimizer_b", "optimizer_x")
    )
    error = failing_run("other.toml", *weights, no_folder=False)
    assert "has no state of `model_x`" in error
    assert "call the section [model_x] as in the checkpoint: [model_a] or [model_b]" in error
