"""Small experiments run with the components of the plugin."""

import pytest
import torch
from audiozen import AudioZenError

from audiozen_plugin_remix.loss import MelDistanceLoss


@pytest.fixture
def experiment(tiny_experiment):
    return (
        tiny_experiment.set("trainer", "remix", max_epochs=2)
        .set("model", "gru_mask", num_freqs=65, hidden_size=8)
        .set("loss_function", "mel_distance", n_ffts=[128, 256])
    )


def test_training_lowers_the_loss(experiment):
    outcome = experiment.set("trainer", max_epochs=4).set("optimizer", lr=0.02).run("train", "test")
    losses = outcome.metrics("train/loss")
    assert losses[-1] < losses[0]
    assert len(outcome.metrics("test/snr")) == 1


@pytest.mark.parametrize("epochs", [0, 2])
def test_weights_of_frozen_modules_do_not_change(experiment, epochs):
    from safetensors.torch import load_file

    outcome = experiment.add_hook("thaw", parts=["mask"], epochs=epochs).run("train")
    first, second = (
        load_file(outcome.folder / "checkpoints" / name / "model.safetensors") for name in outcome.checkpoints
    )
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert ("mask.weight" in changed) is (epochs == 0)
    assert "gru.weight_ih_l0" in changed


def test_misspelt_argument_is_reported_before_the_run(experiment):
    with pytest.raises(AudioZenError, match="did you mean `num_layers`"):
        experiment.set("model", num_layer=3).run()


def test_loss_is_zero_only_for_identical_signals():
    wave = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    loss = MelDistanceLoss()
    assert loss(wave, wave) < 1e-4
    assert loss(0.5 * wave, wave) > 0.5
