"""Clips have the right recordings, and of a long file the part in which the systems differ most."""

import base64
import io

import numpy as np
import pytest
import soundfile

from audiozen_core.comparison.load_systems import LoadedSystem
from audiozen_core.report.recordings import clip_of, recordings_of
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.scores import Scores
from audiozen_core.results.systems import ScoredSystem

SR = 8000


def system(name, audio, references):
    scores = Scores((MetricInfo("q"),), (FileScores("a", {"q": 1.0}),))
    return LoadedSystem(ScoredSystem(name, (scores,), ("",), (audio,)), (None,), None, (), (None,), references)


def samples(clip, track):
    (found,) = [each for each in clip.tracks if each.name == track]
    return soundfile.read(io.BytesIO(base64.b64decode(found.audio.partition(",")[2])))


@pytest.fixture
def files(tmp_path):
    def write(**waves):
        paths = {}
        for name, given in waves.items():
            wave, sr = given if isinstance(given, tuple) else (given, SR)
            paths[name] = str(tmp_path / f"{name}.wav")
            soundfile.write(paths[name], wave, sr, subtype="FLOAT")
        return paths

    return write


def make(paths, *systems, seconds=2.0, **options):
    return clip_of("a", paths, systems=systems, seconds=seconds, facts={}, notes=options.pop("notes", []))


def test_order_is_what_was_given_then_the_systems_then_the_target():
    one = system("A", {"a": "A.wav"}, {"clean": {"a": "c.wav"}, "noisy": {"a": "n.wav"}})
    two = system("B", {"a": "B.wav"}, {"clean": {"a": "other.wav"}})
    assert recordings_of("a", [one, two]) == {"noisy": "n.wav", "A": "A.wav", "B": "B.wav", "clean": "c.wav"}
    assert recordings_of("b", [one, two]) == {}


def test_each_speaker_of_a_separation_is_a_recording_of_its_own():
    kinds = {"separated_1": "s1", "separated_2": "s2", "source_1": "c1", "source_2": "c2", "mixture": "m"}
    one = system("A", {}, {kind: {"a": path} for kind, path in kinds.items()})
    assert recordings_of("a", [one]) == {"mixture": "m", "A 1": "s1", "A 2": "s2", "source_1": "c1", "source_2": "c2"}


def test_part_in_which_the_systems_differ_most_is_heard(files):
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, SR * 30)
    other = noise.copy()
    other[SR * 21 : SR * 22] += 0.3
    noise[SR * 3 : SR * 4] *= 5  # louder in both, so no difference
    other[SR * 3 : SR * 4] *= 5
    clip = make(files(A=noise, B=other, clean=noise), "A", "B")
    assert clip.begin <= 21
    assert clip.begin + clip.seconds >= 22
    assert (clip.seconds, clip.file_seconds, clip.is_cut) == (2, 30, True)
    begin = round(clip.begin * SR)
    wave, _ = samples(clip, "B")
    np.testing.assert_allclose(wave, other[begin : begin + 2 * SR], atol=2**-15)
    assert clip.notes == ("These are the 2 seconds in which the systems differ most.",)


def test_one_system_is_heard_where_it_differs_most_from_the_target(files):
    clean = np.random.default_rng(0).uniform(-0.1, 0.1, SR * 9)
    output = clean.copy()
    output[SR * 7 : SR * 8] = 0
    clip = make(files(noisy=clean * 2, A=output, clean=clean), "A")
    assert clip.begin <= 7 <= 8 <= clip.begin + clip.seconds
    assert "A differs most from clean" in clip.notes[0]


def test_whole_short_file_is_heard(files):
    clip = make(files(A=np.full(SR, 0.1)), "A")
    assert (clip.begin, clip.seconds, clip.is_cut, clip.notes) == (0, 1, False, ())


def test_other_rates_channels_and_lengths_are_reported(files):
    times = np.arange(2 * SR) / SR
    tone = 0.3 * np.sin(2 * np.pi * 440 * times)
    wide = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * SR) / (2 * SR))
    clip = make(files(A=np.stack([tone, -tone], axis=1), B=(wide, 2 * SR)), "A", "B")
    assert clip.sr == 2 * SR
    first, sr = samples(clip, "A")
    assert sr == 2 * SR
    expected = 0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * SR) / (2 * SR))
    np.testing.assert_allclose(first[500:-500], expected[500:-500], atol=1e-3)
    assert clip.notes == (
        "The sample rates differ: A 8000 Hz and B 16000 Hz.",
        "Only the first channel of A is played.",
        "The lengths differ: A 2.00 s and B 1.50 s.",
    )


def test_broken_file_leaves_the_others(files, tmp_path):
    paths = files(A=np.full(SR, 0.1))
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    clip = make(paths | {"B": str(tmp_path / "broken.wav"), "C": str(tmp_path / "gone.wav")}, "A", "B")
    assert [track.name for track in clip.tracks] == ["A"]
    assert [note.partition(":")[0] for note in clip.notes] == ["B", "C"]


def test_no_recording_is_said_in_words(tmp_path):
    assert make({}, "A") == "the recordings were not saved"
    assert "gone.wav" in make({"A": str(tmp_path / "gone.wav")}, "A")
