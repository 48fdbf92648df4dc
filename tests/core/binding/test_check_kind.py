from __future__ import annotations

import abc

import pytest
import torch
from torch import nn

from audiozen_core.binding.arguments import check_kind
from audiozen_core.diagnostics.config_codes import ABSTRACT, NOT_CALLABLE, WRONG_KIND
from audiozen_core.trainer.base_trainer import BaseTrainer


class Trainer(BaseTrainer): ...


class Something: ...


def kind(section, target):
    found = check_kind(section, target)
    return found and found.code


@pytest.mark.parametrize(
    ("section", "target"),
    [
        ("model", nn.Linear),
        ("model_g", nn.Linear),
        ("optimizer", torch.optim.RAdam),
        ("train_dataset", torch.utils.data.TensorDataset),
        ("validate_dataset", torch.utils.data.ChainDataset),
        ("trainer", Trainer),
        ("loss_function", nn.MSELoss),
        ("loss_function", nn.functional.mse_loss),
        ("lr_scheduler", torch.optim.lr_scheduler.StepLR),
        ("somewhere_else", dict),
    ],
)
def test_target_of_the_right_kind_has_no_finding(section, target):
    assert check_kind(section, target) is None


@pytest.mark.parametrize(
    ("section", "target"),
    [
        ("model", Something),
        ("optimizer", nn.Linear),
        ("test_dataset", nn.Linear),
        ("trainer", nn.Linear),
        ("dataset", dict),
    ],
)
def test_class_of_the_wrong_kind_is_reported(section, target):
    assert kind(section, target) == WRONG_KIND


def test_label_names_the_section_where_the_class_belongs():
    found = check_kind("model", torch.optim.RAdam)
    assert found.message == "`RAdam` is not a model, because it is not a subclass of `torch.nn.Module`"
    assert found.label == "an optimiser belongs in [optimizer]"


def test_message_names_the_missing_methods_of_an_abstract_class():
    class Abstract(nn.Module, abc.ABC):
        @abc.abstractmethod
        def forward(self): ...

    class Concrete(Abstract):
        def forward(self): ...

    found = check_kind("model", Abstract)
    assert found.code == ABSTRACT
    assert "`forward`" in found.message
    assert kind("model", Concrete) is None


@pytest.mark.parametrize("target", [3, "text", None, {"a": 1}, torch.float32])
def test_target_that_is_not_callable_is_reported(target):
    assert kind("model", target) == NOT_CALLABLE


def test_function_may_build_a_model_but_not_a_trainer():
    def make(width: int): ...

    assert kind("model", make) is None
    assert kind("trainer", make) == WRONG_KIND


def test_function_with_a_wrong_return_annotation_is_reported():
    def wrong() -> Something: ...
    def right() -> nn.Linear: ...
    def vague() -> object: ...
    def unknown() -> Nowhere: ...  # noqa: F821

    assert kind("model", wrong) == WRONG_KIND
    assert kind("model", right) is None
    assert kind("model", vague) is None
    assert kind("model", unknown) is None
