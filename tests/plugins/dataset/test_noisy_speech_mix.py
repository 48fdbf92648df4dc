from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from audiozen.dataset import NoisySpeechMix
from audiozen_core.errors import DataError


def measured_snr(sample):
    clean, noise = sample["clean"].double(), (sample["noisy"].double() - sample["clean"].double())
    return 10 * math.log10(clean.square().sum() / noise.square().sum())


def level(wave):
    return 10 * math.log10(wave.double().square().mean())


def same(first, second):
    keys = first.keys() == second.keys()
    return keys and all(
        torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        for key, value in first.items()
    )


@pytest.fixture
def training(manifest):
    return NoisySpeechMix(manifest, split="train", clip_seconds=3.0, snr_range=[-5, 15], level_range=[-30, -20])


@pytest.fixture
def grid(manifest):
    return NoisySpeechMix(manifest, split="test", snrs=[-5, 0, 10], seed=3)


def test_training_clip_has_the_requested_length_snr_and_level(training):
    random.seed(0)
    samples = [training[index] for index in range(60)]

    for sample in samples:
        assert sample["noisy"].shape == sample["clean"].shape == (48000,)
        assert sample["noisy"].dtype == torch.float32
        assert measured_snr(sample) == pytest.approx(sample["snr"], abs=0.01)
        assert sample["noisy"].abs().max() < 1
        assert -30.01 <= level(sample["noisy"]) <= -19.99
    snrs = [sample["snr"] for sample in samples]
    assert min(snrs) < -2
    assert max(snrs) > 12
    assert -5 <= min(snrs) <= max(snrs) <= 15


def test_training_items_depend_only_on_the_global_generator(training):
    random.seed(1)
    first = [training[index] for index in range(4)]
    random.seed(1)
    again = [training[index] for index in range(4)]
    next_epoch = [training[index] for index in range(4)]

    assert all(same(one, two) for one, two in zip(first, again, strict=True))
    assert not any(same(one, two) for one, two in zip(first, next_epoch, strict=True))


def test_training_uses_every_voice_and_most_noises(training):
    random.seed(0)
    ids = [training[index % len(training)]["id"] for index in range(300)]

    assert {name.split("-")[0] for name in ids} == {"allison", "carlo"}
    assert len({name.split("__")[1] for name in ids}) > 70


def test_joined_utterances_have_the_same_voice(training):
    random.seed(0)
    draws = [training.draw(index) for index in range(200)]

    joined = [draw for draw in draws if len(draw.speech) > 1]
    assert joined
    for draw in joined:
        assert len({training.speech.recordings[index].voice for index, _, _ in draw.speech}) == 1


def test_a_grid_mixes_each_utterance_with_one_noise_at_every_snr(grid):
    assert len(grid) == 3 * len(grid.speech)
    for index in range(0, 30, 3):
        samples = [grid[index + place] for place in range(3)]
        assert [sample["snr"] for sample in samples] == [-5, 0, 10]
        assert [measured_snr(sample) for sample in samples] == pytest.approx([-5, 0, 10], abs=0.01)
        assert len({sample["id"].rsplit("__", 1)[0] for sample in samples}) == 1
        noises = [(sample["noisy"] - sample["clean"]).numpy() for sample in samples]
        assert np.corrcoef(noises)[0, 1:] == pytest.approx(1.0, abs=1e-4)


def test_grid_uses_all_noises_about_equally_often(grid):
    noises = Counter(grid.draw(index).noise for index in range(len(grid)))

    assert len(noises) == len(grid.noise)
    assert max(noises.values()) - min(noises.values()) <= 3


def test_utterances_are_not_cut_without_a_clip_length(grid):
    assert [len(grid[index * 3]["clean"]) for index in range(len(grid.speech))] == list(grid.speech.lengths)


def test_fixed_items_do_not_depend_on_the_global_generator(grid, manifest):
    random.seed(0)
    first = [grid[index] for index in range(0, len(grid), 7)]
    random.seed(99)
    other = NoisySpeechMix(manifest, split="test", snrs=[-5, 0, 10], seed=3)
    again = [other[index] for index in range(0, len(grid), 7)]

    assert all(same(one, two) for one, two in zip(first, again, strict=True))
    state = random.getstate()
    grid[0]
    assert random.getstate() == state


