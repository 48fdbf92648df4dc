from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pytest
import torch
from torch import nn
from typing_extensions import NotRequired, Required, TypedDict

from audiozen_core.binding.arguments import call_arguments
from audiozen_core.binding.ranges import Range
from audiozen_core.binding.signature import signature_of
from audiozen_core.diagnostics.config_codes import (
    BAD_VALUE,
    INJECTED_ARGUMENT,
    MISSING_ARGUMENT,
    POSITIONAL_ONLY,
    UNKNOWN_ARGUMENT,
    WRONG_ARGUMENT_TYPE,
)
from audiozen_core.registry.paths import resolve
from tests.core.binding.found import check, findings, the_finding
from tests.core.binding.targets import Codec, Named, Net

if TYPE_CHECKING:
    from nowhere import Unknown


# ------------------------------------------------------------------------------------------ argument names


def test_correct_arguments_have_no_findings():
    assert check(Net, {"width": 8, "dropout": 0.5}) == []


def test_unknown_argument_is_reported_with_a_suggestion_and_the_signature():
    found = the_finding(torch.optim.RAdam, {"weight_decy": 1e-5}, injected=["params"], name="torch.optim.RAdam")
    assert found.code == UNKNOWN_ARGUMENT
    assert found.message == "unknown argument `weight_decy` for torch.optim.RAdam"
    assert found.place == ("args", "weight_decy")
    assert found.label == "did you mean `weight_decay`?"
    assert found.suggestion == "weight_decay"
    assert found.notes == ("signature: RAdam(params, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0, …)",)


def test_unknown_argument_without_a_similar_name_has_no_suggestion():
    found = the_finding(Net, {"width": 8, "zebra": 1})
    assert (found.suggestion, found.label) == (None, "")


def test_argument_that_has_a_value_is_suggested_if_no_other_is_similar():
    assert the_finding(Net, {"width": 8, "widht": 9}).suggestion == "width"
    assert the_finding(Net, {"width": 8, "depth": 1, "detph": 2}).suggestion == "depth"


def test_missing_argument_is_reported():
    found = the_finding(Net, {})
    assert (found.code, found.place) == (MISSING_ARGUMENT, ("args",))
    assert found.message == "missing argument `width` for Net"


def test_misspelt_required_argument_is_not_also_reported_as_missing():
    assert findings(Net, {"widht": 8}) == [(UNKNOWN_ARGUMENT, "widht")]
    assert findings(Net, {"zebra": 8}) == [(UNKNOWN_ARGUMENT, "zebra"), (MISSING_ARGUMENT, "width")]


def test_check_reports_all_findings_in_order():
    args = {"dropuot": 1, "width": "8", "depth": 1.5}
    assert findings(Net, args) == [
        (UNKNOWN_ARGUMENT, "dropuot"),
        (WRONG_ARGUMENT_TYPE, "width"),
        (WRONG_ARGUMENT_TYPE, "depth"),
    ]


def test_injected_argument_must_not_be_set_by_the_user():
    assert findings(torch.optim.Adam, {}) == [(MISSING_ARGUMENT, "params")], "negative control: not injected"
    assert findings(torch.optim.Adam, {}, injected=["params"]) == []
    found = the_finding(torch.optim.Adam, {"params": []}, injected=["params"])
    assert found.code == INJECTED_ARGUMENT
    assert "is set by AudioZEN" in found.message


def test_injected_name_that_the_target_does_not_take_is_unknown():
    assert findings(Net, {"width": 1, "params": 1}, injected=["params"]) == [(UNKNOWN_ARGUMENT, "params")]


def test_positional_only_argument_is_an_error_unless_it_is_injected():
    def scale(factor, /, offset=0): ...

    assert findings(scale, {"factor": 2}) == [(POSITIONAL_ONLY, "factor")]
    assert findings(scale, {}) == [(POSITIONAL_ONLY, "factor")]
    assert findings(scale, {}, injected=["factor"]) == []


