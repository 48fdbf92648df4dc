"""A string that an argument takes as the name of a component is resolved by `check`, like the `path` of a section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from audiozen_core.binding.component_names import (
    ComponentName,
    is_component_name,
    kind_of_component,
)
from audiozen_core.binding.values import annotation_below
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError
from audiozen_core.scoring.chosen import MetricSpec
from audiozen_plugins.metric.si_sdr import SiSdr
from tests.tiny_experiment import TinyExperiment

# A trainer of a third party, which uses public names only.
PARTS = """
import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal
from audiozen.errors import MissingExtraError
from audiozen.metric import MetricSpec, build_metric
from audiozen.registry import ComponentName


@dataclasses.dataclass
class Monitor:
    metric: Annotated[str, ComponentName("metric")]
    every: int = 1


class Rated(Trainer):
    def __init__(
        self,
        components,
        *,
        score: MetricSpec = "si_sdr",
        metrics: Sequence[MetricSpec] = (),
        by_name: dict[str, MetricSpec] | None = None,
        monitor: Monitor | None = None,
        loss: Annotated[str, ComponentName("loss_function")] | Literal["none"] = "none",
        title: str = "",
        **kwargs,
    ):
        super().__init__(components, **kwargs)
        self.given = score, metrics, by_name, monitor, loss, title
        self.metrics = [build_metric(spec) for spec in metrics]


class Needs:
    name = label = "needs"
    unit = ""
    higher_is_better = True

    def __init__(self, order: int):
        self.order = order

    def __call__(self, estimate, reference, *, sr):
        return 0.0
"""
TRAINER = 'path = "parts.Trainer"\n[trainer.args]\n'


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def rated(args):
    return TRAINER, f'path = "parts.Rated"\n[trainer.args]\n{args}\n'


def found_in(tiny, args):
    """Returns the code, the text at the caret, the label and the severity of each finding."""
    path = tiny.write(rated(args))
    try:
        findings = check_config(load_config(path)).warnings
    except ConfigError as error:
        findings = error.diagnostics
    lines = path.read_text().splitlines()
    return [
        (f.code, lines[f.span.line - 1][f.span.column - 1 : f.span.end_column - 1], f.label, f.severity)
        for f in findings
    ]


MEANT = "did you mean `stoi`?", "error"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ('score = "stoy"', ("AZ203", '"stoy"', *MEANT)),
        ('metrics = ["si_sdr", "stoy"]', ("AZ203", '"stoy"', *MEANT)),
        ('by_name = {a = "stoy"}', ("AZ203", '"stoy"', *MEANT)),
        ('monitor = {metric = "stoy"}', ("AZ203", '"stoy"', *MEANT)),
        ('loss = "si_snrr"', ("AZ203", '"si_snrr"', "did you mean `si_snr`?", "error")),
        ('metrics = ["parts.Nedes"]', ("AZ206", '"parts.Nedes"', "did you mean `parts.Needs`?", "error")),
        # What is looked up in a table is a metric, too, not a loss of that name.
        ('metrics = [{path = "soft_dtw"}]', ("AZ203", '"soft_dtw"', "", "error")),
        # The metric is built without arguments.
        ('metrics = ["parts.Needs"]', ("AZ141", '"parts.Needs"', "", "error")),
        ('metrics = ["missing_metric.Metric"]', ("AZ201", '"missing_metric.Metric"', "", "warning")),
    ],
)
def test_wrong_name_is_reported_at_its_position(tiny, args, expected):
    (tiny.folder / "missing_metric.py").write_text(
        "from audiozen.errors import MissingExtraError\nraise MissingExtraError('x', extra='x', needed_by='it')\n"
    )
    (found,) = found_in(tiny, args)
    assert found == expected


@pytest.mark.parametrize(
    "args",
    [
        'score = "si_sdr"\nmetrics = ["stoi", "audiozen:pesq", {path = "parts.Needs", args = {order = 2}}]',
        'by_name = {a = "audiozen.metric.SiSdr"}\nmonitor = {metric = "dnsmos", every = 2}',
        'loss = "soft_dtw"',
        'loss = "none"',
        'title = "stoy"',
    ],
)
def test_right_name_and_any_other_string_is_not_reported(tiny, args):
    assert found_in(tiny, args) == []


def test_names_are_passed_as_they_are_and_tables_are_built(tiny):
    args = (
        'score = "stoi"\nmetrics = ["si_sdr", {path = "parts.Needs", args = {order = 2}}]\nmonitor = {metric = "stoi"}'
    )
    trainer, _ = tiny.build(rated(args))
    score, metrics, by_name, monitor, loss, _ = trainer.given
    assert (score, metrics[0], by_name, monitor.metric, loss) == ("stoi", "si_sdr", None, "stoi", "none")
    assert metrics[1].order == 2
    assert isinstance(trainer.metrics[0], SiSdr)
    assert trainer.metrics[1] is metrics[1]


@dataclass
class Fields:
    name: Annotated[str, ComponentName("metric")]


NAME = Annotated[str, ComponentName("metric")]


def test_annotations_below_unions_arrays_tables_and_dataclasses():
    assert kind_of_component(MetricSpec) == "metric"
    assert kind_of_component(annotation_below(Sequence[MetricSpec] | None, 3)) == "metric"
    assert kind_of_component(annotation_below(Mapping[str, NAME] | list[str], "a")) == "metric"
    assert kind_of_component(annotation_below(Mapping[str, NAME] | list[str], 0)) is None
    assert kind_of_component(annotation_below(tuple[int, NAME], 1)) == "metric"
    assert kind_of_component(annotation_below(tuple[int, NAME], 0)) is None
    assert annotation_below(tuple[int, NAME], 2) is Any
    assert kind_of_component(annotation_below(Fields, "name")) == "metric"
    assert annotation_below(Fields, "other") is Any
    assert annotation_below(list[Callable[[int], float]] | None, 0) == Callable[[int], float]


def test_word_of_a_literal_beside_a_name_is_no_name():
    either = NAME | Literal["none"]
    assert is_component_name("stoi", either)
    assert not is_component_name("none", either)
    assert not is_component_name("stoi", str)
    assert not is_component_name(3, either)


def test_kind_that_plugins_do_not_publish_is_refused():
    with pytest.raises(ValueError, match="of the kind 'metrics', only"):
        ComponentName("metrics")
