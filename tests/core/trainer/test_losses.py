"""Which results of a training step are trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import RunError
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, weights_of

EXTRAS = {
    "attached": lambda part: part,
    "detached": lambda part: part.detach(),
    "a number": lambda part: part.item(),
    "not finite": lambda part: part.detach() * torch.nan,
    "a vector": lambda part: part.expand(3),
}


class Records(TinyTrainer):
    extra = staticmethod(lambda part: None)

    def training_step(self, batch, batch_idx):
        part = self.model(batch["x"]).abs().mean()
        return {"loss": self._error(batch), "loss_part": self.extra(part), "loss_": self.extra(part)}


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_scalar_beside_the_loss_changes_no_weight_whatever_its_name(extra, policy):
    with_extra = type("WithExtra", (Records,), {"extra": staticmethod(extra)})
    weights = []
    for cls in (Records, with_extra):
        trainer = make_trainer(cls=cls, max_epochs=2, on_nonfinite=policy, model=lambda: nn.Linear(4, 1))
        trainer.train(make_loader())
        weights.append(weights_of(trainer))
    assert torch.equal(*weights)


def test_recorded_scalar_appears_under_its_name():
    class Logs(Records):
        def training_epoch_end(self, outputs):
            self.names = set(outputs[0])
            return {}

    trainer = make_trainer(cls=type("Logs", (Logs,), {"extra": staticmethod(lambda part: part)}), max_epochs=1)
    trainer.train(make_loader())
    assert trainer.names == {"loss", "loss_part", "loss_"}


class Two(BaseTrainer):
    """Trains two networks, and returns more than their losses."""

    def __init__(self, components, *, extra=None, **kwargs):
        super().__init__(components, **kwargs)
        self.extra = extra or {}

    def training_step(self, batch, batch_idx):
        made = self.models["g"](batch["x"])
        judged = self.models["d"](made)
        values = {"loss_g": made.square().mean(), "loss_d": judged.mean(), "both": judged.mean() + made.mean()}
        extra = {name: change(values) for name, change in self.extra.items()}
        return {"loss_g": values["loss_g"], "loss_d": values["loss_d"]} | extra


def train_two(extra=None):
    torch.manual_seed(0)
    nets = {"g": nn.Linear(4, 4), "d": nn.Linear(4, 1)}
    optimizers = {suffix: torch.optim.SGD(net.parameters(), lr=0.1) for suffix, net in nets.items()}
    before = {suffix: net.weight.detach().clone() for suffix, net in nets.items()}
    trainer = Two(Components(nets, optimizers=optimizers), extra=extra, max_epochs=2)
    trainer.train(BatchLoader([{"x": torch.ones(4)}], batch_size=1))
    return before, {suffix: net.weight.detach() for suffix, net in nets.items()}


@pytest.mark.parametrize("change", ["attached", "detached", "a number"])
def test_extra_loss_of_no_network_changes_none_of_several_networks(change):
    before, plain = train_two()
    _, recorded = train_two({"loss_adv": lambda values: EXTRAS[change](values["both"])})
    for suffix in ("g", "d"):
        assert torch.equal(plain[suffix], recorded[suffix])
        assert not torch.equal(before[suffix], plain[suffix])


def test_with_a_loss_of_that_name_it_alone_trains_all_networks():
    _, plain = train_two({"loss": lambda values: values["both"]})

    torch.manual_seed(0)
    g, d = nn.Linear(4, 4), nn.Linear(4, 1)
    optimizer = torch.optim.SGD([*g.parameters(), *d.parameters()], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        made = g(torch.ones(1, 4))
        (d(made).mean() + made.mean()).backward()
        optimizer.step()
    torch.testing.assert_close(plain, {"g": g.weight.detach(), "d": d.weight.detach()})


@pytest.mark.parametrize(
    ("result", "message", "remedy"),
    [
        ({"loss_part": torch.ones(())}, r"returned no `loss`, but \['loss_part'\]", "return `loss`"),
        ({"loss": None}, "`loss` is None", "return a real tensor of one element"),
        ({"loss": 0.5}, "`loss` is a float", "only recorded needs another name"),
        ({"loss": torch.ones(2, requires_grad=True)}, r"tensor of shape \[2\]", "the mean"),
        ({"loss": torch.ones((), dtype=torch.complex64)}, r"a complex tensor of shape \[\]", "a real tensor"),
        ({"loss": torch.ones(())}, "does not depend on any weight", "detach"),
    ],
)
def test_error_for_a_loss_that_cannot_be_trained(result, message, remedy):
    class Wrong(TinyTrainer):
        def training_step(self, batch, batch_idx):
            return result

    with pytest.raises(RunError, match=message) as error:
        make_trainer(cls=Wrong).train(make_loader())
    assert remedy in error.value.remedy


def test_error_for_a_loss_that_is_none_says_that_it_may_be_left_out():
    with pytest.raises(RunError, match="`loss_d` is None") as error:
        train_two({"loss_d": lambda values: None})
    assert error.value.remedy == "leave the key out of the dict in a step that does not train this network"


def test_error_for_a_step_without_a_loss_names_the_losses_of_the_networks():
    class Wrong(Two):
        def training_step(self, batch, batch_idx):
            return {"loss_gen": self.models["g"](batch["x"]).mean()}

    models = {"g": nn.Linear(4, 4), "d": nn.Linear(4, 1)}
    optimizers = {suffix: torch.optim.SGD(model.parameters()) for suffix, model in models.items()}
    trainer = Wrong(Components(models, optimizers=optimizers))
    with pytest.raises(RunError, match="returned no `loss`") as error:
        trainer.train(make_loader())
    assert "`loss` or `loss_g` or `loss_d`" in error.value.remedy


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("frozen", r"`loss_d` has nothing to train: no weight of \[model_d\] requires a gradient"),
        ("swapped", r"`loss_d` does not depend on any weight of \[model_d\]"),
    ],
)
def test_loss_that_does_not_train_its_own_network_is_an_error(case, message):
    class Wrong(Two):
        def training_step(self, batch, batch_idx):
            made = self.models["g"](batch["x"])
            losses = {"loss_g": made.mean(), "loss_d": self.models["d"](made.detach()).mean()}
            return losses | (
                {"loss_d": made.mean()} if case == "swapped" else {"loss_d": self.models["d"](made).mean()}
            )

    nets = {"g": nn.Linear(4, 4), "d": nn.Linear(4, 1).requires_grad_(case != "frozen")}
    optimizers = {suffix: torch.optim.SGD(net.parameters(), lr=0.1) for suffix, net in nets.items()}
    with pytest.raises(RunError, match=message):
        Wrong(Components(nets, optimizers=optimizers)).train(make_loader())


class Several(BaseTrainer):
    """Trains its networks towards different targets, with the losses that `names` gives."""

    names = ()

    def training_step(self, batch, batch_idx):
        losses = {
            f"loss_{suffix}" if suffix else "loss": (model(batch["x"]) - target).square().mean()
            for target, (suffix, model) in enumerate(self.models.items())
        }
        return {name: losses[name] for name in losses if name in self.names}


def several(names, suffixes, optimised):
    """Trains some networks for an epoch. Returns which of them have changed."""
    torch.manual_seed(0)
    models = {suffix: nn.Linear(4, 1) for suffix in suffixes}
    before = {suffix: model.weight.clone() for suffix, model in models.items()}
    optimizers = {suffix: torch.optim.SGD(models[suffix].parameters(), lr=0.1) for suffix in optimised}
    cls = type("Several", (Several,), {"names": names})
    cls(Components(models, optimizers=optimizers), max_epochs=1).train(make_loader())
    return {suffix for suffix, model in models.items() if not torch.equal(model.weight, before[suffix])}


@pytest.mark.parametrize(
    ("suffixes", "names", "trained", "warning", "remedy"),
    [
        (
            ["", "d"],
            ["loss", "loss_d"],
            {""},
            "returns `loss`, which trains [model] and [model_d]; `loss_d` is only recorded",
            "give [model] a suffix too, such as [model_g] with [optimizer_g], and return `loss_g` instead of `loss`",
        ),
        (["g", "d"], ["loss_g", "loss_d"], {"g", "d"}, "", ""),
        (["", "d"], ["loss"], {""}, "", ""),
    ],
    ids=["loss and its own", "their own", "loss alone"],
)
def test_loss_beside_that_of_a_network_is_reported_once(capsys, suffixes, names, trained, warning, remedy):
    assert several(names, suffixes, suffixes) == trained
    log = capsys.readouterr().err
    assert log.count("only recorded") == bool(warning)
    assert warning in log
    assert remedy in log


def test_total_beside_the_losses_of_all_networks_is_reported(capsys):
    class Total(Several):
        names = ("loss_g", "loss_d")

        def training_step(self, batch, batch_idx):
            losses = super().training_step(batch, batch_idx)
            return {"loss": sum(losses.values()), **losses}

    models = {suffix: nn.Linear(4, 1) for suffix in "gd"}
    optimizers = {suffix: torch.optim.SGD(model.parameters(), lr=0.1) for suffix, model in models.items()}
    Total(Components(models, optimizers=optimizers), max_epochs=2).train(make_loader())
    log = capsys.readouterr().err
    assert log.count("which trains [model_g] and [model_d]; `loss_g` and `loss_d` are only recorded") == 1
    assert "don't return `loss`" in log


@pytest.mark.parametrize("kind", ["attached", "detached", "a number", "not finite", "a vector"])
def test_loss_of_a_network_without_an_optimiser_is_only_recorded(kind):
    class Frozen(BaseTrainer):
        def training_step(self, batch, batch_idx):
            loss = self.models["g"](batch["x"]).square().mean()
            return {"loss_g": loss, "loss_d": EXTRAS[kind](self.models["d"](batch["x"]).mean())}

    models = {suffix: nn.Linear(4, 1) for suffix in "gd"}
    optimizers = {"g": torch.optim.SGD(models["g"].parameters(), lr=0.1)}
    trainer = Frozen(Components(models, optimizers=optimizers), max_epochs=1)
    trainer.train(make_loader())
    assert ("loss_d" in trainer.scalars.last) == (kind != "a vector")
    assert models["d"].weight.grad is None
