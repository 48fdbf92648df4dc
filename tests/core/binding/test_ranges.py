"""The range of an argument is written once, in its annotation: `check` and the constructor use the same."""

from __future__ import annotations

import math
from typing import Annotated

import pytest

from audiozen_core.binding.annotations import metadata_of
from audiozen_core.binding.arguments import check_arguments
from audiozen_core.binding.ranges import Natural, Positive, Range, check_ranges, out_of_range
from audiozen_core.binding.signature import signature_of
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
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
                for allowed in metadata_of(parameter.annotation, Range):
                    found.append((target, parameter.name, allowed))
    return found


def below(allowed):
    return allowed.above if allowed.above is not None else allowed.least - 1


def test_own_components_report_and_refuse_what_is_out_of_range():
    components = ranged("hooks", "model", "loss_function")
    assert {"max_overflows", "grace_seconds", "gamma", "num_freqs"} <= {name for _, name, _ in components}
    for target, name, allowed in components:
        (finding,) = check_arguments(signature_of(target), {name: below(allowed)})
        assert finding.place == ("args", name)
        with pytest.raises((RunError, ValueError), match=f"`{name}` is "):
            target(**{name: below(allowed)})


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
