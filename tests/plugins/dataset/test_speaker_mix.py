"""Mixtures of speakers, made on the fly."""

from __future__ import annotations

import math
import random

import pytest
import torch

from audiozen.dataset import SpeakerMix
from audiozen_core.errors import DataError
from audiozen_core.testing.dataset import check_dataset


def sources(sample):
    return [wave for key, wave in sample.items() if key.startswith("source_")]


def level(wave):
    """Returns the RMS in dB, without the silence after the end."""
    spoken = wave[: int(wave.nonzero().max()) + 1].double()
    return 10 * math.log10(spoken.square().mean())


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


@pytest.fixture
def speech(write, tmp_path):
    """Writes two files of different lengths for each of four speakers."""
    for speaker, seconds in (("ann", 0.5), ("ben", 0.3), ("cat", 0.4), ("dan", 0.2)):
        write(f"speech/{speaker}/one.wav", seconds=seconds)
        write(f"speech/{speaker}/two_.wav", seconds=seconds + 0.1)
    return tmp_path / "speech"


@pytest.mark.parametrize("count", [2, 3, 4])
def test_speakers_are_different_and_add_up_to_the_mixture(speech, count):
    data = SpeakerMix(speech_dir=speech, num_speakers=count, clip_seconds=0.25)
    random.seed(0)
    for index in range(len(data)):
        sample = data[index]
        assert list(sample) == ["id", "noisy", *(f"source_{number}" for number in range(1, count + 1)), "sr"]
        assert len({name.split("-")[0] for name in sample["id"].split("__")[:count]}) == count
        assert {wave.shape for wave in (sample["noisy"], *sources(sample))} == {(4000,)}
        assert torch.allclose(sum(sources(sample)), sample["noisy"], atol=1e-6)
        assert sample["noisy"].dtype == torch.float32
        assert sample["noisy"].abs().max() < 1


@pytest.mark.parametrize("length", ["min", "max"])
def test_levels_differ_by_the_drawn_gains_and_the_mixture_has_its_level(speech, length):
    options = {"length": length, "gain_range": [-4, 4], "level_range": [-30, -25]}
    data = SpeakerMix(speech_dir=speech, fixed=True, **options)
    differences = []
    for index in range(len(data)):
        draw, sample = data.draw(index), data[index]
        one, two = map(level, sources(sample))
        assert one - two == pytest.approx(draw.gains[0] - draw.gains[1], abs=0.01)
        assert 10 * math.log10(sample["noisy"].double().square().mean()) == pytest.approx(draw.level, abs=0.01)
        differences.append(one - two)
    assert max(map(abs, differences)) > 2


def test_min_ends_with_the_shortest_and_max_with_the_longest_speaker(speech):
    shortest = SpeakerMix(speech_dir=speech, num_speakers=4, fixed=True, length="min")
    longest = SpeakerMix(speech_dir=speech, num_speakers=4, fixed=True, length="max")
    for index in range(len(shortest)):
        chosen = [segments[0].utterance for segments in shortest.draw(index).speakers]
        lengths = [shortest.speech.lengths[utterance] for utterance in chosen]
        assert [len(wave) for wave in sources(shortest[index])] == [min(lengths)] * 4
        padded = sources(longest[index])
        assert [len(wave) for wave in padded] == [max(lengths)] * 4
        assert [int(wave.nonzero().max()) + 1 for wave in padded] == lengths


def test_clip_is_filled_by_the_same_voice_with_min_and_by_silence_with_max(speech):
    options = {"speech_dir": speech, "clip_seconds": 1.0, "fixed": True}
    full, padded = SpeakerMix(**options), SpeakerMix(**options, length="max")
    for index in range(len(full)):
        for segments in full.draw(index).speakers:
            assert len({full.speech.recordings[segment.utterance].voice for segment in segments}) == 1
            assert len(segments) > 1
        assert all(wave[-8000:].any() for wave in sources(full[index]))
        assert all(len(wave) == 16000 and not wave[-4000:].any() for wave in sources(padded[index]))