def test_message_says_that_a_class_takes_no_arguments():
    class Empty(nn.Module): ...

    assert "takes no arguments" in the_finding(Empty, {"width": 1}).message
    assert findings(Empty, {}) == []


def test_builtin_without_a_signature_is_not_checked():
    assert check(torch.relu, {"anything": 1}) == []
    assert signature_of(torch.relu) is None


def test_target_that_is_not_callable_is_not_checked():
    assert check(3, {"anything": 1}) == []


# ------------------------------------------------------------------------------------------ torch and torchaudio


@pytest.mark.parametrize(
    ("path", "args", "injected"),
    [
        ("torch.optim.RAdam", {"lr": 0.01, "weight_decay": 1e-5, "betas": [0.9, 0.99]}, ["params"]),
        ("torch.optim.SGD", {"lr": 1, "momentum": 0.9, "nesterov": True}, ["params"]),
        ("torch.optim.lr_scheduler.StepLR", {"step_size": 100, "gamma": 0.5}, ["optimizer"]),
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", {"mode": "max", "min_lr": [1e-5]}, ["optimizer"]),
        ("torch.optim.lr_scheduler.OneCycleLR", {"max_lr": 0.1, "total_steps": 10}, ["optimizer"]),
        ("torch.nn.MSELoss", {"reduction": "sum"}, []),
        ("torch.nn.LSTM", {"input_size": 3, "hidden_size": 4, "batch_first": True}, []),
        ("torch.nn.Conv2d", {"in_channels": 1, "out_channels": 2, "kernel_size": [3, 3], "padding": "same"}, []),
        ("torch.nn.Linear", {"in_features": 1, "out_features": 2, "dtype": "float32", "device": "cpu"}, []),
        ("torch.nn.functional.mse_loss", {"reduction": "sum"}, ["input", "target"]),
        ("torchaudio.models.ConvTasNet", {"num_sources": 1, "msk_activate": "relu"}, []),
    ],
)
def test_arguments_of_torch_components_are_checked(path, args, injected):
    target = resolve(path).target
    assert check(target, args, injected=injected) == []
    assert findings(target, {**args, "zzz": 1}, injected=injected) == [(UNKNOWN_ARGUMENT, "zzz")], "negative control"


@pytest.mark.parametrize(
    ("path", "args", "wrong"),
    [
        ("torch.optim.RAdam", {"lr": "fast"}, ("lr",)),
        ("torch.optim.RAdam", {"betas": [0.9]}, ("betas",)),
        ("torch.optim.RAdam", {"betas": [0.9, "x"]}, ("betas", 1)),
        ("torch.optim.RAdam", {"foreach": "yes"}, ("foreach",)),
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", {"mode": "mim"}, ("mode",)),
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", {"min_lr": [1e-5, "x"]}, ("min_lr", 1)),
        ("torch.nn.MSELoss", {"reduction": 3}, ("reduction",)),
        ("torchaudio.models.ConvTasNet", {"num_sources": 1.0}, ("num_sources",)),
        ("torch.nn.LSTM", {"input_size": 3, "hidden_size": 4, "batch_first": 1}, ("batch_first",)),
    ],
)
def test_wrong_values_for_torch_components_are_reported(path, args, wrong):
    found = the_finding(resolve(path).target, args, injected=["params", "optimizer"])
    assert (found.code, found.place) == (WRONG_ARGUMENT_TYPE, ("args", *wrong))


# ------------------------------------------------------------------------------------------ kinds of callables


def test_partial_does_not_take_its_positional_arguments_again():
    small = functools.partial(Net, depth=1)
    assert findings(small, {"width": 3}) == []
    assert findings(small, {"width": 3, "depth": 4}) == []
    assert findings(functools.partial(Net, 3), {"depth": 1}) == []
    assert findings(functools.partial(Net, 3), {"width": 1}) == [(UNKNOWN_ARGUMENT, "width")]
    assert signature_of(small).text() == "Net(width, depth=1, dropout=0.0)"