def test_another_seed_gives_different_fixed_items(grid, manifest):
    other = NoisySpeechMix(manifest, split="test", snrs=[-5, 0, 10], seed=4)

    assert not any(same(grid[index], other[index]) for index in range(0, 60, 3))


def test_ids_of_a_fixed_set_are_unique_and_contain_voice_noise_and_snr(grid):
    ids = [grid[index]["id"] for index in range(len(grid))]

    assert len(set(ids)) == len(ids)
    assert ids[0].startswith("ivrvoice_ru-ru_")
    assert ids[0].endswith("__snr-5")
    assert not set("".join(ids)) & set('/\\:*?"<>| ')


def test_a_fixed_range_gives_fixed_items(manifest):
    data = NoisySpeechMix(manifest, split="validate", snr_range=[0, 10], fixed=True, clip_seconds=2.0)

    assert same(data[5], data[5])
    assert data[5]["clean"].shape == (32000,)
    assert data[5]["snr"] != data[6]["snr"]


def test_items_fewer_than_utterances_are_spread_over_the_utterances(manifest):
    data = NoisySpeechMix(manifest, split="test", snrs=[0, 5], items_per_epoch=20)

    utterances = [data.draw(index).speech[0][0] for index in range(len(data))]

    assert len(data) == 20
    assert utterances[::2] == utterances[1::2]
    assert len(set(utterances)) == 10
    assert max(utterances) > 0.8 * len(data.speech)


def test_items_are_unique_even_if_there_are_more_than_utterances(manifest):
    data = NoisySpeechMix(manifest, split="test", snrs=[0], items_per_epoch=74)

    assert len({data[index]["id"] for index in range(74)}) == 74


def test_items_from_files_equal_items_from_the_cache(manifest):
    arguments = {"split": "validate", "snrs": [5], "clip_seconds": 2.5}
    cached = NoisySpeechMix(manifest, **arguments)
    from_disk = NoisySpeechMix(manifest, **arguments, cache_mb=0)

    assert cached.speech.cached
    assert not from_disk.speech.cached
    assert all(same(cached[index], from_disk[index]) for index in range(10))


def test_forked_workers_give_the_same_batches(grid):
    plain = list(DataLoader(grid, batch_size=16, collate_fn=grid.collate_fn))
    forked = list(
        DataLoader(grid, batch_size=16, collate_fn=grid.collate_fn, num_workers=2, multiprocessing_context="fork")
    )

    assert len(plain) == len(forked)
    assert all(same(one, two) for one, two in zip(plain, forked, strict=True))


def test_two_folders_can_replace_a_manifest(manifest):
    corpus = manifest.parent
    data = NoisySpeechMix(speech_dir=corpus / "speech", noise_dir=corpus / "noise", clip_seconds=1.0, items_per_epoch=5)

    sample = data[0]

    assert len(data) == 5
    assert sample["clean"].shape == (16000,)
    assert measured_snr(sample) == pytest.approx(sample["snr"], abs=0.01)
    assert {recording.voice for recording in data.speech.recordings} >= {"allison", "carlo", "june"}


def test_long_noise_is_cut_and_short_noise_is_looped(write, tmp_path):
    write("speech/a.wav", seconds=1.0)
    long = write("noise/long.wav", seconds=5.0)
    data = NoisySpeechMix(speech_dir=tmp_path / "speech", noise_dir=long.parent, snrs=[0])
    noise = (data[0]["noisy"] - data[0]["clean"]).numpy()
    start = data.draw(0).noise_start
    assert np.corrcoef(noise, data.noise.read(0, start, 16000))[0, 1] > 0.999
    long.unlink()

    write("noise/short.wav", seconds=0.3)
    data = NoisySpeechMix(speech_dir=tmp_path / "speech", noise_dir=long.parent, snrs=[0])
    noise = (data[0]["noisy"] - data[0]["clean"]).numpy()
    period = 4800 - 320
    assert np.corrcoef(noise[:-period], noise[period:])[0, 1] > 0.999


