import copy

import pytest
import torch
from torch import nn

from audiozen.loss import L1WaveformLoss, LeastSquaresGanLoss, MetricGanLoss
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.data.loader import BatchLoader
from audiozen_core.distributed.join import joined_ranks
from audiozen_core.distributed.ranks import ALONE
from audiozen_core.distributed.settings import Distributed
from audiozen_core.errors import ConfigError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.components import Components
from audiozen_plugins.trainer.adversarial import AdversarialTrainer
from tests.on_ranks import all_right, on_ranks
from tests.plugins.trainer.states import assert_same


class Filter(nn.Module):
    """A network of waveforms, as generator and as discriminator."""

    def __init__(self, taps=5):
        super().__init__()
        self.taps = nn.Conv1d(1, 1, taps, padding="same")

    def forward(self, wave, *others):
        return self.taps(wave.unsqueeze(1)).squeeze(1)


class Difference(Filter):
    """Judges a wave by comparing it with another one."""

    def forward(self, wave, clean):
        return super().forward(wave - clean).abs().mean(1)


def samples(count=8):
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        clean = torch.randn(400, generator=generator)
        yield {"noisy": clean + torch.randn(400, generator=generator), "clean": clean, "id": f"clip {index}"}


class Watch:
    """Notes the weights after each optimiser step, and what the step returned."""

    def __init__(self):
        self.weights, self.outputs = [], []

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer, outputs):
        self.outputs.append({name: float(value) for name, value in outputs.items()})

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer):
        self.weights.append({suffix: flat(model) for suffix, model in trainer.models.items()})


def flat(model):
    return torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])


def make(*, models=None, losses=None, rates=None, watch=None, ranks=ALONE, **args):
    torch.manual_seed(0)
    models = models or {"g": Filter(), "d": Filter()}
    losses = {"g": L1WaveformLoss(), "d": LeastSquaresGanLoss()} if losses is None else losses
    optimizers = {
        suffix: torch.optim.SGD(model.parameters(), lr=(rates or {}).get(suffix, 0.1))
        for suffix, model in models.items()
    }
    components = Components(
        models=models,
        loss_functions=losses,
        optimizers=optimizers,
        lifecycle=Lifecycle([Plugin("watch", watch)] if watch else []),
        ranks=ranks,
    )
    return AdversarialTrainer(components, **{"domain": "waveform", "metrics": [], "max_epochs": 1, **args})


def batch_of(count=2):
    chosen = list(samples(count))
    return {key: torch.stack([one[key] for one in chosen]) for key in ("noisy", "clean")}


def test_each_loss_reaches_its_own_network_only():
    trainer = make()
    losses, _ = trainer.forward_batch(batch_of(), 0)
    assert list(losses) == ["loss_g", "loss_d"]
    for own, other in (("g", "d"), ("d", "g")):
        trainer.optimizers["g"].zero_grad()
        trainer.optimizers["d"].zero_grad()
        trainer.backward_losses({f"loss_{own}": trainer.forward_batch(batch_of(), 0)[0][f"loss_{own}"]})
        assert all(weight.grad.abs().sum() > 0 for weight in trainer.models[own].parameters())
        assert all(weight.grad is None for weight in trainer.models[other].parameters())
    # The generator's loss depends on the discriminator: only the trainer keeps it from its weights.
    (gradient,) = torch.autograd.grad(losses["loss_g"], [trainer.models["d"].taps.weight], retain_graph=True)
    assert gradient.abs().sum() > 0
    # The discriminator's loss does not depend on the generator at all.
    (gradient,) = torch.autograd.grad(losses["loss_d"], [trainer.models["g"].taps.weight], allow_unused=True)
    assert gradient is None


def test_optimiser_of_one_network_never_changes_the_other():
    start = make()
    for still, moves in (("g", "d"), ("d", "g")):
        watch = Watch()
        make(watch=watch, rates={still: 0.0}).train(BatchLoader(list(samples()), batch_size=2))
        for weights in watch.weights:
            assert torch.equal(weights[still], flat(start.models[still]))
        assert not torch.equal(watch.weights[-1][moves], flat(start.models[moves]))


