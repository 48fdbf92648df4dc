from __future__ import annotations

import numpy as np
import pytest
import torch

from audiozen_core.audio.writing import write_audio
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.audio_folder import AudioFolder
from audiozen_plugins.dataset.collate import collate_read, pad_collate


def sample(name, length, **more):
    return {"id": name, "noisy": torch.ones(length), "clean": torch.full((length,), 2.0), "sr": 16000, **more}


def test_shorter_waves_are_padded_with_zeros_at_their_end():
    batch = pad_collate([sample("a", 3, snr=5.0), sample("b", 5, snr=-1.5)])

    assert batch["id"] == ["a", "b"]
    assert batch["noisy"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["clean"].tolist() == [[2, 2, 2, 0, 0], [2, 2, 2, 2, 2]]
    assert batch["length"].tolist() == [3, 5]
    assert batch["length"].dtype == torch.int64
    assert batch["snr"].tolist() == [5.0, -1.5]
    assert batch["sr"] == 16000


def test_clean_and_snr_are_optional():
    batch = pad_collate([{"id": "a", "noisy": torch.ones(2), "sr": 8000}])

    assert batch.keys() == {"id", "noisy", "length", "sr"}


def test_values_of_other_keys_are_collated():
    first = sample("a", 2, feature=torch.ones(2, 3), label=1, text="one")
    second = sample("b", 2, feature=torch.zeros(2, 3), label=2, text="two")

    batch = pad_collate([first, second])

    assert batch["feature"].shape == (2, 2, 3)
    assert batch["label"].tolist() == [1, 2]
    assert batch["text"] == ["one", "two"]


def test_further_signals_have_lengths_of_their_own():
    batch = pad_collate([sample("a", 3, enrolment=torch.ones(2)), sample("b", 5, enrolment=np.ones(4, np.float32))])
    assert batch["length"].tolist() == [3, 5]
    assert batch["enrolment"].shape == (2, 4)
    assert batch["enrolment_length"].tolist() == [2, 4]
    with pytest.raises(
        DataError, match="the samples contain `enrolment_length`, which differs from the length of their"
    ):
        pad_collate([sample("a", 3, enrolment=torch.ones(2), enrolment_length=3)])


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"id": "b", "noisy": torch.ones(3), "sr": 16000}, "only one of them has clean"),
        (sample("b", 3) | {"sr": 8000}, "`b` has a sample rate of 8000 Hz, but `a` has 16000 Hz"),
        (sample("b", 3) | {"clean": torch.ones(2)}, "`b`: the noisy wave has 3 samples, but the clean wave has 2"),
    ],
)
def test_error_names_samples_that_do_not_fit_together(other, what):
    with pytest.raises(DataError, match=what):
        pad_collate([sample("a", 3), other])


@pytest.mark.parametrize(
    "wave",
    [
        np.linspace(-1, 1, 5, dtype=np.float32),
        np.linspace(-1, 1, 5),
        np.linspace(-1, 1, 5).astype(">f4"),
        np.linspace(1, -1, 5)[::-1],
        torch.linspace(-1, 1, 5, dtype=torch.float64),
    ],
)
def test_waves_of_floats_become_float32_without_a_change(wave):
    batch = pad_collate([{"id": "a", "noisy": wave, "clean": wave}])
    assert batch["noisy"].dtype == batch["clean"].dtype == torch.float32
    assert batch["noisy"].tolist() == [[-1, -0.5, 0, 0.5, 1]]


