import math
import re

import pytest
import torch
from torch import nn

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import RunError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_plugins.hooks.amp import Amp
from audiozen_plugins.hooks.clip_grad_norm import ClipGradNorm
from audiozen_plugins.hooks.patience import Patience
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, weights_of


class Norms:
    """Records the gradients that reach the optimiser."""

    phase = "step"

    def __init__(self):
        self.seen = []

    @hookimpl
    def optimizer_step(self, trainer):
        gradients = [weight.grad for weight in trainer.model.parameters()]
        self.seen.append(torch.nn.utils.get_total_norm(gradients).item())


def test_clipping_limits_the_norm_of_the_gradients():
    unclipped, clipped = Norms(), Norms()
    make_trainer(max_epochs=1, hooks={"norms": unclipped}).train(make_loader())
    make_trainer(max_epochs=1, clip_grad_norm_value=0.5, hooks={"clip": ClipGradNorm(), "norms": clipped}).train(
        make_loader()
    )
    assert max(unclipped.seen) > 1.0
    assert max(clipped.seen) == pytest.approx(0.5, rel=1e-4)


def test_clipping_does_not_change_gradients_below_the_limit():
    plain = make_trainer(max_epochs=2)
    plain.train(make_loader())
    clipped = make_trainer(max_epochs=2, clip_grad_norm_value=1e6, hooks={"clip": ClipGradNorm()})
    clipped.train(make_loader())
    assert torch.allclose(weights_of(plain), weights_of(clipped), atol=1e-6)


def test_plot_norm_records_the_norm_before_clipping():
    trainer = make_trainer(max_epochs=1, plot_norm=True, clip_grad_norm_value=1e-3, hooks={"clip": ClipGradNorm()})
    trainer.train(make_loader())
    assert min(step["grad_norm"] for step in trainer.scalars.per_batch) > 1e-2
    silent = make_trainer(max_epochs=1, clip_grad_norm_value=1e-3, hooks={"clip": ClipGradNorm()})
    silent.train(make_loader())
    assert "grad_norm" not in silent.scalars.per_batch[0]


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_gradients_that_another_hook_has_changed_are_measured_and_clipped_as_they_are(factor):
    class Scales:
        phase = "precision"

        @hookimpl
        def on_gradients_ready(self, trainer):
            for weight in trainer.model.parameters():
                weight.grad.data.mul_(factor)

    class Sees(Norms):
        @hookimpl
        def optimizer_step(self, trainer):
            super().optimizer_step(trainer)
            self.measured.append(float(trainer.grad_norm))

    # Each run has one optimiser step, so that both have the same gradients.
    runs = []
    for limit in (None, 0.5):
        sees = Sees()
        sees.measured = []
        hooks = {"scales": Scales(), "clip": ClipGradNorm(), "sees": sees}
        make_trainer(max_epochs=1, max_steps=1, plot_norm=True, clip_grad_norm_value=limit, hooks=hooks).train(
            make_loader()
        )
        runs.append(sees)
    (before,), (after,) = runs[0].seen, runs[1].seen
    assert runs[0].measured == runs[1].measured == pytest.approx([before])
    assert after == pytest.approx(min(before, 0.5), rel=1e-4)


@pytest.mark.parametrize("trained", ["gd", "g", ""])
def test_networks_without_gradients_are_left_out_of_the_norm(trained):
    """The device `meta` stands for a GPU: no norm may be made on the CPU."""
    nets = {suffix: nn.Linear(4, 1, device="meta") for suffix in "gd"}
    optimizers = {suffix: torch.optim.SGD(net.parameters(), lr=0.1) for suffix, net in nets.items()}
    trainer = BaseTrainer(Components(nets, optimizers=optimizers), clip_grad_norm_value=0.5)
    for suffix in trained:
        for weight in nets[suffix].parameters():
            weight.grad = torch.ones_like(weight)
    ClipGradNorm().on_gradients_ready(trainer)
    assert (trainer.grad_norm is None) == (not trained)
    assert not trained or trainer.grad_norm.device.type == "meta"


class SeesDtype(TinyTrainer):
    def training_step(self, batch, batch_idx):
        answer = self.model(batch["x"])
        self.dtype = answer.dtype
        return (answer.float() - batch["y"]).square().mean()


def test_amp_computes_in_bfloat16_on_the_cpu_and_keeps_the_weights_in_float32():
    trainer = make_trainer(cls=SeesDtype, max_epochs=1, hooks={"amp": Amp()})
    trainer.use_amp = True
    trainer.train(make_loader())
    assert trainer.dtype == torch.bfloat16
    assert weights_of(trainer).dtype == torch.float32
    trainer = make_trainer(cls=SeesDtype, max_epochs=1, hooks={"amp": Amp()})
    trainer.train(make_loader())
    assert trainer.dtype == torch.float32


