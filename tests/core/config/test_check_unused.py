"""`check` warns of settings that would be ignored in silence, and refuses those that leave files out."""

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError
from tests.tiny_experiment import TinyExperiment

VALIDATE = '[validate_dataset]\npath = "parts.Data"\ndataloader.batch_size = 2\n'
PLATEAU = '[lr_scheduler]\npath = "{}"\nargs.mode = "max"\n[dataset]'
PARTS = """
class Plateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    pass
"""


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def warnings(tiny, *changes):
    """Returns the warnings of a check, each with the line that it points at."""
    path = tiny.write(*changes)
    found = check_config(load_config(path, (), ("train",))).warnings
    return [(finding.message, path.read_text().splitlines()[finding.span.line - 1].strip()) for finding in found]


@pytest.mark.parametrize(
    "line",
    [
        "patience = 3",
        'monitor = "score"',
        "validation_interval = 2",
        "validation_interval_steps = 9",
        "validation_interval_minutes = 0.5",
        "max_patience = 3",
    ],
    ids=str.split,
)
def test_argument_that_waits_for_a_score_needs_a_validation_set(tiny, line):
    change = ("max_epochs = 2", f"max_epochs = 2\n{line}")
    name = line.split(" ")[0].removeprefix("max_")
    message = f"`{name}` has no effect without a validation set, because no score is computed"
    assert (message, line) in warnings(tiny, change, (VALIDATE, ""))
    assert message not in dict(warnings(tiny, change))


def test_several_intervals_of_the_validation_are_refused(tiny):
    lines = "validation_interval = 2\nvalidation_interval_steps = 9"
    path = tiny.write(("max_epochs = 2", f"max_epochs = 2\n{lines}"))
    with pytest.raises(ConfigError) as refused:
        check_config(load_config(path, (), ("train",)))
    (finding,) = refused.value.diagnostics
    assert finding.message == (
        "the validation has several intervals: `validation_interval`, `validation_interval_steps`"
    )
    assert path.read_text().splitlines()[finding.span.line - 1] == "validation_interval_steps = 9"


@pytest.mark.parametrize("path", ["torch.optim.lr_scheduler.ReduceLROnPlateau", "parts.Plateau"])
def test_plateau_scheduler_needs_a_validation_set(tiny, path):
    change = ("[dataset]", PLATEAU.format(path))
    message = "ReduceLROnPlateau has no effect without a validation set, because no score is computed"
    assert warnings(tiny, change, (VALIDATE, "")) == [(message, f'path = "{path}"')]
    assert warnings(tiny, change) == []


def test_other_scheduler_and_arguments_need_none(tiny):
    scheduler = PLATEAU.format("torch.optim.lr_scheduler.StepLR").replace('mode = "max"', "step_size = 1")
    assert warnings(tiny, ("[dataset]", scheduler), (VALIDATE, "")) == []


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("dataloader.drop_last = true", "drop_last"),
        (
            'dataloader.batch_sampler = {path = "torch.utils.data.BatchSampler", args = {sampler = [0, 1], '
            "batch_size = 2, drop_last = true}}",
            "drop_last",
        ),
        (
            'dataloader.sampler = {path = "torch.utils.data.DistributedSampler", args = {num_replicas = 1, rank = 0, '
            "drop_last = true}}",
            "drop_last",
        ),
    ],
    ids=["dataloader", "batch_sampler", "sampler"],
)
@pytest.mark.parametrize("section", ["validate_dataset", "test_dataset"])
def test_evaluation_never_drops_its_last_batch(tiny, section, line, key):
    table = f'[{section}]\npath = "parts.Data"\n'
    path = tiny.write((f"{table}dataloader.batch_size = 2", f"{table}{line}"))
    with pytest.raises(ConfigError) as caught:
        load_and_check(path)
    mode = section.removesuffix("_dataset")
    (finding,) = [finding for finding in caught.value.diagnostics if finding.code == "AZ106"]
    assert finding.message == f"`drop_last` would leave out the last files of a data set for mode {mode}"
    assert key in path.read_text().splitlines()[finding.span.line - 1]


def test_training_may_drop_its_last_batch_and_an_evaluation_may_say_that_it_does_not(tiny):
    table = '[dataset]\npath = "parts.Data"\n'
    path = tiny.write(
        (f"{table}dataloader.batch_size = 2", f"{table}dataloader = {{batch_size = 4, drop_last = true}}"),
        (VALIDATE, f"{VALIDATE}dataloader.drop_last = false\n"),
    )
    assert load_and_check(path).warnings == ()


def load_and_check(path):
    return check_config(load_config(path, (), ("train", "test")))
