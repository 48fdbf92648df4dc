"""Bad input gets one clear error and exit code 2: no traceback, and no partial files."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from .conftest import RATE, write_pairs


@pytest.fixture
def refused(audiozen, project):
    """Runs a command that must fail, and returns its error output."""

    def call(*arguments, leaves_nothing=True):
        outcome = audiozen("run", *(arguments or ("tiny.toml",)))
        assert outcome.code == 2, outcome.err
        assert "Traceback" not in outcome.err
        assert "error[AZ" in outcome.err
        assert not leaves_nothing or not (project / "exp").exists()
        return outcome.err

    return call


def change(project, old, new):
    path = project / "tiny.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_missing_file_gets_a_similar_name_suggested(refused):
    assert "no file `tinny.toml`" in (said := refused("tinny.toml")) or "tinny.toml" in said
    assert "tiny.toml" in said


def test_a_syntax_error_has_its_line(refused, project):
    change(project, "seed = 1", "seed = ")
    assert "tiny.toml:3:" in refused()


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
def test_a_mistake_in_the_file_is_shown_at_its_place(refused, project, old, new, words):
    change(project, old, new)
    said = refused()
    for word in words:
        assert word in said, said


def test_a_missing_section_is_named(refused, project):
    text = (project / "tiny.toml").read_text()
    start, end = text.index("[optimizer]"), text.index("[dataset]")
    (project / "tiny.toml").write_text(text[:start] + text[end:])
    assert "`[optimizer]`" in (said := refused()) or "`optimizer`" in said


def test_all_mistakes_are_reported_at_once(refused, project):
    for old, new in (("seed = 1", "sead = 1"), ("lr = 1e-3", "lrr = 1e-3"), ('"sdnn"', '"sdnnn"')):
        change(project, old, new)
    said = refused()
    assert said.count("error[AZ") == 3
    assert "3 errors" in said


def test_a_module_that_fails_to_import_shows_its_own_exception(refused, project):
    (project / "model.py").write_text("import nosuchmodule\n")
    change(project, 'path = "sdnn"', 'path = "model.Model"')
    said = refused()
    assert "No module named 'nosuchmodule'" in said
    assert "model.py:1" in said


def test_a_constructor_that_raises_is_named_with_its_section(refused, project):
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
    said = refused()
    assert "[model] can't be built" in said
    assert "ValueError: size must be even" in said
    assert "model.py:4" in said


def test_traceback_shows_the_traceback(project, monkeypatch, capsys):
    from audiozen_core.cli.main import main
    from audiozen_core.errors import AudioZenError

    monkeypatch.setattr("sys.argv", ["audiozen", "run", "nothing.toml", "--traceback"])
    with pytest.raises(AudioZenError):
        main()


class TestAudio:
    """Audio files that can't be used: each is named."""

    @pytest.fixture
    def spoil(self, project):
        def write(content, rate=RATE, name="clip_1.wav"):
            path = project / "data" / "noisy" / name
            if content is None:
                path.unlink()
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                soundfile.write(path, content, rate)

        return write

    def test_a_missing_partner(self, refused, spoil):
        spoil(None)
        assert "clip_1" in refused()

    def test_an_empty_file(self, refused, spoil):
        spoil(b"")
        assert "clip_1.wav" in refused()

    def test_a_file_without_samples(self, refused, spoil):
        spoil(np.zeros(0))
        assert "clip_1.wav" in refused()

    def test_a_file_that_is_not_audio(self, refused, spoil):
        spoil(b"this is no audio at all, but it is long enough to have a header" * 10)
        assert "clip_1.wav" in refused()

    def test_a_file_with_another_sample_rate(self, refused, spoil):
        spoil(np.zeros(4000), rate=8000)
        said = refused()
        assert "clip_1.wav" in said
        assert "8000" in said
        assert "16000" in said

    def test_noisy_and_clean_files_of_different_length(self, refused, spoil):
        spoil(np.zeros(4000))
        assert "clip_1" in refused()

    def test_an_empty_folder(self, refused, project):
        for kind in ("noisy", "clean"):
            (project / "empty" / kind).mkdir(parents=True)
        change(project, 'noisy_dir = "data/noisy"', 'noisy_dir = "empty/noisy"')
        assert "empty/noisy" in refused()

    def test_a_missing_folder(self, refused, project):
        change(project, 'noisy_dir = "data/noisy"', 'noisy_dir = "nowhere"')
        assert "nowhere" in refused()

    def test_fewer_files_than_one_whole_batch(self, refused, project):
        change(project, "batch_size = 2", "batch_size = 9\ndrop_last = true")
        assert "fewer than one batch of 9" in refused()


