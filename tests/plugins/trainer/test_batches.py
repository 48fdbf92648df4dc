"""What `enhancement` needs of a batch, and what its errors say about batches, models and losses of another form."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from audiozen_core.audio.stft import Stft
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import AudioZenError, DataError, RunError
from audiozen_core.trainer.losses import LossOfModules
from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.trainer.batches import enhancement_batch
from tests.plugins.trainer.test_enhancement import Gain, make

WAVE = torch.linspace(-1, 1, 4000)
CLEAN = WAVE.roll(1) / 2


class Items(Dataset):
    """Four items, made by a function."""

    def __init__(self, make_item):
        self.make_item = make_item

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.make_item(index)


def pair(index, **changes):
    item = {"id": f"f{index}", "noisy": WAVE, "clean": CLEAN, "sr": 16000} | changes
    return {key: value for key, value in item.items() if value is not None}


def loader(collate_fn=None, workers=0, **changes):
    return BatchLoader(
        Items(lambda index: pair(index, **changes)), batch_size=2, num_workers=workers, collate_fn=collate_fn
    )


@pytest.mark.parametrize("collate_fn", [None, pad_collate])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_arrays_of_numpy_train_like_tensors(tmp_path, collate_fn, kind):
    """Both collate functions, and both types of floats, lead to exactly the same weights."""

    def weights(**changes):
        trainer = make(tmp_path, model=Gain(3.0), domain="waveform", max_epochs=2)
        trainer.train(loader(collate_fn, **changes), [loader(collate_fn, **changes)])
        return trainer.model.gain.item(), trainer.progress.best_score

    arrays = {"noisy": WAVE.numpy().astype(kind), "clean": CLEAN.numpy().astype(kind)}
    assert weights(**arrays) == weights()
    assert weights()[0] != 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noisy": (WAVE * 3e4).short()}, "`noisy` of the batch is int16 [2, 4000]"),
        ({"clean": torch.stack([WAVE, WAVE], -1)}, "`clean` of the batch is float32 [2, 4000, 2]"),
        ({"noisy": WAVE.to(torch.complex64)}, "`noisy` of the batch is complex64 [2, 4000]"),
        ({"clean": None}, "the batch has no `clean`; it has id: a list of (str, str), noisy: float32 [2, 4000]"),
        ({"noisy": None}, "the batch has no `noisy`"),
        ({"clean": WAVE[1:]}, "`clean` is float32 [2, 3999], but `noisy` is float32 [2, 4000]"),
        ({"noisy": "a.wav"}, "`noisy` of the batch is a list of (str, str)"),
    ],
)
def test_error_names_the_key_and_what_is_wanted(tmp_path, changes, message):
    with pytest.raises(DataError) as caught:
        make(tmp_path, domain="waveform", max_epochs=1).train(loader(**changes))
    assert message in caught.value.message
    assert caught.value.notes[0] == "samples: f0, f1"
    assert "data: the batch is from the data set Items" in caught.value.notes


@pytest.mark.parametrize(
    ("wave", "remedy"),
    [
        (WAVE[:0], "leave empty waves out of the data set: each needs at least one sample"),
        (WAVE.to(torch.complex64), "let the data set return the waveform, not a spectrogram"),
        (torch.stack([WAVE, WAVE]), "let the data set return waves of one channel as [time]"),
        ((WAVE * 3e4).short(), "scale the waves to -1 … 1 in the data set: divide int16 by 32768, for example"),
    ],
    ids=["empty", "complex", "two channels", "integers"],
)
def test_remedy_for_a_wrong_wave_is_about_what_is_wrong_with_it(wave, remedy):
    with pytest.raises(DataError, match="`noisy` of the batch is") as caught:
        enhancement_batch({"noisy": torch.stack([wave] * 2), "clean": torch.stack([WAVE] * 2)}, "train", sr=16000)
    assert caught.value.remedy == remedy


def test_batch_that_is_not_a_dict_is_a_clear_error(tmp_path):
    tuples = BatchLoader(Items(lambda index: (WAVE, WAVE)), batch_size=2)
    with pytest.raises(
        DataError, match=r"the batch is a list of \(float32 \[2, 4000\], float32 \[2, 4000\]\)"
    ) as caught:
        make(tmp_path, domain="waveform").train(tuples)
    assert "must be a dict with `noisy` and `clean`" in caught.value.message
    assert "pad_collate" in caught.value.remedy


@pytest.mark.parametrize("mode", ["validate", "test", "predict"])
def test_each_evaluation_says_what_it_needs(tmp_path, mode):
    def run(**changes):
        return getattr(make(tmp_path, domain="waveform"), mode)([loader(pad_collate, **changes)])

    run(clean=None if mode == "predict" else CLEAN)
    with pytest.raises(DataError, match="the batch has no `id`"):
        run(id=None)
    if mode != "predict":
        with pytest.raises(DataError, match="the batch has no `clean`"):
            run(clean=None)


def test_ids_that_are_numbers_become_strings():
    batch = {"noisy": torch.ones(2, 3), "id": torch.tensor([7, 8])}
    assert enhancement_batch(batch, "predict", sr=16000)["id"] == ["7", "8"]
    with pytest.raises(DataError, match="`id` is str, but must be a list of 2 strings"):
        enhancement_batch(batch | {"id": "ab"}, "predict", sr=16000)


def test_batch_of_another_sample_rate_is_an_error():
    with pytest.raises(DataError, match="the batch has audio of 8000 Hz"):
        enhancement_batch({"noisy": torch.ones(2, 3), "id": ["a", "b"], "sr": 8000}, "predict", sr=16000)


@pytest.mark.parametrize("collate_fn", [None, pad_collate])
@pytest.mark.parametrize("mode", ["train", "validate", "test", "predict"])
def test_sample_rate_is_compared_whichever_collate_function_made_the_batch(tmp_path, collate_fn, mode):
    def run(sr):
        items = Items(lambda index: pair(index, sr=8000 if collate_fn is None and index == 0 else sr))
        made = BatchLoader(items, batch_size=2, collate_fn=collate_fn)
        trainer = make(tmp_path, domain="waveform", max_epochs=1)
        trainer.train(made) if mode == "train" else getattr(trainer, mode)([made])

    with pytest.raises(DataError, match="the batch has audio of 8000 Hz, but"):
        run(16000 if collate_fn is None else 8000)


@pytest.mark.parametrize("rates", [torch.tensor([16000, 8000]), np.array([16000, 8000]), [16000, 8000], 8000, 8000.0])
def test_sample_rates_may_have_any_form(rates):
    batch = {"noisy": torch.ones(2, 3), "id": ["a", "b"]}
    with pytest.raises(DataError, match="the batch has audio of 8000 Hz"):
        enhancement_batch({**batch, "sr": rates}, "predict", sr=16000)
    enhancement_batch({**batch, "sr": torch.tensor([16000, 16000])}, "predict", sr=16000)


def test_sample_rates_on_a_gpu_are_read_once_in_each_epoch_of_a_training(tmp_path):
    """A tensor on the device `meta` can't be read at all."""
    batch = {"noisy": torch.ones(2, 3), "clean": torch.ones(2, 3), "id": ["a", "b"]}
    elsewhere = {**batch, "sr": torch.empty(2, device="meta")}
    trainer = make(tmp_path, domain="waveform")
    for _ in range(2):
        with pytest.raises(NotImplementedError):
            trainer.prepare_batch(elsewhere, "train")
        trainer.prepare_batch(elsewhere, "train")
        with pytest.raises(NotImplementedError):
            trainer.prepare_batch(elsewhere, "validate")
        trainer.progress.epoch += 1