def test_class_methods_and_callable_objects_are_checked_without_self():
    class Maker:
        @classmethod
        def tiny(cls, width: int = 1): ...

        def __call__(self, depth: int): ...

    assert findings(Maker.tiny, {"width": "x"}) == [(WRONG_ARGUMENT_TYPE, "width")]
    assert findings(Maker(), {}) == [(MISSING_ARGUMENT, "depth")]


def test_init_is_checked_if_dunder_new_takes_any_arguments():
    class Counted:
        def __new__(cls, *args, **kwargs):
            return super().__new__(cls)

        def __init__(self, width: int): ...

    assert findings(Counted, {"width": 1}) == []
    assert findings(Counted, {"widht": 1}) == [(UNKNOWN_ARGUMENT, "widht")]


def test_dunder_new_is_checked_if_the_class_has_no_init():
    class Frozen:
        def __new__(cls, width: int):
            return super().__new__(cls)

    assert findings(Frozen, {}) == [(MISSING_ARGUMENT, "width")]


def test_init_is_checked_if_the_metaclass_passes_all_arguments_on():
    class Single(type):
        def __call__(cls, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    class Only(metaclass=Single):
        def __init__(self, width: int): ...

    assert findings(Only, {"depth": 1, "width": 1}) == [(UNKNOWN_ARGUMENT, "depth")]


def test_dataclasses_and_decorated_functions_are_checked():
    @dataclasses.dataclass
    class Options:
        rate: float
        names: list[str] = dataclasses.field(default_factory=list)
        hidden: int = dataclasses.field(default=0, init=False)

    @functools.wraps(Net.__init__)
    def wrapped(*args, **kwargs): ...

    assert findings(Options, {"rate": 1, "names": ["a"]}) == []
    assert findings(Options, {"rate": 1, "hidden": 1}) == [(UNKNOWN_ARGUMENT, "hidden")]
    assert findings(wrapped, {"depth": "x", "self": 0, "width": 1}) == [(WRONG_ARGUMENT_TYPE, "depth")]


class Filter(TypedDict, total=False):
    cutoff: Required[float]
    order: NotRequired[Annotated[int, Range(least=1)]]
    file: Path


class Band(TypedDict):
    # These annotations are strings, so Python does not see `NotRequired`.
    low: float
    high: NotRequired[float]


class Later(TypedDict):
    net: Unknown


# A key is not a name in Python, so this table is not checked.
Spelt = TypedDict("Spelt", {"cut-off": float, "order": int}, total=False)


def filtered(
    one: Filter | None = None,
    several: Sequence[Filter] = (),
    band: Band | None = None,
    spelt: Spelt | None = None,
    later: Later | None = None,
): ...


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"one": {"cutoff": 1}, "several": [{"cutoff": 1.0, "order": 2}], "band": {"low": 0}}, []),
        ({"one": {"cutof": 1.0}}, [(UNKNOWN_ARGUMENT, "one", "cutof")]),
        ({"one": {"order": 2}}, [(MISSING_ARGUMENT, "one")]),
        ({"one": {"cutoff": "high"}}, [(WRONG_ARGUMENT_TYPE, "one", "cutoff")]),
        ({"several": [{"cutoff": 1.0}, {"cutoff": 1.0, "order": 0}]}, [(BAD_VALUE, "several", 1, "order")]),
        ({"band": {"high": 1.0}}, [(MISSING_ARGUMENT, "band")]),
        ({"spelt": {"cut-off": "anything", "order": 1}}, []),
        ({"later": {"anything": 1}}, []),
    ],
)
def test_keys_and_values_of_a_typed_dict_are_checked_like_those_of_a_dataclass(args, expected):
    assert [(finding.code, *finding.place[1:]) for finding in check(filtered, args)] == expected


