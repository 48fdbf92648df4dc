"""No trainer, loss or hook of AudioZEN reads a tensor in a training step, because it would then wait for the GPU."""

from __future__ import annotations

import pytest

from audiozen_core.experiment.experiment import Experiment
from audiozen_core.registry.index import installed_index
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer import host_copy, nonfinite
from audiozen_core.trainer.step_scalars import StepScalars
from audiozen_plugins.hooks import amp
from audiozen_plugins.loss import soft_dtw
from tests.core.trainer.test_step_costs import READS, Operations
from tests.plugins.trainer import test_adversarial, test_flow, test_separation

# Losses that compare an estimate with a target. `pit_si_snr` is one of several speakers.
ALONE = [
    "compressed_magnitude", "compressed_spectrum", "l1_waveform", "l2_waveform", "multi_resolution_stft", "si_snr",
    "si_snr_magnitude", "snr", "soft_dtw",
]  # fmt: skip
# `metric_gan` computes its metric on the CPU.
OTHERS = {"hinge_gan", "least_squares_gan", "metric_gan", "pit_si_snr", "weighted_sum"}


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    """Copies values and reads them some steps later, as on a GPU. Here they are kept as they are."""
    monkeypatch.setattr(StepScalars, "lag", 8)
    monkeypatch.setattr(host_copy.HostCopy, "__init__", lambda self, scalars: vars(self).update(_values=scalars))
    monkeypatch.setattr(host_copy.HostCopy, "read", lambda self: dict.fromkeys(self._values, 0.0))
    monkeypatch.setattr(nonfinite.GradientNorms, "check", nonfinite.GradientNorms.measure)
    monkeypatch.setattr(nonfinite.MeasuredGradients, "is_on_gpu", True)
    monkeypatch.setattr(amp, "_lag", lambda device: 8)
    monkeypatch.setattr(soft_dtw, "_reads_at_once", lambda device: False)


def reads_of_steps(tiny):
    """Trains an epoch with the default hooks and `ema`, and returns how often each step reads a tensor, by operation.

    The first steps are left out, because some of them make tables that later steps use.
    """
    tiny.set("trainer", max_epochs=1, clip_grad_norm_value=1.0, plot_norm=True)
    for section in [name for name in tiny.values if name.startswith("optimizer")]:
        tiny.set(section, "torch.optim.SGD", lr=0.001)  # Adam reads its number of steps, which stays on the CPU
    tiny.values["dataset"]["dataloader"] = {"batch_size": 1}
    tiny.add_hook("ema")
    experiment = Experiment.load(tiny.write())
    with experiment.scope:
        trainer, loaders = experiment.build()
    found, original = [], trainer._train_batch

    def counted(*batch):
        with Operations() as operations:
            original(*batch)
        found.append({name: operations.counted[name] for name in READS if operations.counted[name]})

    trainer._train_batch = counted
    trainer.train(loaders["train"][0])
    assert len(found) >= 4
    return found[2:]


def test_every_loss_is_tested():
    assert {entry.name for entry in installed_index().entries("loss_function")} == {*ALONE, *OTHERS}


def test_losses_of_an_enhancement_read_nothing(tmp_path):
    tiny = TinyExperiment(tmp_path)
    tiny.set("loss_function", "weighted_sum", losses=[{"path": name, "weight": 0.1} for name in ALONE])
    assert set(map(str, reads_of_steps(tiny))) == {"{}"}


@pytest.mark.parametrize("loss", ["hinge_gan", "least_squares_gan"])
def test_adversarial_training_reads_nothing(tmp_path, loss):
    tiny = test_adversarial.experiment(tmp_path)
    tiny.set("model_d", "multi_resolution_discriminator", channels=4)
    tiny.set("loss_function_d", loss)
    assert set(map(str, reads_of_steps(tiny))) == {"{}"}


@pytest.mark.parametrize("kind", [test_flow, test_separation], ids=["flow", "separation"])
def test_other_trainers_read_nothing(tmp_path, kind):
    assert set(map(str, reads_of_steps(kind.experiment(tmp_path)))) == {"{}"}


def test_a_loss_that_reads_is_found(tmp_path, monkeypatch):
    """The negative control."""
    monkeypatch.setattr(soft_dtw, "_reads_at_once", lambda device: True)
    found = reads_of_steps(TinyExperiment(tmp_path).set("loss_function", "soft_dtw"))
    assert found == [{READS[0]: 2}] * 2