@pytest.mark.parametrize("speed", [None, 0.8, 1.25])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_speed_changes_the_pitch_of_speech_and_noise(write, tmp_path, speed, clip):
    time = np.arange(16000) / 16000
    write("speech/a.wav", wave=0.5 * np.sin(2 * np.pi * 400 * time))
    write("noise/b.wav", wave=0.5 * np.sin(2 * np.pi * 1000 * time))
    data = NoisySpeechMix(
        speech_dir=tmp_path / "speech", noise_dir=tmp_path / "noise", clip_seconds=clip, snr_range=[3, 3],
        speed_range=speed and [speed, speed],
    )  # fmt: skip
    sample = data[0]
    length = 8000 if clip else round(16000 / (speed or 1))
    assert sample["clean"].shape == sample["noisy"].shape == (length,)
    assert measured_snr(sample) == pytest.approx(3, abs=0.01)
    for wave, hertz in ((sample["clean"], 400), (sample["noisy"] - sample["clean"], 1000)):
        peak = np.abs(np.fft.rfft(wave.numpy(), 16000)).argmax()
        assert peak == pytest.approx(hertz * (speed or 1), abs=2)


def test_speeds_are_drawn_from_the_whole_range(manifest):
    data = NoisySpeechMix(manifest, split="train", clip_seconds=1.0, speed_range=[0.9, 1.1])
    random.seed(0)
    lengths = [data.draw(0).source_length for _ in range(300)]
    assert (min(lengths), max(lengths)) == (14400, 17600)
    assert len(set(lengths)) == 21


def test_silent_segments_are_replaced_by_new_draws(write, tmp_path):
    half_silent = np.concatenate([np.full(40000, 2**-15), np.random.default_rng(0).uniform(-0.5, 0.5, 8000)])
    write("speech/a.wav", wave=half_silent)
    write("noise/b.wav")
    data = NoisySpeechMix(
        speech_dir=tmp_path / "speech", noise_dir=tmp_path / "noise", clip_seconds=0.5, snr_range=[0, 0], fixed=True,
        items_per_epoch=30,
    )  # fmt: skip

    assert all(measured_snr(data[index]) == pytest.approx(0, abs=0.01) for index in range(30))