def test_stft_uses_float32_under_amp():
    trainer = make_trainer(hooks={"amp": Amp()})
    trainer.use_amp = True
    with trainer.hooks.autocast(trainer=trainer):
        half = nn.Linear(8, 8000)(torch.ones(1, 8))
        assert half.dtype == torch.bfloat16
        spectrogram = trainer.stft(half)
        assert spectrogram.dtype == torch.complex64
        assert trainer.istft(spectrogram, length=8000).dtype == torch.float32


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (None, 6)])
def test_patience_stops_the_training_after_epochs_without_a_better_score(patience, epochs):
    class Scripted(TinyTrainer):
        def validation_epoch_end(self, outputs):
            return {1: 1.0, 2: 2.0}.get(self.progress.epoch, 0.5)

    trainer = make_trainer(cls=Scripted, max_epochs=6, patience=patience, hooks={"patience": Patience()})
    trainer.train(make_loader(), [make_loader()])
    assert trainer.progress.epoch == epochs


def test_patience_does_not_stop_a_training_without_validation():
    trainer = make_trainer(max_epochs=3, patience=1, hooks={"patience": Patience()})
    trainer.train(make_loader())
    assert trainer.progress.epoch == 3


@pytest.mark.parametrize(
    "arguments",
    [
        *({"init_scale": scale} for scale in (0.0, -1.0, math.nan, math.inf, 1e300, 1e-300)),
        {"dtype": "float32"},
        {"max_overflows": -1},
    ],
    ids=str,
)
def test_out_of_range_arguments_of_amp_are_rejected(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(RunError, match=re.escape(f"`{name}` is {value!r}")):
        Amp(**arguments)


class Alternates(BaseTrainer):
    """Trains two networks on alternate batches."""

    def training_step(self, batch, batch_idx):
        suffix = "gd"[batch_idx % 2]
        return {f"loss_{suffix}": self.models[suffix](batch["x"]).float().square().mean()}


def train_alternately(amp):
    torch.manual_seed(0)
    nets = {"g": nn.Linear(4, 1), "d": nn.Linear(4, 1)}
    lifecycle = Lifecycle([Plugin("amp", amp)])
    optimizers = {suffix: torch.optim.Adam(net.parameters(), lr=0.1) for suffix, net in nets.items()}
    trainer = Alternates(
        Components(nets, optimizers=optimizers, lifecycle=lifecycle, use_amp=amp.dtype is not None), max_epochs=1
    )
    trainer.train(BatchLoader([{"x": torch.full((4,), float(index))} for index in range(1, 6)], batch_size=1))
    return {suffix: (net.weight.detach(), trainer.optimizers[suffix].state[net.weight]) for suffix, net in nets.items()}


def test_loss_scaling_gives_the_same_result_for_alternating_networks():
    scaled, plain = train_alternately(Amp(dtype="float16", init_scale=1024.0)), train_alternately(Amp())
    for suffix, steps in (("g", 3), ("d", 2)):
        torch.testing.assert_close(scaled[suffix][0], plain[suffix][0], rtol=0, atol=1e-2)
        assert scaled[suffix][1]["step"] == plain[suffix][1]["step"] == steps


def test_only_the_last_loss_of_a_step_frees_the_graph():
    class Both(BaseTrainer):
        def training_step(self, batch, batch_idx):
            shared = self.models["g"](batch["x"])
            return {"loss_g": shared.square().mean(), "loss_d": self.models["d"](shared).square().mean()}

    class Sees:
        phase = "precision"

        def __init__(self):
            self.last = []

        @hookimpl
        def backward(self, last):
            self.last.append(last)

    nets = {"g": nn.Linear(4, 4), "d": nn.Linear(4, 1)}
    optimizers = {suffix: torch.optim.SGD(net.parameters(), lr=0.1) for suffix, net in nets.items()}
    sees = Sees()
    Both(Components(nets, optimizers=optimizers, lifecycle=Lifecycle([Plugin("sees", sees)])), max_epochs=1).train(
        make_loader(8)
    )
    assert sees.last == [False, True] * 2


@pytest.mark.parametrize("keep", [True, False])
def test_amp_keeps_the_graph_only_if_another_loss_needs_it(keep):
    trainer = make_trainer(hooks={"amp": Amp(dtype="float16")})
    trainer.use_amp = True
    loss = trainer.model(torch.ones(1, 4)).square().mean()
    assert trainer.hooks.backward(trainer=trainer, loss=loss, inputs=None, last=not keep)
    if keep:
        loss.backward()
    else:
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()
