"""What the hook `samples` writes, and what it does with bad input."""

import errno
import io
import math
import os
import shutil
import wave as wave_files

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audiozen_core.audio.spectrogram_picture import draw_sheet
from audiozen_core.errors import RunError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.results.samples import read_samples
from audiozen_core.trainer import sample_files
from audiozen_plugins.hooks.samples import Samples
from audiozen_plugins.hooks.tensorboard import TensorBoard
from tests.plugins.hooks.showing_trainer import SR, Shows, kept, noise, train
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, weights_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the folder of a training run of two epochs, and what its validations showed, by epoch and ID."""
    folder = tmp_path_factory.mktemp("run")
    shown = {}

    class Remembers:
        @hookimpl
        def on_evaluation_step_end(self, trainer, batch, signals):
            for id, signal in zip(batch["id"], signals, strict=True):
                shown[trainer.progress.epoch, id] = {name: wave.clone() for name, wave in signal.items()}

    with pytest.MonkeyPatch.context() as patch:
        # It numbers its files of one second, and reads them by their names: 10 comes before 9.
        from tensorboard.summary.writer import event_file_writer

        patch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
        hooks = {"remembers": Remembers(), "board": TensorBoard(histogram_epochs=2)}
        train(folder, hooks=hooks, samples=Samples(count=2), max_epochs=2)
    return folder, shown


def test_samples_have_the_signals_that_were_shown(run):
    folder, shown = run
    samples = read_samples(folder)
    assert [(sample.epoch, sample.step) for sample in samples] == [(1, 5), (1, 5), (2, 10), (2, 10)]
    for sample in samples:
        assert list(sample.signals) == ["noisy", "enhanced", "clean"]
        for name, signal in sample.signals.items():
            found, sr = soundfile.read(folder / "samples" / signal.path)
            wanted = shown[sample.epoch, sample.id][name].detach().numpy()
            assert sr == SR
            np.testing.assert_allclose(found, wanted, atol=0.51 / 32768)


def test_signals_of_the_data_set_are_written_once(run):
    folder, _ = run
    files = sorted(str(path.relative_to(folder / "samples")) for path in (folder / "samples").rglob("*.*"))
    ids = sorted({sample.id for sample in read_samples(folder)})
    assert files == sorted(
        [
            "samples.json",
            *(f"inputs/0/{id}/{name}.flac" for id in ids for name in ("clean", "noisy")),
            *(f"epoch_000{epoch}/0/{id}/{name}" for epoch in (1, 2) for id in ids for name in MADE),
        ]
    )


MADE = ("enhanced.flac", "spectrograms.png")


def test_the_picture_has_all_signals_on_one_scale(run):
    folder, shown = run
    sample = read_samples(folder)[-1]
    with Image.open(folder / "samples" / sample.sheet) as picture:
        found = np.asarray(picture.convert("RGB")).astype(int)
    wanted = np.asarray(draw_sheet(shown[2, sample.id], SR)).astype(int)
    assert abs(found - wanted).max() <= 8
    # The negative control: the epoch before has another picture.
    assert abs(np.asarray(draw_sheet(shown[1, sample.id], SR)).astype(int) - found).max() > 50


def test_only_the_best_validation_is_marked_as_the_best(run):
    folder, _ = run
    assert [sample.best for sample in read_samples(folder)] == [False, False, True, True]


def test_other_hooks_are_notified_of_each_written_validation(tmp_path):
    told = []

    class Better(Shows):
        scores = range(10)

    class Listens:
        @hookimpl
        def on_samples(self, trainer, samples, step, epoch):
            there = all((trainer.folder / "samples" / path).is_file() for path in samples[0].paths)
            told.append((len(samples), step, epoch, there))

    hooks = {"listens": Listens()}
    train(tmp_path, cls=Better, samples=Samples(count=2, every=2), hooks=hooks, max_epochs=4)
    # Each epoch is the best so far, and only every second one is due.
    assert told == [(2, 10, 2, True), (2, 20, 4, True)]


@pytest.fixture(scope="module")
def events(run):
    found = EventAccumulator(str(run[0] / "tb_log"), size_guidance={"audio": 0, "images": 0, "histograms": 0})
    found.Reload()
    return found


def test_tensorboard_plays_what_the_files_have(run, events):
    folder, _ = run
    samples = read_samples(folder)
    assert events.Tags()["audio"] == [
        f"samples/{sample.id}/{name}" for sample in samples[:2] for name in ("noisy", "enhanced", "clean")
    ]
    for sample in samples:
        (event,) = [e for e in events.Audio(f"samples/{sample.id}/enhanced") if e.step == sample.step]
        with wave_files.open(io.BytesIO(event.encoded_audio_string)) as file:
            found = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            assert file.getframerate() == SR
        wanted, _ = soundfile.read(folder / "samples" / sample.signals["enhanced"].path, dtype="int16")
        assert abs(found.astype(int) - wanted).max() <= 1
    assert [event.step for event in events.Audio(f"samples/{samples[0].id}/noisy")] == [5]


def test_tensorboard_has_the_signals_of_the_data_set_after_a_rollback(run, tmp_path, monkeypatch):
    from tensorboard.summary.writer import event_file_writer

    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    shutil.copytree(run[0] / "samples", tmp_path / "samples")
    trainer, board = make_trainer(tmp_path), TensorBoard()
    samples = read_samples(tmp_path)[:1]
    board.on_run_start(trainer, "train")
    board.on_samples(trainer, samples, 5)
    trainer.progress.step = 1
    board.on_rollback(trainer)  # what was written after step 1 is hidden from now on
    board.on_samples(trainer, samples, 5)
    board.on_teardown(trainer)
    found = EventAccumulator(str(tmp_path / "tb_log"), size_guidance={"audio": 0})
    found.Reload()
    assert [event.step for event in found.Audio(f"samples/{samples[0].id}/noisy")] == [5]


def test_tensorboard_shows_the_pictures(run, events):
    folder, _ = run
    for sample in read_samples(folder):
        (event,) = [e for e in events.Images(f"samples/{sample.id}") if e.step == sample.step]
        pictures = [Image.open(io.BytesIO(event.encoded_image_string)), Image.open(folder / "samples" / sample.sheet)]
        shown, wanted = (np.asarray(picture.convert("RGB")) for picture in pictures)
        assert np.array_equal(shown, wanted)


def test_tensorboard_has_histograms_on_request(events):
    names = [f"{kind}/0.{name}" for name in ("weight", "bias") for kind in ("weights", "gradients")]
    assert events.Tags()["histograms"] == names
    (weight,) = events.Histograms("weights/0.weight")  # of the first of two epochs
    assert (weight.step, weight.histogram_value.num) == (1, 4)


def test_histograms_are_off_by_default_and_leave_out_what_is_not_finite(tmp_path):
    trainer = make_trainer(tmp_path, max_epochs=1, hooks={"board": TensorBoard(histogram_epochs=1)})
    trainer.models[""][0].bias.data.fill_(math.nan)
    board = TensorBoard(histogram_epochs=1)
    board.on_run_start(trainer, "train")
    board.on_epoch_start(trainer, 1)
    board.on_gradients_ready(trainer)
    board.on_teardown(trainer)
    off = TensorBoard()
    off.on_epoch_start(trainer, 1)
    assert not off._histograms_due
    found = EventAccumulator(str(tmp_path / "tb_log"))
    found.Reload()
    assert found.Tags()["histograms"] == ["weights/0.weight"]


# ------------------------------------------------------------------------------------------ bad input


def test_a_full_disk_does_not_stop_the_training(tmp_path, monkeypatch, capsys):
    real = sample_files.write_whole

    class FullInEpoch2:
        @hookimpl
        def on_epoch_start(self, epoch):
            monkeypatch.setattr(sample_files, "write_whole", fail if epoch in (2, 3) else real)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    trainer = train(tmp_path, hooks={"full": FullInEpoch2()}, max_epochs=4)
    assert trainer.progress.epoch == 4
    assert capsys.readouterr().err.count("samples can't be written") == 1
    assert kept(tmp_path) == [1, 4]


def test_a_signal_that_is_not_finite_is_in_the_picture_only(tmp_path):
    class Breaks(Shows):
        def enhanced(self, noisy):
            return noisy * math.nan

    train(tmp_path, cls=Breaks, max_epochs=1)
    (sample,) = read_samples(tmp_path)
    assert list(sample.signals) == ["noisy", "clean"]
    assert (tmp_path / "samples" / sample.sheet).is_file()


def test_a_signal_beyond_full_scale_is_turned_down_and_says_so(tmp_path, capsys):
    class Loud(Shows):
        def enhanced(self, noisy):
            return noisy * 40

    train(tmp_path, cls=Loud, max_epochs=1)
    (sample,) = read_samples(tmp_path)
    signal = sample.signals["enhanced"]
    found, _ = soundfile.read(tmp_path / "samples" / signal.path)
    assert signal.gain_db < -6
    assert abs(found).max() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(found / 10 ** (signal.gain_db / 20), 40 * noise(sample.id), rtol=0.01, atol=0.01)
    assert "clipped" not in capsys.readouterr().err
    assert sample.signals["noisy"].gain_db == 0


def test_an_id_that_leads_out_of_the_folder_stays_inside(tmp_path):
    class Odd(Shows):
        def prepare_batch(self, batch, mode):
            return {**super().prepare_batch(batch, mode), "id": [f"../../{id}" for id in batch["id"]]}

    train(tmp_path / "run", cls=Odd, max_epochs=1)
    (sample,) = read_samples(tmp_path / "run")
    assert sample.id.startswith("../../sample")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_signals_that_are_not_waveforms_are_left_out_with_one_warning(tmp_path, capsys):
    class Stereo(Shows):
        def show(self, **signals):
            super().show(**signals, both=torch.stack([signals["noisy"]] * 2))

    train(tmp_path, cls=Stereo, max_epochs=2)
    assert list(read_samples(tmp_path)[0].signals) == ["noisy", "enhanced", "clean"]
    assert capsys.readouterr().err.count("both: only signals [time] are written as samples") == 1


def test_a_trainer_that_shows_nothing_has_no_samples(tmp_path):
    train(tmp_path, cls=TinyTrainer, max_epochs=1)
    assert read_samples(tmp_path) == []
    assert not (tmp_path / "samples").exists()


def test_an_unreadable_index_starts_a_new_one(tmp_path, capsys):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/samples.json").write_text("{")
    train(tmp_path, max_epochs=1)
    assert "the earlier samples are ignored" in capsys.readouterr().err
    assert kept(tmp_path) == [1]


@pytest.mark.parametrize("args", [{"count": 0}, {"keep": 0}, {"every": 0}, {"max_seconds": 0.0}])
def test_arguments_out_of_range_are_errors(args):
    with pytest.raises(RunError):
        Samples(**args)


# ------------------------------------------------------------------------------------------ what it must not change


def test_the_hook_does_not_change_the_training(tmp_path):
    plain = make_trainer(tmp_path / "a", cls=Shows, max_epochs=3)
    plain.train(make_loader(), [make_loader(shuffle=False)])
    assert torch.equal(weights_of(plain), weights_of(train(tmp_path / "b", max_epochs=3)))


def test_only_a_validation_holds_signals_for_the_hook():
    class Wants:
        @hookimpl
        def on_evaluation_step_end(self, signals):
            pass

    default = Lifecycle([Plugin("samples", Samples())])
    assert [default.uses_signals(mode) for mode in ("validate", "test", "predict")] == [True, False, False]
    other = Lifecycle([Plugin("samples", Samples()), Plugin("wants", Wants())])
    assert other.uses_signals("predict")
    assert not Lifecycle([]).uses_signals("validate")
