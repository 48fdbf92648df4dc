"""Torch's collate function takes the keys of the first sample. Keys of the others are not dropped in silence."""

import pytest
import torch

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import DataError


def loader(*samples, **options):
    return BatchLoader(samples, batch_size=len(samples), **options)


X = torch.ones(3)
PAIRS = {
    "key": ({"x": X}, {"x": X, "snr": 1.0}, "`snr`"),
    "other keys": ({"x": X, "a": 1}, {"x": X, "b": 2}, "`a`, `b`"),
    "nested": ({"x": {"y": X}}, {"x": {"y": X, "z": X}}, "`x.z`"),
    "in a tuple": ((X, [{"y": X}]), (X, [{"y": X, "z": X}]), "`1.0.z`"),
}


@pytest.mark.parametrize("turn", [1, -1], ids=["first lacks it", "last lacks it"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_key_that_only_some_samples_have_is_an_error_that_names_it(pair, turn):
    *samples, keys = pair
    with pytest.raises(DataError) as caught:
        list(loader(*samples[::turn]).epoch(0))
    named = caught.value.message.removeprefix("the samples of a batch differ in their keys: only some have ")
    assert sorted(named.split(", ")) == keys.split(", ")
    assert caught.value.code == "AZ300"
    assert "return the same keys for each sample" in caught.value.remedy
    assert caught.value.notes[0].startswith("batch: sample 0 of ")


def test_order_of_the_keys_does_not_matter():
    (batch,) = loader({"x": X, "a": {"b": 1}}, {"a": {"b": 2}, "x": X}).epoch(0)
    assert batch["x"].shape == (2, 3)
    assert batch["a"]["b"].tolist() == [1, 2]


def test_other_collate_functions_get_the_samples_as_they_are():
    (batch,) = loader({"x": X}, {"x": X, "snr": 1.0}, collate_fn=list).epoch(0)
    assert [sorted(sample) for sample in batch] == [["x"], ["snr", "x"]]