def test_a_folder_that_holds_a_run_is_not_overwritten(audiozen, refused, project):
    assert audiozen("run", "tiny.toml").code == 0

    def files():
        # Not the time of a folder: the lock comes and goes.
        return {path: path.is_file() and path.stat().st_mtime_ns for path in (project / "exp").rglob("*")}

    before = files()
    said = refused(leaves_nothing=False)
    assert "already holds a run, up to epoch 2" in said
    assert "--resume" in said
    assert before == files()


def test_an_optimizer_that_calls_the_loss_itself_is_refused(refused):
    said = refused("tiny.toml", "--set", "optimizer.path=torch.optim.LBFGS")
    assert "[optimizer] LBFGS evaluates the loss several times a step" in said


def test_resume_from_a_checkpoint_that_does_not_exist(refused):
    assert "nowhere" in refused("tiny.toml", "--resume", "--ckpt-path", "nowhere")


def test_testing_without_a_checkpoint_is_refused(refused):
    assert "exp/tiny" in refused("tiny.toml", "-M", "test")


def test_a_checkpoint_that_does_not_exist(audiozen, refused, project):
    audiozen("run", "tiny.toml")
    said = refused("tiny.toml", "-M", "test", "--ckpt-path", "nowhere", leaves_nothing=False)
    assert "nowhere" in said


def test_weights_of_another_model_are_refused(audiozen, refused, project):
    audiozen("run", "tiny.toml")
    said = refused("tiny.toml", "-M", "test", "--set", "model.args.hidden_size=16", leaves_nothing=False)
    assert "do not fit [model]" in said


def test_finetuning_without_a_checkpoint_is_refused(refused):
    assert "--ckpt-path" in refused("tiny.toml", "-M", "finetune")


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoints(audiozen, refused, project):
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
    said = refused(leaves_nothing=False)
    assert "`loss` is nan at step 4 (epoch 2, batch 1; samples: clip_" in said
    assert [path.name for path in (project / "exp/tiny/checkpoints").glob("epoch_*")] == ["epoch_0001"]


def test_a_device_that_does_not_exist(refused, project):
    change(project, "seed = 1", 'seed = 1\ndevice = "cuda:7"')
    assert "cuda:7" in refused()


def test_a_mistyped_override_gets_a_suggestion(refused):
    said = refused("tiny.toml", "--set", "optimizer.args.lrr=3")
    assert "lrr" in said
    assert "lr" in said


def test_an_unknown_option_is_exit_code_2(audiozen, project):
    assert audiozen("run", "tiny.toml", "--resum").code == 2
    assert audiozen("run", "tiny.toml", "-M", "trian").code == 2


def test_more_files_make_a_longer_epoch(audiozen, project):
    """The control of this module: the same file, unspoilt, runs."""
    write_pairs(project / "data", count=6)
    outcome = audiozen("run", "tiny.toml")
    assert outcome.code == 0
    assert "steps=6" in outcome.err


def test_a_sample_rate_that_differs_from_the_audio_is_refused(refused, project):
    change(project, "sr = 16000", "sr = 48000")
    said = refused()
    assert "16000 Hz" in said
    assert "sr = 48000" in said


def test_a_model_made_for_another_transform(refused, project):
    change(project, "n_fft = 128\nwin_length = 128", "n_fft = 256\nwin_length = 128")
    said = refused(leaves_nothing=False)
    assert "num_freqs" in said


def test_clips_too_short_for_a_frame_are_named(refused, project):
    change(project, "clip_seconds = 0.25", "clip_seconds = 0.003")
    said = refused(leaves_nothing=False)
    assert "too few for an STFT of 128" in said
    assert "samples: clip_" in said


def test_a_scheduler_that_runs_out_of_steps(refused, project):
    change(
        project,
        "[dataset]",
        '[lr_scheduler]\npath = "torch.optim.lr_scheduler.OneCycleLR"\ninterval = "step"\n'
        "[lr_scheduler.args]\nmax_lr = 0.1\ntotal_steps = 2\n\n[dataset]",
    )
    said = refused(leaves_nothing=False)
    assert "OneCycleLR can't step" in said
    assert "total_steps" in said or "Tried to step" in said


@pytest.mark.parametrize("value", ["-1.0", "0", "nan"])
def test_an_impossible_clipping_value_is_refused(refused, project, value):
    change(project, "max_epochs = 2", f"max_epochs = 2\nclip_grad_norm_value = {value}")
    assert "`clip_grad_norm_value`" in refused()