@pytest.mark.parametrize(("steps", "window"), [(1, 1), (2, 1), (2, 2)])
def test_networks_take_turns(steps, window):
    watch = Watch()
    trainer = make(watch=watch, discriminator_steps=steps, gradient_accumulation_steps=window, max_epochs=window)
    before = [{suffix: flat(model) for suffix, model in trainer.models.items()}]
    trainer.train(BatchLoader(list(samples(12)), batch_size=2))
    assert len(watch.weights) == 6
    for step, (old, new) in enumerate(zip(before + watch.weights, watch.weights, strict=False)):
        trained = "g" if step % (steps + 1) == steps else "d"
        assert {suffix for suffix in "gd" if not torch.equal(old[suffix], new[suffix])} == {trained}
    # All batches of one step are the turn of the same network.
    names = [next(name for name in ("loss_g", "loss_d") if name in outputs) for outputs in watch.outputs]
    assert all(len(set(names[first : first + window])) == 1 for first in range(0, len(names), window))


def test_generator_warms_up_alone_by_its_own_loss(capsys):
    watch = Watch()
    trainer = make(watch=watch, warmup_epochs=1, max_epochs=2)
    start = flat(trainer.models["d"])
    trainer.train(BatchLoader(list(samples(4)), batch_size=2))
    first, second = watch.outputs[:2], watch.outputs[2:]
    assert all(outputs.keys() == {"own_loss_g", "loss_g"} for outputs in first)
    assert all(outputs["own_loss_g"] == outputs["loss_g"] for outputs in first)
    assert all(outputs.keys() == {"own_loss_g", "adversarial_d", "loss_g", "loss_d"} for outputs in second)
    assert torch.equal(watch.weights[1]["d"], start)
    assert not torch.equal(watch.weights[2]["d"], start)
    # The discriminator waits on purpose.
    assert "trains nothing" not in capsys.readouterr().err


def test_generator_minimises_its_own_loss_and_each_discriminator_times_its_weight():
    models = {"g": Filter(), "d": Filter(), "wide": Filter(9)}
    losses = {"g": L1WaveformLoss(), "d": LeastSquaresGanLoss(0.5), "wide": LeastSquaresGanLoss(2.0)}
    trainer = make(models=models, losses=losses)
    batch = batch_of()
    outputs = trainer.training_step(batch, 0)
    enhanced = models["g"](batch["noisy"])
    terms = {suffix: (models[suffix](enhanced) - 1).square().mean() for suffix in ("d", "wide")}
    expected = (enhanced - batch["clean"]).abs().mean() + 0.5 * terms["d"] + 2 * terms["wide"]
    torch.testing.assert_close(outputs["loss_g"], expected)
    torch.testing.assert_close(outputs["adversarial_wide"], terms["wide"])
    for suffix in terms:
        model = models[suffix]
        wanted = (model(batch["clean"]) - 1).square().mean() + model(enhanced).square().mean()
        torch.testing.assert_close(outputs[f"loss_{suffix}"], wanted)


def test_generator_without_a_loss_of_its_own_learns_from_the_discriminator_alone():
    metric_gan = MetricGanLoss("si_sdr")
    trainer = make(models={"g": Filter(), "d": Difference()}, losses={"d": metric_gan})
    loader = BatchLoader(list(samples(4)), batch_size=2)
    trainer.train(loader, [BatchLoader(list(samples(4)))])
    assert "validate/loss" not in trainer.last_scalars
    assert "validate/si_sdr" in trainer.last_scalars


@pytest.mark.parametrize("output", [None, [], [[]], [torch.zeros(2)], [[torch.tensor(1.0)]]])
def test_discriminator_that_returns_no_judgement_is_named(output):
    class Wrong(Filter):
        def forward(self, wave):
            return output

    with pytest.raises(RunError, match=r"the discriminator \[model_d\] returns a .* that is not a judgement"):
        make(models={"g": Filter(), "d": Wrong()}).training_step(batch_of(), 0)


def _models():
    torch.manual_seed(0)  # the ranks are copies of this process, whose generator has gone on since
    return {"g": Filter(), "d": Difference()}


def _train(ranks, batch_size):
    models = _models()
    losses = {"g": L1WaveformLoss(), "d": MetricGanLoss("si_sdr")}
    trainer = make(models=models, losses=losses, ranks=ranks, discriminator_steps=1, max_epochs=2)
    trainer.train(BatchLoader(list(samples(10)), batch_size=batch_size, shuffle=True, share=(ranks.rank, ranks.size)))
    return {suffix: flat(model).tolist() for suffix, model in models.items()}


def test_two_ranks_train_like_one_process():
    expected = _train(ALONE, 4)

    def train(rank):
        with joined_ranks(Distributed(), "cpu") as ranks:
            return _train(ranks, 2)

    start = make(models=_models())
    for weights in all_right(on_ranks(2, train)):
        for suffix, values in weights.items():
            torch.testing.assert_close(torch.tensor(values), torch.tensor(expected[suffix]), rtol=0, atol=1e-6)
            assert not torch.allclose(torch.tensor(values), flat(start.models[suffix]), atol=1e-3)


