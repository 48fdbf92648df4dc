"""Small experiments are trained, resumed and tested, and the command separates files."""

import csv
import itertools
import json

import numpy as np
import pytest
import torch
from audiozen import AudioZenError, hookimpl
from audiozen.audio import audio_info, read_audio, write_audio
from audiozen.errors import RunError
from audiozen.testing import HookRecorder, TinyExperiment
from click.testing import CliRunner
from safetensors.torch import load_file

from audiozen_plugin_separation.command import command
from audiozen_plugin_separation.dataset import TwoSpeakers
from audiozen_plugin_separation.trainer import SeparationTrainer

SR = 16000
EVALUATED = {"fixed": True, "seed": 3}


def experiment_in(folder):
    """Returns an experiment on four voices of different lengths, which are noises of different colours."""
    folder.mkdir()
    experiment = TinyExperiment(folder)
    voices = folder / "voices"
    generator = torch.Generator().manual_seed(0)
    for index in range(4):
        wave = torch.randn(1500 + 300 * index, generator=generator)
        for _ in range(index):
            wave[1:] = wave[1:] + 0.9 * wave[:-1]
        write_audio(voices / f"voice_{index}.wav", 0.1 * wave / wave.std(), SR)
    experiment.set("trainer", "source_separation", max_epochs=2).set("optimizer", lr=0.01)
    experiment.set("model", "small_tasnet", filters=8, layers=1).set("loss_function", "sources_si_snr")
    experiment.set("dataset", "two_speakers", folder=str(voices), clip_seconds=0.05, items=6)
    for mode in ("validate", "test"):
        experiment.set(f"{mode}_dataset", "two_speakers", folder=str(voices), **EVALUATED)
    return experiment


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that has been trained and tested: the experiment and its outcome."""
    experiment = experiment_in(tmp_path_factory.mktemp("separation") / "run")
    return experiment, experiment.run("train", "test")


@pytest.fixture(scope="module")
def results(finished):
    """The folder with the results of the test."""
    [folder] = finished[1].folder.glob("test/best_*/0")
    return folder


def sdr(estimate, source):
    estimate, source = (wave.double().numpy() - float(wave.double().mean()) for wave in (estimate, source))
    target = estimate @ source / (source @ source) * source
    return 10 * np.log10(target @ target / ((estimate - target) @ (estimate - target)))


def samples(paths):
    return {tuple(read_audio(path, sr=SR).tolist()) for path in paths}


def weights(outcome):
    return load_file(outcome.folder / "checkpoints" / "latest" / "model.safetensors")


# ------------------------------------------------------------------------------- training


class Stop(HookRecorder):
    """Stops the training after an optimiser step, in the middle of an epoch."""

    @hookimpl
    def stop_within_epoch_reason(self, trainer):
        return "enough" if trainer.progress.step == 4 else None


def test_training_improves_the_score(tmp_path):
    outcome = experiment_in(tmp_path / "run").set("trainer", max_epochs=4).set("dataset", items=16).run("train")
    assert outcome.metrics("validate/score")[-1] > outcome.metrics("validate/score")[0] + 1
    assert outcome.metrics("validate/loss")[-1] < outcome.metrics("validate/loss")[0] - 1


def test_resumed_run_is_the_same_to_the_last_bit(finished, tmp_path):
    stopped = experiment_in(tmp_path / "run")
    first = stopped.run("train", hooks=Stop())
    assert not all(torch.equal(value, weights(first)[name]) for name, value in weights(finished[1]).items())
    outcome = stopped.run("train", resume=True)
    assert all(torch.equal(value, weights(outcome)[name]) for name, value in weights(finished[1]).items())
    for name in ("train/loss", "validate/score", "validate/loss"):
        assert len(outcome.metrics(name)) == 2
        assert outcome.metrics(name) == finished[1].metrics(name)


def test_score_does_not_depend_on_the_batch_size(finished, tmp_path):
    experiment = experiment_in(tmp_path / "run")
    experiment.values["validate_dataset"]["dataloader"] = {"batch_size": 3}
    outcome = experiment.run("train")
    for name in ("validate/score", "validate/si_sdr_improvement", "validate/loss"):
        assert outcome.metrics(name) == finished[1].metrics(name)


def test_other_numbers_of_sources_are_an_error(tmp_path):
    with pytest.raises(AudioZenError, match=r"estimates \[2, 3, 800\], sources \[2, 2, 800\]"):
        experiment_in(tmp_path / "run").set("model", num_sources=3).run("train")


@pytest.mark.parametrize(
    ("section", "args", "message"),
    [
        ("trainer", {"metric": ["pit"]}, "did you mean `metrics`"),
        ("trainer", {"metrics": ["pitt"]}, "did you mean `pit`"),
        (
            "trainer",
            {"metrics": ["si_sdr", {"path": "pit", "args": {"metric": "si_sdr"}}]},
            "`pit_si_sdr` is listed twice",
        ),
        ("trainer", {"metrics": [{"path": "pit", "args": {"metric": "si_sdrr"}}]}, "did you mean `si_sdr`"),
        ("dataset", {"clip_second": 1.0}, "did you mean `clip_seconds`"),
        ("dataset", {"items": 0}, "must be at least 1"),
        ("model", {"sources": 3}, "did you mean `num_sources`"),
    ],
)
def test_mistakes_are_reported_before_the_run(finished, tmp_path, section, args, message):
    with pytest.raises(AudioZenError, match=message):
        experiment_in(tmp_path / "run").set(section, **args).run("train", "test")


# ------------------------------------------------------------------------------- test


def test_written_audio_has_the_scores_of_the_table(finished, results):
    items = list(TwoSpeakers(finished[0].folder / "voices", **EVALUATED))
    with (results / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [item["id"] for item in items]
    gains = []
    for row, item in zip(rows, items, strict=True):
        sources = [item["source_1"], item["source_2"]]
        mixture, *estimates = (
            read_audio(results / "audio" / f"{item['id']}_{name}.wav", sr=SR) for name in ("mixture", 1, 2)
        )
        assert torch.equal(mixture, item["noisy"])
        before = np.mean([sdr(mixture, source) for source in sources])
        after = np.mean([sdr(*pair) for pair in zip(estimates, sources, strict=True)])
        assert float(row["pit_si_sdr_mixture"]) == pytest.approx(before, abs=1e-4)
        assert float(row["pit_si_sdr_separated"]) == pytest.approx(after, rel=1e-4)
        assert after == max(
            np.mean([sdr(*pair) for pair in zip(order, sources, strict=True)])
            for order in itertools.permutations(estimates)
        )
        gains.append(after - before)
    means = json.loads((results / "scores.json").read_text())["all"]["pit_si_sdr"]
    assert means["gain"] == pytest.approx(np.mean(gains), rel=1e-4)
    assert finished[1].metrics("test/pit_si_sdr_gain") == [means["gain"]]
    # The best epoch was validated on the same mixtures.
    assert max(finished[1].metrics("validate/score")) == means["separated"]


def test_metric_that_does_not_take_the_sample_rate_is_left_out_with_a_warning(tmp_path):
    experiment = experiment_in(tmp_path / "run")
    (experiment.folder / "own.py").write_text(
        "class Loudness:\n"
        "    name, label, unit, higher_is_better, sample_rates = 'loudness', 'Loudness', '', True, (8000,)\n"
        "    def __call__(self, estimate, reference, *, sr):\n"
        "        return float(estimate.square().mean())\n"
    )
    experiment.set("trainer", metrics=["si_sdr", "own.Loudness"], max_epochs=1)
    outcome = experiment.run("train", "test")
    [log] = outcome.folder.glob("*.log")
    assert "Loudness takes 8000 Hz, but `sr` in [acoustics] is 16000" in log.read_text()
    assert outcome.metrics("test/pit_si_sdr")
    assert not outcome.metrics("test/pit_loudness")


def test_metric_that_fails_is_named_with_the_file(tmp_path):
    experiment = experiment_in(tmp_path / "run")
    (experiment.folder / "own.py").write_text(
        "class Fails:\n"
        "    name, label, unit, higher_is_better = 'fails', 'Fails', '', True\n"
        "    def __call__(self, estimate, reference, *, sr):\n"
        "        raise IndexError('no frames')\n"
    )
    with pytest.raises(RunError, match=r"the metric `pit_fails` fails for `0000_.*IndexError: no frames"):
        experiment.set("trainer", metrics=["own.Fails"], max_epochs=1).run("train", "test")


def test_hooks_see_the_signals(finished, results):
    calls = [arguments for name, arguments in finished[1].hooks.calls if name == "on_evaluation_step_end"]
    signals = [one for call in calls if call["mode"] == "test" for one in call["signals"]]
    assert [sorted(one) for one in signals] == [["estimate_1", "estimate_2", "mixture", "source_1", "source_2"]] * 4


def test_network_that_returns_another_shape_is_an_error(tmp_path):
    experiment = experiment_in(tmp_path / "run")
    experiment.set("model", "torch.nn.Linear", in_features=800, out_features=800)
    with pytest.raises(RunError, match=r"the network returns \[2, 800\] for mixtures \[2, 800\]"):
        experiment.run("train")


def test_trainer_has_documented_what_may_change_on_resume():
    assert set(SeparationTrainer.resume_safe) == {"metrics", "save_audio"}


# ------------------------------------------------------------------------------- the command


def test_command_writes_what_the_test_wrote(finished, results):
    mixtures = sorted(results.glob("audio/*_mixture.wav"))
    run = finished[1].folder
    done = CliRunner().invoke(command, [str(run), *map(str, mixtures)], catch_exceptions=False)
    [folder] = run.glob("predict/best_*/0")
    assert len(list(folder.iterdir())) == 2 * len(mixtures) == 8
    for mixture in mixtures:
        written = [mixture.with_name(mixture.name.replace("mixture", str(number))) for number in (1, 2)]
        separated = [folder / f"{mixture.stem}_{number}.wav" for number in (1, 2)]
        for path in separated:
            seconds = f"{audio_info(mixture).seconds:.2f}"
            assert [str(path.relative_to(run)), seconds] in [line.split()[-2:] for line in done.stdout.splitlines()]
        # The test has put the estimates into the order of the sources.
        assert samples(separated) == samples(written)


def test_command_works_for_a_run_that_was_moved(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = finished[1]
    moved = outcome.folder.rename(tmp_path / "moved run")
    try:
        [mixture, *_] = moved.glob("test/best_*/0/audio/*_mixture.wav")
        CliRunner().invoke(command, ["moved run", str(mixture), "--checkpoint", "epoch_0001"], catch_exceptions=False)
        assert {path.name for path in (moved / "predict/epoch_0001/0").iterdir()} == {
            f"{mixture.stem}_1.wav",
            f"{mixture.stem}_2.wav",
        }
    finally:
        moved.rename(outcome.folder)


def test_command_says_what_is_missing(tmp_path):
    with pytest.raises(AudioZenError, match="is not a run folder"):
        CliRunner().invoke(command, [str(tmp_path), "a.wav"], catch_exceptions=False)
