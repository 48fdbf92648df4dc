"""A sampler that leaves files out of an evaluation, or repeats them, leads to a warning with their numbers."""

import pytest

from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from tests.tiny_experiment import TinyExperiment

PARTS = """
class Batches(torch.utils.data.Sampler):
    def __init__(self, data_source, chosen: list):
        self.chosen = chosen

    def __iter__(self):
        return iter(self.chosen)
"""
CASES = {
    'sampler = {path = "torch.utils.data.SubsetRandomSampler", args.indices = [0]}': (
        "the sampler SubsetRandomSampler of [{}] yields only 1 of 6 items, so"
    ),
    'sampler = {path = "torch.utils.data.RandomSampler", args.num_samples = 2}': "yields only 2 of 6 items, so",
    'sampler = {path = "torch.utils.data.SubsetRandomSampler", args.indices = [0, 1, 2, 3, 4, 5, 5]}': (
        "repeats 1 item, so"
    ),
    'sampler = {path = "torch.utils.data.SubsetRandomSampler", args.indices = [0, 1, 2, 3, 4, 5, 5, 5, 0]}': (
        "repeats 2 items, so"
    ),
    'batch_sampler = {path = "parts.Batches", args.chosen = [[0, 1], [1, 2]]}': (
        "the sampler Batches of [{}] yields only 3 of 6 items and repeats 1 item, so"
    ),
    'sampler = "torch.utils.data.RandomSampler"': "",
    'batch_sampler = {path = "parts.Batches", args.chosen = [[0, 1, 2], [5], [3, 4]]}': "",
    "shuffle = true": "",
}


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def sampled(section, settings):
    size = "" if settings.startswith("batch_sampler") else "\ndataloader.batch_size = 2"
    old = f'[{section}]\npath = "parts.Data"\ndataloader.batch_size = 2'
    return old, f'[{section}]\npath = "parts.Data"{size}\ndataloader.{settings}'


@pytest.mark.parametrize("settings", CASES)
@pytest.mark.parametrize("mode", ["train", "test"])
def test_sampler_that_does_not_give_each_item_once_is_one_warning(tiny, mode, settings, capsys):
    section, wanted = "validate_dataset" if mode == "train" else "test_dataset", CASES[settings]
    tiny.run(sampled(section, settings), modes=(mode,) if mode == "train" else ("train", mode))
    log = capsys.readouterr().err
    assert log.count("so the results are not those of the whole data set") == bool(wanted)  # two epochs, one warning
    assert wanted.format(section) in log


def test_check_build_says_it_too_and_a_training_may_sample(tiny, capsys):
    settings = next(iter(CASES))
    dry_run(Experiment.load(tiny.write(sampled("validate_dataset", settings))))
    assert "of [validate_dataset] yields only 1 of 6 items" in capsys.readouterr().err
    dry_run(Experiment.load(tiny.write(sampled("dataset", settings))))
    assert "items" not in capsys.readouterr().err
