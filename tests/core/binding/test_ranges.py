"""The range of an argument is written once, in its annotation: `check` and the constructor use the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Literal, NewType

import numpy as np
import pytest
from typing_extensions import Required, TypedDict

from audiozen_core.binding.annotations import annotated_members
from audiozen_core.binding.arguments import build, check_arguments
from audiozen_core.binding.ranges import Natural, Positive, Range, check_ranges, out_of_range, wrong_numbers
from audiozen_core.binding.signature import signature_of
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.diagnostics.key_path import spell
from audiozen_core.errors import ConfigError, RunError
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.paths import resolve
from audiozen_core.trainer.base_trainer import BaseTrainer
from tests.tiny_experiment import TinyExperiment
from tests.tiny_training import make_trainer


class Net:
    def __init__(
        self,
        layers: Positive,
        dropout: Annotated[float | None, Range(least=0, most=1)] = None,
        gain: Annotated[float, Range(above=0)] | str = "auto",
        offset: Natural = 0,
    ):
        check_ranges(Net, locals())


class Deeper(Net):
    def __init__(self, width: int = 2, **kwargs):
        super().__init__(layers=2, **kwargs)


@pytest.mark.parametrize(
    ("args", "wrong"),
    [
        ({"layers": np.int64(1), "dropout": np.float64(0.5), "gain": np.float32(1)}, None),
        ({"layers": HTTPStatus.OK}, None),
        ({"layers": True}, "`layers` is True, but must be an integer"),
        ({"layers": 1.5}, "`layers` is 1.5, but must be an integer"),
        ({"layers": "1"}, "`layers` is '1', but must be an integer"),
        ({"layers": 1, "gain": [1.0]}, "`gain` is [1.0], but must be a number or a string"),
    ],
)
def test_constructor_takes_numbers_of_any_class_and_nothing_else(args, wrong):
    assert out_of_range(Net, args) == wrong


@pytest.mark.parametrize(
    ("args", "wrong"),
    [
        ({"layers": 1}, None),
        ({"layers": 1, "dropout": 1, "gain": 1e-9}, None),
        ({"layers": 1, "gain": "auto"}, None),
        ({"layers": 0}, "`layers` is 0, but must be at least 1"),
        ({"layers": 1, "dropout": 1.5}, "`dropout` is 1.5, but must be from 0 to 1"),
        ({"layers": 1, "gain": 0.0}, "`gain` is 0.0, but must be above 0"),
        ({"layers": 1, "gain": math.inf}, "`gain` is inf, but must be above 0, and finite"),
        ({"layers": 1, "gain": math.nan}, "`gain` is nan, but must be above 0, and finite"),
        ({"layers": 1, "offset": -1}, "`offset` is -1, but must be at least 0"),
    ],
)
def test_check_and_constructor_say_the_same(args, wrong):
    findings = check_arguments(signature_of(Net), args)
    assert out_of_range(Net, args) == wrong
    if wrong is None:
        Net(**args)
        assert not findings
        return
    (finding,) = findings
    argument, _, rest = wrong.partition(" ")
    assert finding.message == f"argument {argument} of Net {rest}"
    assert (finding.code, finding.place) == ("AZ106", ("args", argument.strip("`")))
    with pytest.raises(RunError, match=wrong):
        Net(**args)


@dataclass
class Band:
    low: Annotated[float, Range(least=0)] = 0.0


class Options(TypedDict, total=False):
    gain: Annotated[float, Range(above=0)]
    sizes: Annotated[list[int], Range(least=1)]
    band: Band
    name: str


class AllOptions(Options):
    shape: Annotated[Required[tuple[int, int]], Range(least=2)]


Alias = NewType("Alias", Annotated[int, Range(least=1)])  # type: ignore[valid-newtype]


class Nested:
    def __init__(
        self,
        sizes: list[Positive] | None = None,
        pair: tuple[float, Annotated[float, Range(most=1)]] = (0.0, 0.0),
        table: dict[str, list[Natural]] | None = None,
        band: Band | None = None,
        bands: Sequence[Band] = (),
        share: Annotated[int, Range(least=1)] | Annotated[float, Range(least=0, most=1)] = 1,
        top: Literal[-1] | Annotated[int, Range(least=1)] = 1,
        free: str | float | Annotated[list[float], "of any size"] = 0.0,
        alias: Alias | None = None,
        net: object = None,
        rates: Annotated[list[float], Range(above=0)] | None = None,
        limits: Annotated[dict[str, float | list[float]], Range(most=1)] | None = None,
        either: Annotated[float | tuple[float, ...], Range(least=0)] = 0.0,
        bare: Annotated[list, Range(least=0)] | None = None,
        chosen: Annotated[set[int], Range(least=0)] | None = None,
        options: Options | None = None,
        all_options: Sequence[AllOptions] = (),
    ):
        check_ranges(Nested, locals())


@pytest.mark.parametrize(
    ("args", "place", "wrong"),
    [
        ({"sizes": [1, 2, 0, 3]}, ("sizes", 2), "is 0, but must be at least 1"),
        ({"pair": [5.0, 1.5]}, ("pair", 1), "is 1.5, but must be at most 1"),
        ({"table": {"a": [0], "b": [1, -1]}}, ("table", "b", 1), "is -1, but must be at least 0"),
        ({"band": {"low": -1.0}}, ("band", "low"), "is -1.0, but must be at least 0"),
        (
            {"bands": [{"low": 1.0}, {"low": math.nan}]},
            ("bands", 1, "low"),
            "is nan, but must be at least 0, and finite",
        ),
        ({"share": 1.5}, ("share",), "is 1.5, but must be from 0 to 1"),
        ({"share": -2}, ("share",), "is -2, but must be at least 1 or from 0 to 1"),
        ({"top": 0}, ("top",), "is 0, but must be at least 1"),
        ({"alias": 0}, ("alias",), "is 0, but must be at least 1"),
        ({"rates": [1.0, 0.0]}, ("rates", 1), "is 0.0, but must be above 0"),
        ({"limits": {"a": 1.0, "b": [0.5, 2.0]}}, ("limits", "b", 1), "is 2.0, but must be at most 1"),
        ({"limits": {"a": 1.5}}, ("limits", "a"), "is 1.5, but must be at most 1"),
        ({"either": -1.0}, ("either",), "is -1.0, but must be at least 0"),
        ({"either": [0.0, -1.0]}, ("either", 1), "is -1.0, but must be at least 0"),
        ({"bare": [0, -1]}, ("bare", 1), "is -1, but must be at least 0"),
        ({"chosen": [-1]}, ("chosen", 0), "is -1, but must be at least 0"),
        ({"options": {"gain": 0.0}}, ("options", "gain"), "is 0.0, but must be above 0"),
        ({"options": {"sizes": [1, 0]}}, ("options", "sizes", 1), "is 0, but must be at least 1"),
        ({"options": {"band": {"low": -1.0}}}, ("options", "band", "low"), "is -1.0, but must be at least 0"),
        (
            {"all_options": [{"shape": [2, 2]}, {"shape": [2, 1]}]},
            ("all_options", 1, "shape", 1),
            "is 1, but must be at least 2",
        ),
        (
            {"all_options": [{"shape": [2, 2], "gain": -1.0}]},
            ("all_options", 0, "gain"),
            "is -1.0, but must be above 0",
        ),
        ({"rates": [1.0], "limits": {"a": 1.0, "b": [1.0]}, "either": [0.0], "bare": [0, "a"]}, (), ""),
        ({"options": {"gain": 1.0, "sizes": [1], "name": "a"}, "all_options": []}, (), ""),
        ({"sizes": [1], "pair": [9.0, 1.0], "table": {"a": [0]}, "band": {"low": 0.0}, "bands": [{}]}, (), ""),
        ({"share": 3, "top": -1, "free": -5.0, "alias": 1}, (), ""),
        ({"share": 0.5, "net": {"path": "torch.nn.Linear", "args": {"in_features": -1}}}, (), ""),
    ],
)
def test_numbers_in_arrays_tables_and_unions_are_checked_too(args, place, wrong):
    findings = check_arguments(signature_of(Nested), args)
    if not wrong:
        assert not findings
        build(Nested, args)
        return
    (finding,) = findings
    assert (finding.code, finding.place) == ("AZ106", ("args", *place))
    assert finding.message == f"argument `{spell(place)}` of Nested {wrong}"
    if {"band", "bands"} & set(place):  # these are objects of a dataclass by then
        return
    with pytest.raises(RunError) as error:
        build(Nested, args)
    assert error.value.message == f"`{spell(place)}` {wrong}, for Nested"


def test_every_wrong_number_of_an_array_is_reported():
    findings = check_arguments(signature_of(Nested), {"sizes": [0, 1, -1]})
    assert [finding.place for finding in findings] == [("args", "sizes", 0), ("args", "sizes", 2)]


def test_wrong_type_is_reported_once_and_ranges_are_inherited():
    (finding,) = check_arguments(signature_of(Net), {"layers": "0"})
    assert finding.code == "AZ144"
    (finding,) = check_arguments(signature_of(Deeper), {"width": 0, "offset": -1})
    assert finding.place == ("args", "offset")


def ranged(*kinds):
    """Returns the arguments of AudioZEN's own components of these kinds that have a range, each with its component."""
    found = []
    for kind in kinds:
        for entry in installed_index().entries(kind):
            target = resolve(f"audiozen:{entry.name}", section=kind).target
            signature = signature_of(target)
            for parameter in signature.parameters if signature else ():
                for _, ranges in annotated_members(parameter.annotation, Range):
                    found += [(target, parameter.name, allowed) for allowed in ranges]
    return found


