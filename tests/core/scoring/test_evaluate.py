"""Folders are scored: in any number of processes, from the cache, with what is wrong told and not averaged."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import shutil
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

import audiozen
from audiozen.metric import SiSdr
from audiozen.model import SDNN
from audiozen_core.audio.writing import write_audio
from audiozen_core.errors import BuildError, DataError, RunError
from audiozen_core.results.reading import read_scores
from audiozen_core.scoring import rated_metrics, worker_pool
from audiozen_core.scoring.evaluate import evaluate
from audiozen_core.scoring.score_cache import FILE
from tests.core.scoring.audio_folders import RATE, noise, write, write_pairs


class Level:
    """A reference-free metric: the level of the file. It counts how often it is called."""

    name, label, unit, higher_is_better = "level", "level", "dB", True
    needs = ()
    calls = 0

    def __call__(self, estimate, reference, *, sr):
        Level.calls += 1
        return 10 * math.log10(float(estimate.square().mean()))


class Drawn(Level):
    def __call__(self, *signals, **more):
        return float(np.random.standard_normal() + torch.randn(()))


class Broken(Level):
    def __init__(self):
        raise FileNotFoundError("weights are missing")


class Trouble(Level):
    """Raises, dies or returns infinity for some files, which it knows by their lengths."""

    name = label = "trouble"

    def __call__(self, estimate, reference, *, sr):
        if len(estimate) == 3001:
            raise ValueError("I don't like it")
        if len(estimate) == 3002:
            os.kill(os.getpid(), signal.SIGKILL)
        return math.inf if len(estimate) == 3003 else 1.0


class Wants16k(Level):
    name = label = "wants_16k"
    sample_rates = (8000, 16000)

    def __call__(self, estimate, reference, *, sr):
        return float(sr)


class Words(Level):
    name = label = "words"
    needs = ("text",)

    def __call__(self, estimate, reference, *, sr, text):
        return float(len(text.split()))


class Gain(Level):
    name = label = "gain"
    needs = ("clean", "noisy")

    def __call__(self, estimate, reference, *, sr, noisy):
        return float((noisy - reference).square().sum() / (estimate - reference).square().sum())


@pytest.fixture
def folders(tmp_path):
    write_pairs(tmp_path)
    return tmp_path / "enhanced", tmp_path / "clean"


@pytest.fixture
def score(folders):
    """Returns a function that scores the two folders in this process, without a cache."""

    def call(**options):
        options = {"metrics": ["si_sdr"], "num_workers": 0, "cache": False, **options}
        return evaluate(*folders, **options)

    return call


def by_id(scores, metric="si_sdr"):
    return {file.id: file.values[metric] for file in scores.files}


def si_sdr(estimate, reference):
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    target = (estimate @ reference) / (reference @ reference) * reference
    return 10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target)))


def test_scores_are_those_of_the_definition_on_the_samples_of_the_files(score, folders):
    for name, value in by_id(score()).items():
        estimate, reference = (soundfile.read(folder / f"{name}.wav", dtype="float64")[0] for folder in folders)
        assert value == pytest.approx(si_sdr(estimate, reference), abs=1e-6)


def test_scores_do_not_depend_on_the_number_of_workers(score):
    alone = score(metrics=["si_sdr", "stoi", "sdr"])
    for workers in (1, 2):
        assert score(metrics=["si_sdr", "stoi", "sdr"], num_workers=workers) == alone


def test_random_numbers_of_a_metric_do_not_depend_on_the_number_of_workers(score):
    before = torch.get_rng_state()
    alone = by_id(score(metrics=[Drawn()]), "level")
    assert len(set(alone.values())) == len(alone) > 1  # each file has its own numbers
    for workers in (1, 2):
        assert by_id(score(metrics=[Drawn()], num_workers=workers), "level") == alone
    assert torch.equal(torch.get_rng_state(), before)


def test_random_metric_has_the_same_score_for_the_same_samples_with_and_without_the_cache(score, folders, tmp_path):
    for folder in folders:
        shutil.copy(folder / "a.wav", folder / "copy.wav")
    plain = by_id(score(metrics=[Drawn()]), "level")
    assert plain["copy"] == plain["a"]
    assert plain["b"] != plain["a"]  # the control: the scores are random
    for _ in range(2):
        assert by_id(score(metrics=[Drawn()], cache=tmp_path / "cache"), "level") == plain


@pytest.mark.parametrize("workers", [-1, 1.5, True, "2"])
def test_wrong_number_of_workers_is_an_error(score, workers):
    with pytest.raises(RunError, match=re.escape(f"`num_workers` is {workers!r}, but must be")):
        score(num_workers=workers)


@pytest.mark.slow
def test_scores_are_the_same_where_processes_can_not_be_forked(score, monkeypatch):
    expected = score()
    monkeypatch.setattr(worker_pool, "_START_METHOD", "spawn")
    assert score(num_workers=1) == expected


def test_python_face_is_the_same_function():
    assert audiozen.evaluate is evaluate


def test_cache_is_used_for_the_same_samples_and_only_for_those(score, folders, tmp_path):
    Level.calls = 0
    first = score(metrics=[Level()], cache=tmp_path / "cache")
    assert Level.calls == 3
    assert score(metrics=[Level()], cache=tmp_path / "cache") == first
    assert Level.calls == 3
    # The same samples under another name and in another format are found, too.
    wave, _ = soundfile.read(folders[0] / "a.wav", dtype="float32")
    write(folders[0] / "a.wav", wave, subtype="DOUBLE")
    score(metrics=[Level()], cache=tmp_path / "cache")
    assert Level.calls == 3
    wave[17] += 1e-3
    write(folders[0] / "a.wav", wave)
    changed = score(metrics=[Level()], cache=tmp_path / "cache")
    assert Level.calls == 4
    assert by_id(changed, "level")["a"] != by_id(first, "level")["a"]
    assert (tmp_path / "cache" / FILE).is_file()


def test_cache_distinguishes_the_arguments_of_a_metric(score, tmp_path):
    class Same(SiSdr):
        def __init__(self, zero_mean):
            super().__init__(zero_mean)
            self.name = "same"

    options = {"cache": tmp_path / "cache"}
    assert by_id(score(metrics=[Same(True)], **options), "same") != by_id(
        score(metrics=[Same(False)], **options), "same"
    )


def test_cache_knows_the_functions_that_a_metric_calls(score, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beside.py").write_text(
        "from in_another_file import value\n\n\nclass Beside:\n    name = label = 'beside'\n    unit = ''\n"
        "    higher_is_better, needs = True, ()\n\n    def __call__(self, estimate, reference, *, sr):\n"
        "        return value()\n"
    )

    def scores(content):
        (tmp_path / "in_another_file.py").write_text(content)
        for name in ("beside", "in_another_file"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        metric = importlib.import_module("beside").Beside()
        return by_id(score(metrics=[metric], cache=tmp_path / "cache"), "beside")["a"]

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert scores("def value():\n    return 1.0\n") == 1.0
    assert scores("def value():\n    return 2.0\n") == 2.0
    # As long as the code is the same, it is not called.
    assert scores("value = (lambda: 3.0)\n") == 3.0
    module = sys.modules["in_another_file"]
    module.value = None
    assert by_id(score(metrics=[sys.modules["beside"].Beside()], cache=tmp_path / "cache"), "beside")["a"] == 3.0


def test_metric_of_the_python_prompt_is_rated_and_not_kept(score, tmp_path, monkeypatch):
    metric = type("Typed", (Level,), {"__module__": "__main__"})()
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    Level.calls = 0
    for _ in range(2):
        assert math.isfinite(by_id(score(metrics=[metric], cache=tmp_path / "cache"), "level")["a"])
    assert Level.calls == 6


def test_metric_that_holds_an_unknown_object_is_not_kept(score, tmp_path):
    metric = Level()
    metric.network = object()
    Level.calls = 0
    for _ in range(2):
        score(metrics=[metric], cache=tmp_path / "cache")
    assert Level.calls == 6


def test_interrupted_evaluation_continues_where_it_stopped(score, tmp_path):
    class Stops(Level):
        name = label = "stops"
        stop = True

        def __call__(self, estimate, reference, *, sr):
            Level.calls += 1
            if Stops.stop and Level.calls == 3:
                raise KeyboardInterrupt
            return 1.0

    Level.calls = 0
    with pytest.raises(KeyboardInterrupt):
        score(metrics=[Stops()], cache=tmp_path / "cache")
    Stops.stop = False
    assert by_id(score(metrics=[Stops()], cache=tmp_path / "cache"), "stops") == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert Level.calls == 4


def test_failing_dying_and_infinite_values_are_missing_and_listed(folders, score):
    for name, length in (("b", 3001), ("c", 3003), ("d", 3002), ("e", 3000)):
        for folder in folders:
            write(folder / f"{name}.wav", noise(5 + len(folder.name), length))
    found = score(metrics=[Trouble(), "si_sdr"], num_workers=2)
    reasons = {file.id: file.reasons.get("trouble") for file in found.files}
    assert "I don't like it" in reasons["b"]
    assert reasons["c"] == "the metric gives inf for this file"
    assert reasons["d"] == "the worker process died (signal SIGKILL)"
    assert (found.mean("trouble").mean, found.mean("trouble").count, found.mean("trouble").missing) == (1.0, 2, 3)
    assert found.mean("si_sdr").count == 5
    assert found.failed == 2
    assert any(line.startswith("`trouble` failed for 2 files") for line in found.findings)


def test_silent_and_equal_files_are_not_averaged(folders, score):
    for name, wave in (("silent", np.zeros(4000)), ("one_sample", noise(1, 1)), ("constant", np.full(4000, 0.5))):
        write(folders[0] / f"{name}.wav", wave)
        write(folders[1] / f"{name}.wav", noise(7, len(wave)))
    for folder in folders:
        write(folder / "same.wav", noise(9))
    found = score(metrics=["si_sdr", Level()])
    reasons = {file.id: file.reasons for file in found.files}
    for name in ("silent", "one_sample", "constant"):
        assert set(reasons[name].values()) <= {"enhanced is silent", "clean is silent"}
        assert set(reasons[name]) == {"si_sdr", "level"}
    assert reasons["same"] == {"si_sdr": "enhanced equals clean"}
    assert (found.mean("si_sdr").count, found.mean("si_sdr").missing) == (3, 4)
    assert (found.mean("level").count, found.failed) == (4, 0)


def test_reason_of_a_missing_value_is_known_from_the_cache_too(folders, score, tmp_path):
    write(folders[0] / "a.wav", np.zeros(4000))
    first = score(cache=tmp_path / "cache")
    again = score(cache=tmp_path / "cache")
    assert first.files[0].reasons == again.files[0].reasons == {"si_sdr": "enhanced is silent"}


def test_lengths_channels_delays_and_signs_are_reported_in_one_line_each(folders, score):
    signals = {name: soundfile.read(folders[0] / f"{name}.wav")[0] for name in "abc"}
    write(folders[0] / "a.wav", signals["a"][:-100])
    write(folders[0] / "b.wav", -np.stack([signals["b"], signals["b"]], axis=1))
    write(folders[0] / "c.wav", np.concatenate([np.zeros(48), signals["c"]])[:4000])
    found = score()
    assert found.findings == (
        "1 of 3 files differ from their partners in length (in samples), and are cut at the end to the shortest: "
        "a (enhanced 3900, clean 4000)",
        "1 of 3 files or their partners have several channels; their mean is rated: b (enhanced 2, clean 1)",
        "1 of 3 files are not aligned with their clean files; `--align` shifts them: c (48 samples or 3.0 ms late)",
        "1 of 3 files have the opposite polarity to their clean files: b",
    )
    assert by_id(found)["a"] > 5
    assert by_id(found)["b"] > 5
    assert by_id(found)["c"] < -10


@pytest.mark.parametrize("delay", [48, -48])
def test_alignment_on_request_gives_the_score_of_the_aligned_signals(folders, score, delay):
    wave, clean = (soundfile.read(folder / "c.wav", dtype="float64")[0] for folder in folders)
    shifted = np.concatenate([np.zeros(48), wave]) if delay > 0 else wave[48:]
    write(folders[0] / "c.wav", shifted[:4000])
    expected = si_sdr(wave[:-48], clean[:-48]) if delay > 0 else si_sdr(wave[48:], clean[48:])
    assert by_id(score(align=True))["c"] == pytest.approx(expected, abs=1e-4)
    assert by_id(score())["c"] < 0


def test_rates_are_refused_or_resampled_on_request(folders, score):
    write(folders[1] / "a.wav", np.repeat(noise(0), 3), 48_000)
    found = score()
    assert found.files[0].reasons == {"si_sdr": "different sample rates (enhanced 16000 Hz and clean 48000 Hz)"}
    assert "are not rated, because `--resample` was not given: a (enhanced 16000, clean 48000)" in found.findings[0]
    resampled = score(resample=True)
    assert math.isfinite(by_id(resampled)["a"])
    assert "are compared at the lower rate" in resampled.findings[0]


def test_mixed_rates_in_a_folder_are_reported_and_each_pair_is_rated_at_its_own(folders, score):
    for folder in folders:
        write(folder / "a.wav", noise(len(folder.name)), 8000)
    found = score(metrics=["si_sdr", Wants16k()])
    assert "the files have several sample rates: 1 at 8000 Hz, 2 at 16000 Hz" in found.findings
    assert by_id(found, "wants_16k") == {"a": 8000.0, "b": 16000.0, "c": 16000.0}
    assert found.metrics[1].described.endswith("8000 and 16000 Hz")
    assert found.metrics[1].identity["rates"] == [8000, 16000]
    assert found.metrics[1].identity["resampled"] == []


def test_metric_of_another_rate_is_left_out_refused_or_given_a_resampled_copy(folders, score):
    for folder in folders:
        for name in "abc":
            write(folder / f"{name}.wav", noise(len(folder.name)), 48_000)
    with pytest.raises(RunError, match="takes 8000 or 16000 Hz, and no file has this rate"):
        score(metrics=["si_sdr", Wants16k()])
    resampled = score(metrics=["si_sdr", Wants16k()], resample=True)
    assert by_id(resampled, "wants_16k")["a"] == 16_000
    assert [metric.identity["resampled"] for metric in resampled.metrics] == [[], [48000]]
    assert resampled.metrics[1].described.endswith("16000 Hz, files of 48000 Hz were resampled")
    default = score(metrics=None)
    assert "si_sdr" in [metric.name for metric in default.metrics]
    assert "dnsmos" in default.left_out


def test_default_metrics_are_those_that_need_only_what_is_given(folders):
    found = evaluate(folders[0], num_workers=0, cache=False, metrics=[Level()])
    assert by_id(found, "level").keys() == {"a", "b", "c"}
    with pytest.raises(RunError, match="the metric `si_sdr` needs clean: give it with `--clean`"):
        evaluate(folders[0], num_workers=0, cache=False, metrics=["si_sdr"])


def test_installed_metrics_that_lack_something_are_left_out_with_the_reason():
    chosen, left_out = rated_metrics.choose_metrics(None, {"clean"})
    names = [metric.metric.name for metric in chosen]
    assert {"si_sdr", "stoi"} <= set(names)
    assert left_out["si_sdr_improvement"] == "needs noisy: give it with `--noisy`"
    networks = [metric.has_network for metric in chosen]
    assert networks == sorted(networks), "metrics with a network come last"
    assert all(metric.key for metric in chosen), "the scores of all of our metrics are kept"


def test_metric_gets_the_noisy_files_and_the_texts(folders, score, tmp_path):
    for name in "abc":
        clean, _ = soundfile.read(folders[1] / f"{name}.wav")
        enhanced, _ = soundfile.read(folders[0] / f"{name}.wav")
        write(tmp_path / "noisy" / f"{name}.wav", clean + 2 * (enhanced - clean))
    (tmp_path / "texts.txt").write_text("a one\nb one two\nc\tone two three\n")
    found = score(metrics=[Gain(), Words()], noisy=tmp_path / "noisy", text=tmp_path / "texts.txt")
    assert by_id(found, "gain")["a"] == pytest.approx(4.0, rel=1e-3)
    assert by_id(found, "words") == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert set(found.sources) == {"enhanced", "clean", "noisy", "text"}


def test_text_that_is_missing_is_listed(score, tmp_path):
    (tmp_path / "texts.txt").write_text("a one\nb two\n")
    with pytest.raises(DataError, match=r"1 of 3 files have no text in .*: c"):
        score(metrics=[Words()], text=tmp_path / "texts.txt")
    found = score(metrics=[Words()], text=tmp_path / "texts.txt", allow_missing=True)
    assert by_id(found, "words").keys() == {"a", "b"}


def test_conditions_of_a_file_group_the_means_and_come_back(score, tmp_path):
    (tmp_path / "conditions.csv").write_text("id,snr,noise\na.wav,0,car\nb.wav,5,car\nc.wav,5,bus\n")
    found = score(by=["snr", "noise"], conditions=tmp_path / "conditions.csv")
    assert {value: [file.id for file in files] for value, files in found.groups("snr").items()} == {
        "0": ["a"],
        "5": ["b", "c"],
    }
    found.write(tmp_path / "out")
    assert read_scores(tmp_path / "out").table() == found.table()
    one = score(metrics="si_sdr", by="snr", conditions=tmp_path / "conditions.csv")
    assert one.conditions == ("snr",)


def test_metrics_with_a_network_are_computed_one_after_another_for_all_files(score, tmp_path):
    (tmp_path / "weights.onnx").touch()
    order = []

    def metric(called, network):
        class Recorded(Level):
            name = label = called
            weights = (tmp_path / "weights.onnx",) if network else ()

            def __call__(self, estimate, reference, *, sr):
                order.append(called)
                return 1.0

        return Recorded()

    score(metrics=[metric("net1", True), metric("a", False), metric("net2", True), metric("b", False)])
    assert order == ["a", "b"] * 3 + ["net1"] * 3 + ["net2"] * 3


def test_broken_plugin_is_left_out_by_default_and_an_error_if_it_is_asked_for(score, monkeypatch):
    here = "tests.core.scoring.test_evaluate"
    installed = [SimpleNamespace(name=name, spelling=f"{here}.{name}") for name in ("Broken", "Level")]
    monkeypatch.setattr(rated_metrics, "installed_index", lambda: SimpleNamespace(entries=lambda kind: installed))
    found = score(metrics=None)
    message = f"the metric `{here}.Broken` can't be built: FileNotFoundError: weights are missing"
    assert found.left_out == {"Broken": message}
    assert [metric.name for metric in found.metrics] == ["level"]
    with pytest.raises(BuildError) as caught:
        score(metrics=[f"{here}.Broken"])
    assert caught.value.message == message
    assert caught.value.notes[0].startswith(f"raised in: {__file__}:")


def test_unknown_metric_names_the_near_ones(score):
    with pytest.raises(Exception, match="si_sdrr") as caught:
        score(metrics=["si_sdrr"])
    assert "si_sdr" in "".join(map(str, (caught.value.remedy, *caught.value.notes)))


def test_noisy_reference_clips_have_the_published_scores(reference):
    published = json.loads((reference / "numbers.json").read_text())
    folder = reference / "vbdmd"
    found = evaluate(folder / "noisy", folder / "clean", metrics=["si_sdr"], num_workers=0, cache=False)
    expected = {name: row["noisy"] for name, row in published["si_sdr_db"].items()}
    assert by_id(found) == pytest.approx(expected, abs=1e-4)
    assert found.mean("si_sdr").mean == pytest.approx(published["mean"]["noisy"], abs=1e-4)
    assert found.findings == ()


@pytest.mark.parametrize("count", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_clips_enhanced_with_published_weights_have_the_published_scores(reference, tmp_path, count):
    network = SDNN().eval()
    network.load_state_dict(load_file(reference / "sdnn" / "intel_ndns_baseline.safetensors"), strict=True)
    folder = reference / "vbdmd"
    window = torch.ones(512)
    for path in sorted((folder / "noisy").glob("*.wav"))[:count]:
        noisy = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        spectrum = torch.stft(noisy, 512, 128, window=window, return_complex=True)
        with torch.inference_mode():
            magnitude = network(spectrum.abs()[None])[0]
        enhanced = torch.istft(torch.polar(magnitude, spectrum.angle()), 512, 128, window=window, length=len(noisy))
        write_audio(tmp_path / path.name, enhanced, RATE, encoding="float")
    found = evaluate(tmp_path, folder / "clean", metrics=["si_sdr"], num_workers=0, cache=False, allow_missing=True)
    published = json.loads((reference / "numbers.json").read_text())
    expected = {name: row["sdnn"] for name, row in published["si_sdr_db"].items() if name in by_id(found)}
    assert len(expected) == count
    assert by_id(found) == pytest.approx(expected, abs=0.05)
    if count == 10:
        assert found.mean("si_sdr").mean == pytest.approx(published["mean"]["sdnn"], abs=0.01)


def test_noisy_file_that_a_metric_needs_is_not_rated_itself(folders, score, tmp_path):
    calls = []

    class Gain(Level):
        needs = ("clean", "noisy")

        def __call__(self, estimate, reference, *, sr, noisy):
            calls.append(bool(torch.equal(estimate, noisy)))
            return 1.0

    shutil.copytree(folders[1], tmp_path / "input")
    for path in (tmp_path / "input").iterdir():
        samples, sr = soundfile.read(path)
        soundfile.write(path, 0.5 * np.roll(samples, 5), sr)
    score(metrics=[Gain()], noisy=tmp_path / "input")
    assert calls == [False, False, False]