def test_padding_to_a_fixed_length_changes_no_score(tmp_path):
    """The collate function pads beyond the longest file of each batch, and gives the lengths as a list."""

    def pads(samples):
        batch = {"id": [sample["id"] for sample in samples], "length": [len(sample["noisy"]) for sample in samples]}
        for key in ("noisy", "clean"):
            waves = [nn.functional.pad(sample[key], (0, 6000 - len(sample[key]))) for sample in samples]
            batch[key] = torch.stack(waves)
        return batch

    def item(index):
        noise = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(index))
        return {"id": str(index), "noisy": (WAVE + noise)[: 4000 - 500 * index], "clean": WAVE[: 4000 - 500 * index]}

    def summary(collate_fn):
        made = BatchLoader(Items(item), batch_size=2, collate_fn=collate_fn)
        return make(tmp_path, domain="waveform", save_enhanced=False).test([made])

    def hides_the_lengths(samples):
        return {key: value for key, value in pads(samples).items() if key != "length"}

    assert summary(pads) == summary(pad_collate)
    assert summary(hides_the_lengths) != summary(pad_collate)  # negative control


class WantsChannels(nn.Module):
    """Refuses inputs without an axis for channels, as the losses of auraloss do."""

    def forward(self, estimate, target):
        if estimate.ndim != 3:
            raise AssertionError("expected [batch, channels, time]")
        return (estimate - target).abs().mean()