def test_values_of_a_typed_dict_are_converted():
    _, given = call_arguments(signature_of(filtered), {"one": {"cutoff": 1, "file": "a.wav"}})
    assert given == {"one": {"cutoff": 1, "file": Path("a.wav")}}
    assert type(given["one"]) is dict


def test_explicit_signature_attribute_is_used():
    class Typed:
        def __init__(self, **data): ...

    Typed.__signature__ = Net_signature = __import__("inspect").signature(Net)
    assert Net_signature
    assert findings(Typed, {"width": 1, "zebra": 1}) == [(UNKNOWN_ARGUMENT, "zebra")]


def test_abstract_methods_do_not_affect_the_check_of_arguments():
    class Abstract(abc.ABC):
        def __init__(self, width: int):
            self.width = width

        @abc.abstractmethod
        def run(self): ...

    assert findings(Abstract, {"width": 1}) == []


# ------------------------------------------------------------------------------------------ annotations


def annotated(width: Unknown, rate: float, call: Callable[..., Unknown] | None = None, items: Iterable[int] = ()): ...


def test_only_annotations_that_can_be_resolved_are_checked():
    assert findings(annotated, {"width": "x", "rate": "y", "call": 3}) == [(WRONG_ARGUMENT_TYPE, "rate")]


def test_string_annotations_are_resolved_in_the_module_of_the_function():
    def path(root: Path, count: int): ...

    assert findings(path, {"root": 3, "count": 1.5}) == [(WRONG_ARGUMENT_TYPE, "root"), (WRONG_ARGUMENT_TYPE, "count")]


def test_default_is_accepted_even_if_it_contradicts_the_annotation():
    def sloppy(rate: float = "auto", size: int = 2.0): ...

    assert findings(sloppy, {"rate": "auto", "size": 2.0}) == []
    assert findings(sloppy, {"rate": "slow"}) == [(WRONG_ARGUMENT_TYPE, "rate")], "negative control"


def test_nested_component_is_not_checked_against_the_annotation():
    assert findings(Net, {"width": {"path": "torch.nn.ReLU", "args": {}}}) == []
    assert findings(Net, {"width": {"paths": "torch.nn.ReLU"}}) == [(WRONG_ARGUMENT_TYPE, "width")], "negative control"


def test_nested_tables_are_checked_against_dataclasses():
    found = check(Codec, {"encoder": {"sise": 3}, "layers": [{"size": 1}, {"size": "2", "kinds": ["a", 3]}]})
    assert [(finding.code, finding.place) for finding in found] == [
        (UNKNOWN_ARGUMENT, ("args", "encoder", "sise")),
        (WRONG_ARGUMENT_TYPE, ("args", "layers", 1, "size")),
        (WRONG_ARGUMENT_TYPE, ("args", "layers", 1, "kinds", 1)),
    ]
    assert found[0].suggestion == "size"
    assert "`layers[1].kinds[1]`" in found[2].message


def test_missing_key_is_reported_at_its_table():
    found = the_finding(Codec, {"encoder": {"kinds": []}})
    assert (found.code, found.place) == (MISSING_ARGUMENT, ("args", "encoder"))
    assert "missing argument `size`" in found.message


def test_torch_compile_does_not_let_a_module_take_any_keyword(monkeypatch):
    from torch._dynamo import mutation_guard

    class Plain(nn.Module):
        pass

    monkeypatch.setattr(nn.Module, "__init__", nn.Module.__init__)  # put back what it is now after the test
    mutation_guard.install_generation_tagging_init()
    assert "mutation_guard" in nn.Module.__init__.__module__
    assert not signature_of(Plain).open


@pytest.mark.parametrize(("others", "suggestion"), [(1_500, None), (5, "max_epochs")])
def test_table_with_very_many_unknown_arguments_is_reported_without_comparing_all_of_them(others, suggestion):
    found = check(Named, {f"option_{index}": 1 for index in range(others)} | {"max_epohs": 1})
    assert sum(finding.code == UNKNOWN_ARGUMENT for finding in found) == others + 1
    assert found[others].suggestion == suggestion