def test_a_trainer_without_the_steps_of_a_mode_is_refused_before_the_training(refused, project):
    (project / "trainer.py").write_text(
        "from audiozen_core.trainer.base_trainer import BaseTrainer\n"
        "class Trainer(BaseTrainer):\n"
        "    def training_step(self, batch, batch_idx): return self.model(batch['noisy']).mean()\n"
        "    def validation_step(self, batch, batch_idx, dataloader_idx): return 0\n"
        "    def validation_epoch_end(self, outputs): return 0\n"
    )
    change(project, 'path = "enhancement"', 'path = "trainer.Trainer"')
    change(project, 'metrics = ["si_sdr"]\n', "")
    assert "Trainer does not define `test_step`" in refused("tiny.toml", "-M", "train", "test")


def test_a_component_that_calls_sys_exit_ends_the_run_with_an_error(refused, project):
    (project / "model.py").write_text(
        "import sys\n"
        "from audiozen_plugins.model.sdnn import SDNN\n"
        "class Model(SDNN):\n"
        "    def forward(self, noisy): sys.exit(0)\n"
    )
    change(project, 'path = "sdnn"', 'path = "model.Model"')
    assert "sys.exit(0)" in refused(leaves_nothing=False)


def test_modes_and_options_that_contradict_each_other_are_refused(refused, project):
    assert "no training to resume" in refused("tiny.toml", "-M", "test", "--resume")
    assert "does not start from a checkpoint" in refused("tiny.toml", "--ckpt-path", "somewhere")
    assert "holds no checkpoint" in refused("tiny.toml", "-M", "test", "train")


def test_two_predictions_with_the_same_file_name_are_refused(refused, audiozen, project):
    assert audiozen("run", "tiny.toml").code == 0
    (project / "ids.py").write_text(
        "from audiozen_plugins.dataset.audio_folder import AudioFolder\n"
        "class Same(AudioFolder):\n"
        "    def __getitem__(self, index): return {**super().__getitem__(index), 'id': 'same'}\n"
    )
    change(project, 'path = "audio_folder"', 'path = "ids.Same"')
    assert "two samples have the ID `same`" in refused("tiny.toml", "-M", "predict", leaves_nothing=False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("estimate.detach().mean()", "does not depend on any weight"),
        ("estimate", "is a tensor of shape [2, 65, 63]"),
        ("3.0", "is a float"),
        ("None", "is a NoneType"),
    ],
)
def test_a_loss_without_a_gradient_is_refused(refused, project, value, words):
    (project / "losses.py").write_text(f"def loss(estimate, target):\n    return {value}\n")
    change(project, '"torch.nn.L1Loss"', '"losses.loss"')
    assert words in refused(leaves_nothing=False)


def test_a_run_folder_that_cannot_be_created_is_refused(refused, project):
    (project / "file").write_text("")
    change(project, 'save_dir = "exp"', 'save_dir = "file"')
    assert "file" in refused()


@pytest.mark.parametrize(("stopped_by", "code"), [("KeyboardInterrupt", 130), ("Interrupted(15, 'saved')", 143)])
def test_a_ctrl_c_while_the_process_ends_changes_nothing(stopped_by, code):
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
        ('"exp"', '"ex\\u0000p"', "`meta.save_dir` holds a NUL character"),
        ("seed = 1", 'import_from = ["a\\u0000"]', "`meta.import_from` holds a NUL character"),
        ("batch_size = 2", "batch_size = 99999999999999999999", "`dataset.dataloader.batch_size` must be at most"),
        ("batch_size = 2", "num_workers = 99999999999999999999", "`dataset.dataloader.num_workers` must be at most"),
        ("batch_size = 2", "timeout = inf", "`dataset.dataloader.timeout` must be at most"),
        ("sr = 16000", "sr = 99999999999999999999", "`acoustics.sr` must be at most"),
    ],
)
def test_a_value_out_of_range_is_refused(refused, project, old, new, words):
    change(project, old, new)
    assert words in refused()


def test_a_file_whose_name_is_not_utf8_is_refused(refused, project):
    name = os.fsdecode(b"t\xffny.toml")
    (project / "tiny.toml").rename(project / name)
    assert "has bytes that are not UTF-8 in its path" in refused(name)


def test_an_override_that_is_not_utf8_is_refused(refused):
    assert "bytes that are not UTF-8" in refused("tiny.toml", "--set", os.fsdecode(b"meta.save_dir=e\xff"))