def test_a_batch_has_a_copy_of_an_array():
    wave = np.zeros(3, dtype=np.float32)
    batch = pad_collate([{"noisy": wave}])
    wave[0] = 9
    assert batch["noisy"].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("wave", "what", "remedy"),
    [
        (np.zeros(4, dtype=np.int16), "a NumPy array, int16 [4]", "divide int16 by 32768"),
        (torch.zeros(4, dtype=torch.int16), "int16 [4]", "divide int16 by 32768"),
        (torch.zeros(4, dtype=torch.bool), "bool [4]", "scale"),
        (torch.zeros(4, dtype=torch.complex64), "complex64 [4]", "spectrogram"),
        (torch.zeros(4, 2), "float32 [4, 2]", "`wave[:, 0]` of [time, channels]"),
        (torch.zeros(1, 4), "float32 [1, 4]", "`wave[0]` of [channels, time]"),
        (torch.zeros(0), "float32 [0]", "at least one"),
        (torch.zeros(()), "float32 []", "tensor"),
        (None, "None", "tensor"),
        ([0.0, 0.5], "a list of (float, float)", "tensor"),
        ("a.wav", "str", "tensor"),
    ],
)
@pytest.mark.parametrize("key", ["noisy", "clean"])
def test_error_names_sample_and_key_of_a_wave_of_another_form(key, wave, what, remedy):
    with pytest.raises(DataError) as caught:
        pad_collate([sample("a", 4), sample("b", 4) | {key: wave}])
    assert caught.value.message == f"`{key}` of `b` is {what}, but must be floats of the shape [time]"
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (None, "the sample at position 2 of the batch is None, but `pad_collate` needs dicts"),
        (
            (torch.ones(3), torch.ones(3)),
            r"the sample at position 2 of the batch is a tuple of \(float32 \[3\], float32 \[3\]\)",
        ),
        (sample("b", 3) | {"id": None}, "`id` of `None` is None"),
        (sample("b", 3) | {"sr": "16k"}, "`sr` of `b` is str: '16k'"),
        (sample("b", 3) | {"sr": 16000.5}, "`sr` of `b` is float: 16000.5"),
        (sample("b", 3) | {"snr": "loud"}, "`snr` of `b` is str, but float of `a`"),
        (sample("b", 3) | {"snr": None}, "`snr` of `b` is None, but float of `a`"),
        (sample("b", 3) | {"snr": True}, "`snr` of `b` is bool, but float of `a`"),
    ],
)
def test_error_describes_a_sample_of_another_form(other, what):
    with pytest.raises(DataError, match=what):
        pad_collate([sample("a", 3, **({"snr": 1.0} if isinstance(other, dict) and "snr" in other else {})), other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.ones(2, 3), torch.ones(3, 3)),
        (torch.ones(2), torch.ones(2, 1)),
        (torch.ones(2, dtype=torch.int64), torch.full((2,), 1.5)),
        (np.ones(2, dtype=np.float32), np.ones(2)),
        (torch.ones(2), [1.0, 1.0]),
    ],
)
def test_tensors_that_would_be_cast_or_cannot_be_joined_are_refused(one, other):
    with pytest.raises(DataError, match=r"`feature` of `b` is .*, but .* of `a`"):
        pad_collate([sample("a", 2, feature=one), sample("b", 2, feature=other)])


def test_numbers_of_numpy_and_whole_numbers_of_decibels_are_accepted():
    samples = [sample("a", 2, snr=np.float32(2.5), label=np.int64(3)), sample("b", 2, snr=5, label=torch.tensor(4))]
    batch = pad_collate([item | {"sr": np.int32(16000), "id": index} for index, item in enumerate(samples)])
    assert batch["snr"].dtype == torch.float32
    assert batch["snr"].tolist() == [2.5, 5]
    assert batch["label"].tolist() == [3, 4]
    assert (batch["sr"], batch["id"]) == (16000, ["0", "1"])


def test_only_dicts_are_needed():
    batch = pad_collate([{"x": torch.ones(3), "y": 1}, {"x": torch.ones(2), "y": 2}])
    assert batch["x"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["length"].tolist() == [3, 2]
    assert pad_collate([{"y": 1}]).keys() == {"y"}


def test_a_length_that_contradicts_the_wave_is_refused():
    assert pad_collate([sample("a", 3) | {"length": 3}])["length"].tolist() == [3]
    with pytest.raises(DataError, match="the samples contain `length`"):
        pad_collate([sample("a", 3) | {"length": 2}])


def test_wave_of_a_single_sample_that_was_just_read_is_not_copied():
    wave, long = torch.ones(64), torch.ones(65)
    alone, kept = collate_read([{"noisy": wave}]), pad_collate([{"noisy": wave}])
    assert alone["noisy"].tolist() == kept["noisy"].tolist() == [[1.0] * 64]
    assert alone["noisy"].data_ptr() == wave.data_ptr()
    assert kept["noisy"].data_ptr() != wave.data_ptr()
    assert collate_read([{"noisy": long[1:]}])["noisy"].data_ptr() % 64 == 0  # kernels may round by the alignment
    assert collate_read([{"noisy": wave}, {"noisy": long}])["noisy"].tolist() == [[1.0] * 64 + [0.0], [1.0] * 65]


def test_files_are_read_into_memory_that_becomes_the_batch(tmp_path):
    write_audio(tmp_path / "a.wav", torch.zeros(1000), 16000)
    sample = AudioFolder(tmp_path)[0]
    assert AudioFolder.collate_fn([sample])["noisy"].data_ptr() == sample["noisy"].data_ptr()
