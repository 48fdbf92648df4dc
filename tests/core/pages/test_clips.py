"""A clip has the audio that it was made from, at one scale, and cut at the same moment."""

import base64
import io

import numpy as np
import pytest
import soundfile

from audiozen_core.pages.clips import make_clip

SR = 8000


def decoded(address):
    kind, _, content = address.partition(";base64,")
    assert kind in {"data:audio/flac", "data:image/webp"}
    return io.BytesIO(base64.b64decode(content))


def audio_of(track):
    return soundfile.read(decoded(track.audio))


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).uniform(-0.5, 0.5, SR * 4)


def test_audio_is_that_of_each_system(noise):
    clip = make_clip("a", {"noisy": noise, "clean": noise / 3}, SR)
    for track, wave in zip(clip.tracks, (noise, noise / 3), strict=True):
        samples, sr = audio_of(track)
        assert sr == SR
        np.testing.assert_allclose(samples, wave, atol=2**-15)
    assert (clip.seconds, clip.begin, clip.is_cut) == (4, 0, False)
    assert clip.size > len(clip.tracks[0].audio)


@pytest.mark.parametrize(("centre", "begin"), [(None, 1.5), (2.5, 2), (0, 0), (4, 3)])
def test_long_file_is_cut_for_all_systems_at_the_same_moment(noise, centre, begin):
    clip = make_clip("a", {"noisy": noise, "clean": -noise}, SR, seconds=1, centre=centre)
    assert (clip.seconds, clip.begin, clip.file_seconds, clip.is_cut) == (1, begin, 4, True)
    expected = noise[round(begin * SR) :][:SR]
    np.testing.assert_allclose(audio_of(clip.tracks[0])[0], expected, atol=2**-15)
    np.testing.assert_allclose(audio_of(clip.tracks[1])[0], -expected, atol=2**-15)


def test_shorter_system_is_silent_afterwards(noise):
    clip = make_clip("a", {"noisy": noise, "short": noise[:SR]}, SR)
    samples, _ = audio_of(clip.tracks[1])
    assert samples.size == noise.size
    assert samples[:SR].any()
    assert not samples[SR:].any()


def test_gain_gives_the_loudness_of_the_first_without_clipping(noise):
    clip = make_clip(
        "a", {"noisy": noise, "quiet": noise / 4, "peaky": np.where(np.arange(noise.size) == 9, 0.9, 0)}, SR
    )
    first, quiet, peaky = clip.tracks
    assert first.gain == pytest.approx(1)
    assert quiet.gain == pytest.approx(4, rel=1e-5)
    assert peaky.gain == pytest.approx(1 / 0.9)


def test_recordings_louder_than_full_scale_are_played_quieter_together(noise):
    clip = make_clip("a", {"noisy": noise, "loud": noise * 4}, SR)
    np.testing.assert_allclose(audio_of(clip.tracks[0])[0], noise / clip_peak(noise * 4), atol=2**-15)
    np.testing.assert_allclose(audio_of(clip.tracks[1])[0], noise * 4 / clip_peak(noise * 4), atol=2**-14)
    assert clip.tracks[1].peak == pytest.approx(1)
    assert clip.notes == ("All recordings are played 6.0 dB quieter, because loud is louder than full scale.",)
    assert not make_clip("a", {"noisy": noise}, SR).notes


def test_broken_recording_leaves_the_others_audible(noise):
    clip = make_clip("a", {"noisy": noise, "broken": noise * 1e4}, SR)
    np.testing.assert_allclose(audio_of(clip.tracks[0])[0], noise / 4, atol=2**-15)
    assert clip.tracks[1].peak > 1000


def clip_peak(wave):
    return float(np.abs(wave.astype(np.float32)).max())


def test_what_is_not_finite_is_counted_and_silent(noise):
    wave = noise.copy()
    wave[100:103] = np.nan, np.inf, -np.inf
    track = make_clip("a", {"broken": wave}, SR).tracks[0]
    assert track.not_finite == 3
    assert track.peak <= 0.5
    assert not audio_of(track)[0][100:103].any()


def test_silence_and_one_sample():
    clip = make_clip("a", {"silent": np.zeros(1), "one": np.ones(1)}, SR)
    assert [track.gain for track in clip.tracks] == [1, 1]
    assert [audio_of(track)[0].size for track in clip.tracks] == [1, 1]


def test_stereo_is_refused():
    with pytest.raises(ValueError, match=r"waveforms \[time\]"):
        make_clip("a", {"stereo": np.zeros((2, 100))}, SR)


def test_pictures_have_one_scale(noise):
    from PIL import Image

    clip = make_clip("a", {"loud": noise, "quiet": noise / 100}, SR)
    loud, quiet = (np.asarray(Image.open(decoded(track.picture)).convert("L")).mean() for track in clip.tracks)
    assert quiet < loud / 2
    alone = make_clip("a", {"quiet": noise / 100}, SR)
    assert np.asarray(Image.open(decoded(alone.tracks[0].picture)).convert("L")).mean() == pytest.approx(loud, rel=0.05)