def below(allowed):
    return allowed.above if allowed.above is not None else allowed.least - 1


_NEEDED = {"MetricGanLoss": {"metric": "si_sdr"}}


def test_own_components_report_and_refuse_what_is_out_of_range():
    components = ranged("hooks", "model", "loss_function")
    assert {"max_overflows", "grace_seconds", "gamma", "num_freqs"} <= {name for _, name, _ in components}
    for target, name, allowed in components:
        arguments = {**_NEEDED.get(target.__name__, {}), name: below(allowed)}
        (finding,) = check_arguments(signature_of(target), arguments)
        assert finding.place == ("args", name)
        with pytest.raises((RunError, ValueError), match=f"`{name}` is "):
            target(**arguments)


def test_trainer_refuses_what_check_reports():
    of_base = {parameter.name for parameter in signature_of(BaseTrainer).parameters}
    arguments = {name: allowed for _, name, allowed in ranged("trainer") if name in of_base}
    assert len(arguments) >= 12
    for name, allowed in arguments.items():
        with pytest.raises(RunError, match=f"`{name}` is "):
            make_trainer(**{name: below(allowed)})
        least = allowed.least if allowed.least is not None else allowed.above + 1e-3
        make_trainer(**{name: least})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("max_epochs = 2", "max_epochs = 0"), "max_epochs = 0"),
        (("max_epochs = 2", "max_epochs = 2\nlog_interval = -1"), "log_interval = -1"),
        (("[model]", '[[hooks]]\npath = "amp"\nargs.max_overflows = -1\n[model]'), "args.max_overflows = -1"),
        (("[model]", '[[hooks]]\npath = "signals"\nargs.grace_seconds = 1e20\n[model]'), "args.grace_seconds = 1e20"),
    ],
)
def test_check_reports_it_at_its_value(tmp_path, change, line):
    path = TinyExperiment(tmp_path, "").write(change)
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(path))
    (finding,) = caught.value.diagnostics
    assert finding.code == "AZ106"
    assert path.read_text().splitlines()[finding.span.line - 1] == line
    assert finding.span.column == line.index("=") + 3


def test_choices_of_amp_are_reported_at_their_value(tmp_path):
    path = TinyExperiment(tmp_path, "").write(("[model]", '[[hooks]]\npath = "amp"\nargs.dtype = "fp16"\n[model]'))
    with pytest.raises(ConfigError, match="takes"):
        check_config(load_config(path))


class Node:
    def __init__(self, size: Annotated[int, Range(least=1)] = 1, files: list[str] | None = None, parent: Any = None):
        check_ranges(Node, locals())
        self.parent = parent


def test_numbers_of_numpy_are_checked_and_objects_are_not_looked_into():
    with pytest.raises(RunError, match="`size` is 0, but must be at least 1"):
        Node(np.int64(0))
    circle: dict[str, Any] = {}
    circle["itself"] = circle
    Node(np.int64(1), parent=circle)


def test_long_array_without_a_range_is_not_looked_at():
    class Watched(list):
        def __iter__(self):
            raise AssertionError("looked at")

    Node(files=Watched(["a.wav"]))
    assert list(wrong_numbers({0: 0}, dict[int, Annotated[int, Range(least=1)]])) == [
        (("0",), "is 0, but must be at least 1")
    ]
