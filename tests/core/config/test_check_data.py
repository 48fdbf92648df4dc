"""`check` refuses what the data loaders would refuse, as far as the classes of the data sets show it."""

from __future__ import annotations

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import AudioZenError, ConfigError
from audiozen_core.experiment.experiment import Experiment
from tests.tiny_experiment import TOML, TinyExperiment

PARTS = """
from torch.utils.data import ChainDataset, IterableDataset, Sampler


class Stream(IterableDataset):
    def __iter__(self):
        data = Data()
        return iter([data[index] for index in range(len(data))])


class Sharded(Stream):
    shards_itself = True


class MayShard(Stream):
    def __init__(self, shards: int = 4):
        self.shards_itself = shards > 1


class Delegates(Stream):
    @property
    def shards_itself(self):
        return True


class Limited(Data):
    pass


class OwnCollate(Data):
    def collate_fn(self, items):
        return torch.utils.data.default_collate(items)


class SetsCollate(Data):
    def __init__(self):
        super().__init__()
        self.collate_fn = None


def make_stream():
    return Stream()


class Backwards(Sampler):
    def __init__(self, data_source):
        pass

    def __iter__(self):
        return iter([1, 0])


class Pairwise(Backwards):
    def __iter__(self):
        return iter([[1, 0]])


def collate(items):
    return torch.utils.data.default_collate(items)
"""
TRAINING_SET = '[dataset]\npath = "parts.Data"\ndataloader.batch_size = 2\n'
SETS = {
    mode: f'[{mode}]\npath = "parts.Data"\ndataloader.batch_size = 2\n'
    for mode in ("dataset", "validate_dataset", "test_dataset")
}


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def found_in(path):
    """Returns the code, the line, the text at the caret and the message of each finding."""
    try:
        findings = check_config(load_config(path, (), ["train", "test"])).warnings
    except ConfigError as error:
        findings = error.diagnostics
    lines = path.read_text().splitlines()
    return [
        (f.code, lines[f.span.line - 1][f.span.column - 1 : f.span.end_column - 1], f.message.partition(",")[0])
        for f in findings
    ]


def one(path, *dataloader, header="dataset"):
    lines = "".join(f"dataloader.{line}\n" for line in dataloader)
    return f'[{header}]\npath = "{path}"\n{lines}'


def several(*paths, dataloader="", header="dataset"):
    tables = [f'[[{header}]]\npath = "{path}"\n' for path in paths]
    tables[0] += f"dataloader.{dataloader}\n" * bool(dataloader)
    return "".join(tables)


A_STREAM = "[{}] is a stream (an iterable data set)"


@pytest.mark.parametrize("mode", ["dataset", "validate_dataset", "test_dataset"])
@pytest.mark.parametrize(
    ("path", "line", "value"),
    [
        ("parts.Stream", 'sampler = "parts.Backwards"', '"parts.Backwards"'),
        ("parts.Stream", 'batch_sampler = "parts.Pairwise"', '"parts.Pairwise"'),
        ("parts.Sharded", "shuffle = true", "true"),
        ("parts.Stream", "num_workers = 2", "2"),
    ],
)
def test_stream_with_a_sampler_or_undivided_workers_is_reported_at_the_value(tiny, mode, path, line, value):
    path = tiny.write((SETS[mode], one(path, line, header=mode)))
    assert found_in(path) == [("AZ149", value, A_STREAM.format(mode))]


@pytest.mark.parametrize(
    ("paths", "header", "message"),
    [
        (("Stream", "Data"), "dataset.1", "[dataset.0] is a stream (an iterable data set) and [dataset.1] is not"),
        (
            ("Data", "Limited", "Stream"),
            "dataset.2",
            "[dataset.2] is a stream (an iterable data set) and [dataset.0] is not",
        ),
    ],
)
def test_stream_and_map_style_set_that_are_joined_are_reported_at_the_later_path(tiny, paths, header, message):
    path = tiny.write((TRAINING_SET, several(*(f"parts.{name}" for name in paths))))
    assert found_in(path) == [("AZ149", f'"parts.{paths[-1]}"', message)]


def test_one_of_several_streams_that_is_not_divided_is_reported(tiny):
    path = tiny.write((TRAINING_SET, several("parts.Sharded", "parts.Stream", dataloader="num_workers = 2")))
    assert found_in(path) == [("AZ149", "2", "[dataset.0] and [dataset.1] is a stream (an iterable data set)")]


def test_chained_streams_are_asked_one_by_one(tiny):
    chain = (
        '[dataset]\npath = "torch.utils.data.ChainDataset"\ndataloader.num_workers = 2\n'
        'args.datasets = [{path = "parts.Sharded"}, {path = "parts.Sharded"}]\n'
    )
    assert found_in(tiny.write((TRAINING_SET, chain))) == []
    undivided = tiny.write((TRAINING_SET, chain.replace('"parts.Sharded"}]', '"parts.Stream"}]')))
    assert found_in(undivided) == [("AZ149", "2", A_STREAM.format("dataset"))]


def test_different_collate_functions_are_reported_unless_one_is_named(tiny):
    both = several("parts.Data", "parts.OwnCollate")
    message = "[dataset.0] and [dataset.1] have different collate functions"
    assert found_in(tiny.write((TRAINING_SET, both))) == [("AZ149", '"parts.OwnCollate"', message)]
    named = several("parts.Data", "parts.OwnCollate", dataloader='collate_fn = "parts.collate"')
    assert found_in(tiny.write((TRAINING_SET, named))) == []


@pytest.mark.parametrize(
    "training_set",
    [
        one("parts.Stream", "num_workers = 1"),
        one("parts.Stream", "shuffle = false", "batch_size = 2"),
        one("parts.Sharded", "num_workers = 2"),
        one("parts.MayShard", "num_workers = 2"),
        one("parts.Delegates", "num_workers = 2"),
        several("parts.Stream", "parts.Sharded"),
        several("parts.Sharded", "parts.Delegates", dataloader="num_workers = 2"),
        several("parts.OwnCollate", "parts.OwnCollate"),
        several("parts.Data", "parts.SetsCollate"),
        one("parts.Data", "shuffle = true", "num_workers = 2"),
        one("parts.Data", 'sampler = "parts.Backwards"'),
    ],
)
def test_what_a_loader_takes_is_not_reported_and_is_built(tiny, training_set):
    assert found_in(tiny.write((TRAINING_SET, training_set))) == []
    tiny.build((TRAINING_SET, training_set))


@pytest.mark.parametrize(
    "training_set",
    [
        one("parts.make_stream", 'sampler = "parts.Backwards"'),
        one("parts.make_stream", "num_workers = 2"),
        several("parts.make_stream", "parts.Data"),
    ],
)
def test_nothing_is_known_of_what_a_function_makes_before_it_is_built(tiny, training_set):
    path = tiny.write((TRAINING_SET, training_set))
    assert found_in(path) == []
    experiment = Experiment.load(path)
    with experiment.scope, pytest.raises(AudioZenError, match="is a stream"):
        experiment.build()


def test_streams_of_other_modes_are_not_joined(tiny):
    streams = several("parts.Stream", "parts.Data", header="validate_dataset")
    assert found_in(tiny.write((SETS["validate_dataset"], streams), text=TOML)) == []