def test_iteration_over_the_data_set_ends(grid):
    assert sum(1 for _ in grid) == len(grid)
    with pytest.raises(IndexError):
        grid[-1]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({}, "given: nothing"),
        ({"manifest": "{manifest}", "speech_dir": "x"}, "given: `manifest`, `speech_dir`"),
        ({"speech_dir": "x"}, "given: `speech_dir`"),
        ({"speech_dir": "x", "noise_dir": "y", "split": "train"}, "given: `split`, `speech_dir`, `noise_dir`"),
        ({"speech_dir": "nowhere", "noise_dir": "y"}, "the folder `nowhere` does not exist"),
        ({"manifest": "nowhere.csv", "split": "train"}, r"the manifest `nowhere\.csv` does not exist"),
        ({"manifest": "{manifest}", "split": "dev"}, "no speech in the split `dev`(.|\n)*test, train, validate"),
        ({"manifest": "{manifest}", "snrs": [0], "snr_range": [0, 1]}, "both `snr_range` and `snrs`"),
        ({"manifest": "{manifest}", "snrs": []}, r"`snrs` is \[\]"),
        ({"manifest": "{manifest}", "snrs": [math.nan]}, r"`snrs` is \[nan\]"),
        ({"manifest": "{manifest}", "snr_range": [5, 0]}, r"`snr_range` is \[5, 0\]"),
        ({"manifest": "{manifest}", "snr_range": [0, math.inf]}, r"`snr_range` is \[0, inf\]"),
        ({"manifest": "{manifest}", "level_range": [-20]}, r"`level_range` is \[-20\]"),
        ({"manifest": "{manifest}", "speed_range": [1.1, 0.9]}, r"`speed_range` is \[1\.1, 0\.9\]"),
        ({"manifest": "{manifest}", "speed_range": [1]}, r"`speed_range` is \[1\]"),
        ({"manifest": "{manifest}", "speed_range": [0, 1]}, r"`speed_range.*` is 0"),
        ({"manifest": "{manifest}", "clip_seconds": 0}, "`clip_seconds` is 0"),
        ({"manifest": "{manifest}", "clip_seconds": math.inf}, "`clip_seconds` is inf"),
        ({"manifest": "{manifest}", "items_per_epoch": 0}, "`items_per_epoch` is 0"),
        ({"manifest": "{manifest}", "sr": 8000}, "has a sample rate of 16000 Hz, but 8000 Hz is needed"),
    ],
)
def test_error_names_an_invalid_argument(arguments, what, manifest):
    given = {key: manifest if value == "{manifest}" else value for key, value in arguments.items()}

    with pytest.raises(DataError, match=what):
        NoisySpeechMix(**given)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "has no column `file`, `role`"),
        ("file,role,voice,split\na.wav,speech,v,train\n", "has no column `kind`"),
        ("file,role,voice,kind,split\na.wav,speech\n", "line 2 of .* has too few values"),
        (
            "file,role,voice,kind,split\nmissing.wav,speech,v,en,train\nb.wav,noise,,x,train\n",
            r"the audio file `.*missing.*` does not exist",
        ),
        ("file,role,voice,kind,split\na.wav,speech,v,en,train\n", "lists no noise\n"),
        (
            "file,role,voice,kind,split\na.wav,speech,v,en,train\nb.wav,noise,,x,dev\n",
            "no noise in the split `train`\n.*choose a split that has noise: dev",
        ),
        ("file,role,voice,kind,split\na.wav,speech,a/b,en,train\n", "line 2 of .*: the voice `a/b` contains `/`"),
        (
            "file,role,voice,kind,split\na.wav,speech,v,en/gb,train\nb.wav,noise,v,../x,train\n",
            r"line 3 of .*: the kind `\.\./x` contains `/`",
        ),
    ],
)
def test_error_names_an_invalid_manifest(text, what, tmp_path):
    (tmp_path / "manifest.csv").write_text(text)

    with pytest.raises(DataError, match=what) as error:
        NoisySpeechMix(tmp_path / "manifest.csv", split="train")
    assert str(tmp_path) in str(error.value)


def test_unreadable_manifest_is_an_error_with_the_reason(tmp_path):
    (tmp_path / "latin.csv").write_bytes("file,role,voice,kind,split\nä.wav,speech,v,en,train\n".encode("latin-1"))

    with pytest.raises(DataError, match=r"latin\.csv` is not in UTF-8") as encoding_error:
        NoisySpeechMix(tmp_path / "latin.csv")
    assert "save it in UTF-8" in str(encoding_error.value)
    with pytest.raises(DataError, match="can't be read: Is a directory") as system_error:
        NoisySpeechMix(tmp_path)
    assert "UTF-8" not in str(system_error.value)


def test_a_manifest_with_a_byte_order_mark_and_quoted_names_is_read(write, tmp_path):
    write("my, speech.wav")
    write("n.wav", seconds=0.5)
    text = '\ufefffile,role,voice,kind,split\r\n"my, speech.wav",speech,v,en,train\r\nn.wav,noise,,x,train\r\n'
    (tmp_path / "manifest.csv").write_bytes(text.encode())

    assert len(NoisySpeechMix(tmp_path / "manifest.csv", split="train")) == 1


def test_error_names_a_silent_recording(write, tmp_path):
    write("speech/a.wav")
    write("noise/quiet.wav", wave=np.zeros(1000))

    with pytest.raises(DataError, match=r"quiet\.wav` is silent"):
        NoisySpeechMix(speech_dir=tmp_path / "speech", noise_dir=tmp_path / "noise")
    data = NoisySpeechMix(speech_dir=tmp_path / "speech", noise_dir=tmp_path / "noise", cache_mb=0)
    with pytest.raises(DataError, match=r"silent; the last draw used .*a\.wav.*quiet\.wav"):
        data[0]
