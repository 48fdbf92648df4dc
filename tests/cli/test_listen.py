"""`audiozen listen` on runs as users have them, and `audiozen compare --ratings`."""

from __future__ import annotations

import shutil

import pytest
import soundfile

from audiozen_core.testing.tiny import TinyExperiment, write_pairs
from tests.core.listening.sessions import key_of, write_ratings


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Trains and tests `slow` and `fast`, and `mute`, which keeps no audio."""
    folder = tmp_path_factory.mktemp("runs")
    write_pairs(folder)
    for name, rate, audio in (("slow", 1e-3, True), ("fast", 0.02, True), ("mute", 0.02, False)):
        tiny = TinyExperiment(folder).set("trainer", max_epochs=1, save_enhanced=audio).set("optimizer", lr=rate)
        tiny.values["meta"] |= {"id": name}
        tiny.run("train", "test")
    return folder


@pytest.fixture
def here(runs, tmp_path, monkeypatch):
    shutil.copytree(runs / "exp", tmp_path / "exp")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_become_a_page_whose_ratings_are_compared(audiozen, here):
    done = audiozen("listen", "exp/slow", "new=exp/fast", "-o", "test.html", "--files", "3")
    assert done.code == 0, done.err
    assert "rated: slow, new, noisy, lowpass3500, reference; levels unchanged" in done.out
    assert "length: 3 trials after practice" in done.out
    assert "key: test.key.json, for you only" in done.out
    assert "warning" not in done.err
    key = key_of(here / "test.html")
    for stimulus in key["stimuli"].values():
        if stimulus["path"]:
            kind = {"noisy": "noisy", "reference": "clean"}.get(stimulus["system"], "enhanced")
            assert stimulus["path"].endswith(f"/audio/{stimulus['file']}_{kind}.wav")
            run = {"slow": "exp/slow", "new": "exp/fast"}.get(stimulus["system"], "exp/")
            assert stimulus["path"].startswith(run)
    means = {"slow": 30, "new": 60, "noisy": 10, "lowpass3500": 40, "reference": 100}
    for name in ("a", "b"):
        write_ratings(here, key, name, lambda system, file, scale: means[system])
    done = audiozen("compare", "--ratings", ".", "--baseline", "noisy", "-o", "out", "--intervals")
    assert done.code == 0, done.err
    rows = {line.split()[0]: line.split()[1:3] for line in done.out.splitlines() if line.startswith("   ")}
    assert rows["new"] == ["60.00", "+50.000"]
    assert rows["slow"] == ["30.00", "+20.000"]
    assert "new: exp/fast/test" in done.err
    assert (here / "out/ratings.csv").exists()


def test_run_without_audio_says_what_to_do(audiozen, here):
    done = audiozen("listen", "exp/slow", "exp/mute", "-o", "test.html")
    assert done.code == 2
    assert "have no audio, because the test did not save it" in done.err
    assert "`save_enhanced = true`" in done.err
    assert not (here / "test.html").exists()
    assert not (here / "test.key.json").exists()


def test_runs_that_were_tested_with_other_noise_are_reported(audiozen, here):
    (file,) = here.glob("exp/fast/test/*/0/audio/clip_0_noisy.wav")
    wave, sr = soundfile.read(file)
    soundfile.write(file, -wave, sr)
    done = audiozen("listen", "exp/slow", "exp/fast", "-o", "test.html")
    assert "warning: fast and slow were tested with different noisy recordings: clip_0\n" in done.err
    assert "noisy recording" not in done.err.replace("clip_0\n", "", 1).split("warning: fast")[0]


def test_options_that_do_not_fit_are_errors(audiozen, here):
    for arguments, message in (
        (("compare", "exp/slow", "exp/fast", "--keep-all"), "add --ratings"),
        (("compare", "--ratings", "x.json", "--checkpoint", "best"), "are for scores"),
        (("listen", "exp/slow", "-o", "a.html", "--anchor", "lowpass7000,x"), "`x` is not an anchor"),
        (("listen", "exp/slow:noisy", "-o", "a.html"), "selects the state `noisy`"),
    ):
        done = audiozen(*arguments)
        assert done.code == 2
        assert message in done.err
