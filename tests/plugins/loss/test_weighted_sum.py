"""A weighted sum of losses: its value, what each part is given, what is recorded, and what `check` finds in it."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import nn

from audiozen.loss import SiSnrLoss, SiSnrMagnitudeLoss, SnrLoss, WeightedLoss, WeightedSumLoss
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import BuildError, ConfigError, RunError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_plugins.loss.calls import domains_of
from audiozen_plugins.trainer.enhancement import EnhancementTrainer


def clipped(estimate, target, limit: float = 1.0):
    """One value for each clip."""
    return (estimate - target).abs().clamp_max(limit).mean(dim=-1)


class Better(nn.Module):
    higher_is_better = True

    def forward(self, estimate, target):
        return -(estimate - target).square().mean()


def pair(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator), torch.randn(*shape, generator=generator)


def test_sum_of_all_parts_is_the_loss_and_each_value_is_recorded():
    estimate, target = pair(2, 400)
    loss = WeightedSumLoss(
        [
            WeightedLoss(nn.L1Loss(), 2.0),
            WeightedLoss(nn.MSELoss(), 0.0),
            WeightedLoss(functools.partial(clipped, limit=0.5), name="clip"),
            WeightedLoss(Better(), 3.0),
        ]
    )
    l1, mse = (estimate - target).abs().mean(), (estimate - target).square().mean()
    clip = (estimate - target).abs().clamp_max(0.5).mean()
    assert float(loss(estimate, target)) == pytest.approx(float(2 * l1 + clip + 3 * mse), rel=1e-6)
    recorded = {name: float(value) for name, value in loss.recorded_scalars.items()}
    assert recorded == pytest.approx({"l1": float(l1), "mse": float(mse), "clip": float(clip), "better": -float(mse)})


def test_each_part_is_given_its_own_domain():
    waves, magnitudes = pair(2, 400), [part.abs() for part in pair(2, 5, 7)]
    loss = WeightedSumLoss([WeightedLoss(SiSnrLoss()), WeightedLoss(nn.L1Loss(), domain="magnitude"),
                            WeightedLoss(SiSnrMagnitudeLoss())])  # fmt: skip
    assert loss.domain == ("waveform", "magnitude")
    expected = SiSnrLoss()(*waves) + nn.L1Loss()(*magnitudes) + SiSnrMagnitudeLoss()(*waves, *magnitudes)
    assert float(loss(*waves, *magnitudes)) == pytest.approx(float(expected), rel=1e-6)
    with pytest.raises(ValueError, match=r"2 pairs \(waveform, magnitude\), so they need 4 inputs, not 2"):
        loss(*waves)


def test_one_pair_is_given_to_all_parts_of_a_trainer_that_knows_no_domains():
    waves = pair(2, 400)
    loss = WeightedSumLoss([WeightedLoss(SiSnrLoss()), WeightedLoss(nn.L1Loss())])
    assert loss.domain == ("waveform", None)
    assert float(loss(*waves)) == pytest.approx(float(SiSnrLoss()(*waves) + nn.L1Loss()(*waves)), rel=1e-6)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "at least one loss"),
        ([WeightedLoss(nn.L1Loss()), WeightedLoss(nn.L1Loss())], "two losses are called `l1`"),
        ([WeightedLoss(nn.L1Loss(), math.nan)], "the weight of the loss `l1` is nan"),
        ([WeightedLoss(nn.L1Loss(), 0)], "all losses have the weight 0"),
        ([WeightedLoss(nn.L1Loss(), name="a/b")], "may have only letters"),
    ],
)
def test_sum_that_makes_no_sense_is_an_error(parts, message):
    with pytest.raises(ValueError, match=message):
        WeightedSumLoss(parts)


def test_part_that_is_only_recorded_may_be_nan_and_gets_no_gradient():
    estimate, target = pair(2, 400)
    estimate.requires_grad_()
    seen = []

    def broken(estimate, target):
        seen.append(torch.is_grad_enabled())
        return estimate.mean() * math.nan

    loss = WeightedSumLoss([WeightedLoss(nn.L1Loss()), WeightedLoss(broken, 0.0)])
    loss(estimate, target).backward()
    assert estimate.grad.isfinite().all()
    assert seen == [False]
    assert loss.recorded_scalars["broken"].isnan()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda x: 1.0, "does not return a scalar tensor, but a float"),
        (lambda x: x, r"does not return a scalar tensor, but one of shape \[2, 400\]"),
    ],
)
def test_part_that_returns_no_scalar_is_an_error(value, message):
    loss = WeightedSumLoss([WeightedLoss(lambda estimate, target: value(estimate), name="own")])
    with pytest.raises(ValueError, match=message):
        loss(*pair(2, 400))


def test_parts_are_computed_in_full_precision_under_autocast():
    waves = pair(2, 400)
    loss = WeightedSumLoss([WeightedLoss(SnrLoss()), WeightedLoss(nn.CosineSimilarity(), name="cosine")])
    expected = loss(*waves)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(*waves), expected)
        assert loss(*(wave.bfloat16() for wave in waves)).dtype == torch.float32


def test_names_are_made_of_those_of_the_classes():
    class MultiResolutionSTFTLoss(nn.L1Loss):
        pass

    loss = WeightedSumLoss([WeightedLoss(part) for part in (SiSnrLoss(), MultiResolutionSTFTLoss(), clipped)])
    assert list(loss.weights) == ["si_snr", "multi_resolution_stft", "clipped"]


# ------------------------------------------------------------------------------------------- in a TOML file

LOSSES = [
    {"path": "si_snr", "weight": 0.1},
    {"path": "torch.nn.L1Loss"},
    {"path": "compressed_spectrum", "args": {"power": 0.5}, "weight": 10},
    {"path": "torch.nn.functional.l1_loss", "args": {"reduction": "mean"}, "name": "own", "domain": "waveform"},
]
NAMES = ("si_snr", "l1", "compressed_spectrum", "own")


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path).set("loss_function", "weighted_sum", losses=LOSSES)


def test_parts_are_recorded_in_training_and_validation_but_not_trained_alone(tiny):
    outcome = tiny.run("train")
    for mode in ("train", "validate"):
        totals = outcome.metrics(f"{mode}/loss")
        parts = {name: outcome.metrics(f"{mode}/loss/{name}") for name in NAMES}
        assert all(len(values) == len(totals) >= 2 for values in parts.values())
        for at, total in enumerate(totals):
            # The weight of SI-SNR is 0.1. It is a loss, so it is the negative ratio.
            values = {name: values[at] for name, values in parts.items()}
            expected = 0.1 * values["si_snr"] + values["l1"] + 10 * values["compressed_spectrum"] + values["own"]
            assert total == pytest.approx(expected, rel=1e-4)
    assert outcome.metrics("step/loss/si_snr")


def test_parts_are_not_losses_of_a_step(tiny):
    trainer, loaders = Experiment.load(tiny.write()).build()
    batch = trainer.load_batch(next(iter(loaders["train"][0].epoch(0))), "train", 0)
    losses, outputs = trainer.forward_batch(batch, 0)
    assert list(losses) == ["loss"]
    assert list(outputs) == ["loss", *(f"loss/{name}" for name in NAMES)]
    assert [name for name, value in outputs.items() if value.requires_grad] == ["loss"]
    assert trainer.take_loss_scalars() == {}


def test_check_build_runs_a_weighted_sum(tiny):
    assert dry_run(Experiment.load(tiny.write()))["loss"].startswith("loss ")


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        ({"path": "si_snrr"}, 'path = "si_snrr"', "si_snrr"),
        ({"weigth": 1.0}, "weigth = 1.0", "unknown argument `weigth` for WeightedLoss"),
        ({"weight": "1"}, 'weight = "1"', "takes `float`"),
        ({"domain": "wave"}, 'domain = "wave"', "`losses[0].domain`"),
        ({"args": {"epss": 1.0}}, "epss", "unknown argument `epss` for si_snr"),
        ({"path": None}, "", "argument `losses[0]` of weighted_sum has no `path`"),
        ({"path": "torch.nn.NoLoss"}, 'path = "torch.nn.NoLoss"', "NoLoss"),
    ],
)
def test_check_finds_a_mistake_in_a_part_at_its_line(tiny, change, line, message):
    part = {key: value for key, value in ({"path": "si_snr", "weight": 0.1} | change).items() if value is not None}
    tiny.set("loss_function", losses=[part, {"path": "torch.nn.L1Loss"}])
    path = tiny.write()
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(path))
    (finding,) = caught.value.diagnostics
    assert message in finding.message
    assert line in path.read_text().splitlines()[finding.span.line - 1]


def test_two_parts_with_one_name_are_found_before_the_training(tiny):
    tiny.set("loss_function", losses=[{"path": "si_snr"}, {"path": "si_snr", "weight": 2.0}])
    with pytest.raises(BuildError, match="two losses are called `si_snr`"):
        tiny.run("train")
    assert not (tiny.folder / "exp").exists()


def test_distribution_of_a_part_is_known(tiny):
    checked = check_config(load_config(tiny.write()))
    _, *parts = checked.components[("loss_function",)].walk()
    assert [part.component.path for part in parts] == [part["path"] for part in LOSSES]
    assert [part.distribution for part in parts] == ["audiozen", "", "audiozen", ""]


# ------------------------------------------------------------------------------------------- other packages


def trainer_with(loss, domain="magnitude", **args):
    components = Components({"": nn.Identity()}, loss_functions={"": loss})
    return EnhancementTrainer(components, domain=domain, metrics=[], **args)


@pytest.mark.parametrize("domain", ["waveform", "magnitude", "spectrum"])
def test_losses_of_auraloss_get_waveforms_with_a_channel(domain):
    freq, time = pytest.importorskip("auraloss.freq"), pytest.importorskip("auraloss.time")
    noisy, clean = pair(2, 4000)
    for loss in (freq.MultiResolutionSTFTLoss(), time.SISDRLoss(), time.SNRLoss()):
        assert domains_of(loss) == ("waveform_with_channel",)
        expected = float(loss(noisy.unsqueeze(1), clean.unsqueeze(1)))
        trainer = trainer_with(loss, domain)
        assert float(trainer.compare(*trainer.enhance(noisy), clean)) == pytest.approx(expected, rel=1e-4)


def test_metrics_of_torchmetrics_are_losses_that_become_smaller():
    audio = pytest.importorskip("torchmetrics.audio")
    noisy, clean = pair(2, 4000)
    loss = audio.ScaleInvariantSignalNoiseRatio()
    assert domains_of(loss) == ("waveform",)
    expected = pytest.approx(float(SiSnrLoss()(noisy, clean)), rel=1e-4)
    for made in (loss, WeightedSumLoss([WeightedLoss(loss)])):
        trainer = trainer_with(made)
        # The metric is reset, so that it does not collect the batches.
        for _ in range(2):
            assert float(trainer.compare(*trainer.enhance(noisy), clean)) == expected
        assert trainer.compare(*trainer.enhance(clean), clean) < -50
    assert loss.update_count == 0
    assert float(trainer.take_loss_scalars()["loss/scale_invariant_signal_noise_ratio"]) > 50


@pytest.mark.parametrize("domain", [None, "waveform"])
def test_functions_of_torchmetrics_are_refused_because_they_have_no_direction(domain):
    audio = pytest.importorskip("torchmetrics.functional.audio")
    loss = audio.signal_noise_ratio
    assert loss(*pair(2, 4000)).mean() < loss(*[pair(2, 4000)[1]] * 2).mean()  # higher is better
    for made in (
        lambda: trainer_with(loss, loss_domain=domain),
        lambda: WeightedSumLoss([WeightedLoss(loss, domain=domain)]),
    ):
        with pytest.raises(
            RunError, match="`signal_noise_ratio` of torchmetrics does not declare that a higher value"
        ) as caught:
            made()
        assert "torchmetrics.audio.SignalNoiseRatio" in str(caught.value.remedy)
    WeightedSumLoss([WeightedLoss(nn.functional.l1_loss, domain=domain)])


def test_training_with_a_metric_of_torchmetrics_warns_of_nothing(tmp_path, capsys):
    pytest.importorskip("torchmetrics.audio")
    tiny = TinyExperiment(tmp_path).set("trainer", max_epochs=1)
    tiny.set("loss_function", "torchmetrics.audio.ScaleInvariantSignalNoiseRatio")
    (loss,) = tiny.run("train").metrics("train/loss")
    assert loss < -5
    assert "warning" not in capsys.readouterr().err


def test_records_of_a_loss_with_a_suffix_have_its_suffix():
    loss = WeightedSumLoss([WeightedLoss(nn.L1Loss())])
    components = Components({"g": nn.Identity()}, loss_functions={"g": loss, "d": nn.L1Loss()})
    trainer = BaseTrainer(components)
    trainer.loss_functions["g"](*pair(2, 10))
    assert list(trainer.take_loss_scalars()) == ["loss_g/l1"]


def test_error_of_a_part_is_explained(tiny):
    tiny.set("loss_function", losses=[{"path": "torch.nn.CrossEntropyLoss", "domain": "spectrum"}])
    with pytest.raises(RunError, match="the loss fails for inputs of the forms"):
        tiny.run("train")