@pytest.mark.parametrize("mode", ["train", "validate"])
def test_error_of_a_loss_has_the_shapes_and_advice(tmp_path, mode):
    trainer = make(tmp_path, loss=WantsChannels(), domain="waveform", add_channel=True, max_epochs=1)
    with pytest.raises(RunError) as caught:
        trainer.train(loader()) if mode == "train" else trainer.validate([loader(pad_collate)])
    assert caught.value.message.startswith("the loss fails for inputs of the forms float32 [")
    assert caught.value.message.endswith("4000]: AssertionError: expected [batch, channels, time]")
    assert "`waveform_with_channel` [batch, 1, time]" in caught.value.remedy
    assert "`loss_domain`" in caught.value.remedy


def takes_nothing():
    return torch.nn.functional.mse_loss


class TakesOne(nn.Module):
    def forward(self, estimate):
        return estimate.mean()


class HoldsAndTakesOne:
    def __call__(self, estimate):
        return estimate.mean()


@pytest.mark.parametrize(
    "loss", [takes_nothing, TakesOne(), HoldsAndTakesOne(), LossOfModules(HoldsAndTakesOne(), {"net": nn.ReLU()})]
)
def test_loss_that_does_not_take_the_tensors_says_so_and_names_no_line_of_audiozen(tmp_path, loss):
    with pytest.raises(RunError, match="the loss can't be called with 2 tensors: TypeError") as error:
        make(tmp_path, loss=loss, domain="waveform", max_epochs=1).train(loader())
    assert not any("raised in" in note for note in error.value.notes)
    assert error.value.remedy.startswith(
        "give the path of an object that can be called with 2 tensors; for a function that"
    )


def test_type_error_within_a_loss_names_the_line_of_the_user(tmp_path):
    """The negative control: the call itself works."""

    def calls_audiozen(estimate, target):
        Stft(1).transform(estimate)

    with pytest.raises(RunError, match="the loss fails for inputs of the forms") as error:
        make(tmp_path, loss=calls_audiozen, domain="waveform", max_epochs=1).train(loader())
    assert f"raised in: {__file__}:{calls_audiozen.__code__.co_firstlineno + 1}, in calls_audiozen" in error.value.notes

    def inner(estimate, target):
        takes_nothing(estimate, target)

    with pytest.raises(RunError, match=r"the loss fails for inputs of the forms .*: TypeError"):
        make(tmp_path, loss=inner, domain="waveform", max_epochs=1).train(loader())


def test_the_advice_for_a_loss_that_wants_channels_works(tmp_path):
    def with_channel(estimate, target):
        return WantsChannels()(estimate.unsqueeze(1), target.unsqueeze(1))

    trainer = make(tmp_path, model=Gain(3.0), loss=with_channel, domain="waveform", max_epochs=1)
    trainer.train(loader())
    assert trainer.model.gain.item() < 3


def test_error_of_a_model_has_the_shape_and_advice(tmp_path):
    class Wrong(Gain):
        def forward(self, x):
            raise KeyError("mask")

    with pytest.raises(RunError) as caught:
        make(tmp_path, model=Wrong(), domain="waveform").train(loader())
    assert caught.value.message == "the model fails for an input of the form float32 [2, 4000]: KeyError: 'mask'"
    assert "samples: f0, f1" in caught.value.notes


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("item", [None, (WAVE, WAVE), {"id": "a", "noisy": (WAVE * 3e4).short(), "clean": WAVE}])
def test_error_of_a_sample_is_the_same_from_a_worker(tmp_path, item, workers):
    def failure(workers):
        made = BatchLoader(Items(lambda index: item), batch_size=2, num_workers=workers, collate_fn=pad_collate)
        with pytest.raises(AudioZenError) as caught:
            make(tmp_path, domain="waveform").train(made)
        made.close()
        return str(caught.value)

    assert failure(workers) == failure(0)
    assert "sample 0 of the data set Items, sample 1 of the data set Items" in failure(workers)


@pytest.mark.parametrize("mode", ["test", "predict"])
def test_ids_of_any_data_set_fit_into_file_names(mode):
    batch = {"noisy": torch.ones(2, 4), "clean": torch.ones(2, 4), "id": ["x" * 300, "y" * 230]}
    first, second = enhancement_batch(batch, mode, sr=16000)["id"]
    assert len(first) == 230
    assert second == "y" * 230
