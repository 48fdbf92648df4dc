from __future__ import annotations

import pytest
import torch

from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import pad_collate


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


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"id": "b", "noisy": torch.ones(3), "sr": 16000}, "only one of them has clean"),
        (sample("b", 3) | {"sr": 8000}, "`b` has a sample rate of 8000 Hz, but `a` has 16000 Hz"),
        (sample("b", 3) | {"clean": torch.ones(2)}, "`b`: the noisy wave has 3 samples, but the clean one has 2"),
    ],
)
def test_error_names_samples_that_do_not_fit_together(other, what):
    with pytest.raises(DataError, match=what):
        pad_collate([sample("a", 3), other])