def test_training_items_depend_only_on_the_global_generator(speech):
    data = SpeakerMix(speech_dir=speech, clip_seconds=0.1)
    random.seed(1)
    first = [data[index] for index in range(4)]
    random.seed(1)
    again = [data[index] for index in range(4)]
    later = [data[index] for index in range(4)]
    assert all(same(one, two) for one, two in zip(first, again, strict=True))
    assert not any(same(one, two) for one, two in zip(first, later, strict=True))


def test_fixed_items_depend_only_on_the_seed(speech):
    data, again, other = (SpeakerMix(speech_dir=speech, fixed=True, seed=seed) for seed in (0, 0, 1))
    assert all(same(data[index], again[index]) for index in range(8))
    assert not all(same(data[index], other[index]) for index in range(8))
    # Each utterance is that of the first speaker once.
    assert sorted(data.draw(index).speakers[0][0].utterance for index in range(8)) == list(range(8))


@pytest.mark.parametrize("options", [{"fixed": True}, {}])
def test_ids_are_unique(speech, options):
    data = SpeakerMix(speech_dir=speech, items_per_epoch=30, clip_seconds=0.1, **options)
    assert len({data[index]["id"] for index in range(30)}) == 30


def test_fewer_fixed_items_are_spread_over_the_speakers(speech):
    data = SpeakerMix(speech_dir=speech, items_per_epoch=4, fixed=True)
    assert [data[index]["id"].split("-")[0] for index in range(4)] == ["ann", "ben", "cat", "dan"]


def test_corpus_is_mixed_from_its_manifest(manifest):
    data = SpeakerMix(manifest, split="train", clip_seconds=1.0)
    random.seed(0)
    names = data[0]["id"].split("__")
    assert {names[0].split("-")[0], names[1].split("-")[0]} == {"allison", "carlo"}
    assert len(data) == 146


def test_fewer_speakers_than_asked_are_one_error(speech, manifest):
    with pytest.raises(DataError, match=r"speech of 4 speakers \(`ann`, `ben`, `cat`.*\), but a mixture needs 5"):
        SpeakerMix(speech_dir=speech, num_speakers=5)
    with pytest.raises(DataError, match=r"in the split `validate` has speech of 1 speaker \(`june`\)"):
        SpeakerMix(manifest, split="validate")


def test_silent_speaker_is_an_error_that_names_the_files(write, tmp_path, speech):
    write("quiet/a/x.wav", seconds=0.2)
    write("quiet/b/y.wav", wave=1e-4 * torch.ones(3200).numpy())
    with pytest.raises(
        DataError, match=r"random mixtures in a row had a silent speaker; the last one was from .*y\.wav"
    ):
        SpeakerMix(speech_dir=tmp_path / "quiet", fixed=True)[0]


def test_items_that_are_drawn_again_have_ids_of_their_own(write, tmp_path):
    write("some/a/one.wav", wave=1e-4 * torch.ones(3200).numpy())
    write("some/a/two.wav", seconds=0.2)
    write("some/b/one.wav", seconds=0.2)
    data = SpeakerMix(speech_dir=tmp_path / "some", fixed=True)
    # Without its draw, the first item would have the ID of the second one.
    ids = [data[index]["id"] for index in range(len(data))]
    assert [name.split("__draw")[0] for name in ids[:2]] == ["a-two__b-one"] * 2
    assert len(set(ids)) == len(ids) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "don't say where the speech is"),
        ({"speech_dir": "speech", "split": "train"}, "don't say where the speech is"),
        ({"speech_dir": "speech", "gain_range": [3, -3]}, "`gain_range` is"),
        ({"speech_dir": "speech", "num_speakers": 1}, "num_speakers"),
    ],
)
def test_arguments_that_contradict_each_other_are_errors(options, message):
    with pytest.raises(DataError, match=message):
        SpeakerMix(**options)


def test_batches_do_not_depend_on_the_number_of_workers(speech):
    check_dataset(lambda: SpeakerMix(speech_dir=speech, clip_seconds=0.05, items_per_epoch=4), num_workers=1)