# ------------------------------------------------------------------------------- from a TOML file


def experiment(folder, **trainer):
    tiny = TinyExperiment(folder)
    values = tiny.values
    values["trainer"] = {"path": "adversarial", "args": {"max_epochs": 3, "metrics": ["si_sdr"], **trainer}}
    for kind in ("model", "loss_function", "optimizer"):
        values[f"{kind}_g"] = values.pop(kind)
    values["model_d"] = {"path": "metric_discriminator", "args": {"fft_size": 256, "hop_size": 128, "channels": 4}}
    values["loss_function_d"] = {"path": "metric_gan", "args": {"metric": "si_sdr", "replay": 3}}
    values["optimizer_d"] = {"path": "torch.optim.Adam", "args": {"lr": 1e-3}}
    values["lr_scheduler_d"] = {"path": "torch.optim.lr_scheduler.ExponentialLR", "args": {"gamma": 0.9}}
    return tiny


def state_of(tiny, which="latest"):
    return CheckpointStore(tiny.folder / "exp/tiny/checkpoints").load(which).state


def test_resumed_run_is_the_same_to_the_last_bit(tmp_path):
    # The turns of three steps do not fit into the epochs of two steps.
    tiny = experiment(tmp_path, discriminator_steps=2, save_ckpt_interval_steps=1, max_epochs=2)
    del tiny.values["validate_dataset"]
    tiny.run()
    whole = copy.deepcopy(state_of(tiny))
    assert int(whole["loss_function_d"]["kept_count"]) >= 3
    tiny.run(resume=True, ckpt_path="epoch_0002_step_0000003")
    resumed = state_of(tiny)
    assert_same(whole, resumed)


def test_mixed_precision_and_a_test(tmp_path):
    tiny = experiment(tmp_path, max_epochs=1)
    tiny.values["meta"]["use_amp"] = True
    outcome = tiny.run("train", "test")
    assert all(value > 0 for name in ("train/loss_g", "train/loss_d") for value in outcome.metrics(name))
    # `sdnn` scales the noisy speech, whose SI-SDR is about 9 dB.
    (measured,) = outcome.metrics("train/loss_d/si_sdr")
    assert 0 < measured < 20


def problems(tiny, modes=("train",)):
    with pytest.raises(ConfigError) as caught:
        Experiment.load(tiny.write(), modes=modes)
    return [finding.message for finding in caught.value.diagnostics if finding.severity == "error"]


def test_check_finds_a_discriminator_without_an_optimiser(tmp_path):
    tiny = experiment(tmp_path)
    Experiment.load(tiny.write(), modes=["train"])
    del tiny.values["optimizer_d"], tiny.values["lr_scheduler_d"]
    assert problems(tiny) == ["the discriminator [model_d] has no optimiser, so it would not be trained"]
    assert not (tmp_path / "exp").exists()
    Experiment.load(tiny.write(), modes=["test"])


def test_check_finds_what_else_is_missing(tmp_path):
    tiny = experiment(tmp_path, warmup_epochs=1)
    without = copy.deepcopy(tiny.values)
    del tiny.values["loss_function_g"]
    assert problems(tiny) == ["`warmup_epochs` is 1, but the generator has no loss of its own for these epochs"]
    tiny.values = copy.deepcopy(without)
    tiny.values["loss_function_d"] = {"path": "torch.nn.L1Loss"}
    assert problems(tiny) == ["the discriminator [model_d] has the loss `L1Loss`; it needs an adversarial loss"]
    tiny.values = copy.deepcopy(without)
    for section in ("model_d", "loss_function_d", "optimizer_d", "lr_scheduler_d"):
        del tiny.values[section]
    (message,) = problems(tiny)
    assert message.startswith("the trainer `adversarial` needs a discriminator")
    for kind in ("model", "loss_function", "optimizer"):
        tiny.values[kind] = tiny.values.pop(f"{kind}_g")
    (message,) = problems(tiny)
    assert message.startswith("the trainer `adversarial` needs a section [model_g]")


def test_check_finds_a_metric_that_does_not_fit(tmp_path):
    tiny = experiment(tmp_path)
    tiny.values["loss_function_d"]["args"] = {"metric": "si_sdr", "worst": 20.0, "best": 0.0}
    assert problems(tiny) == ["SI-SDR is better when higher, but `worst` is 20.0 and `best` is 0.0"]
