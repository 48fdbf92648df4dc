"""How the data sets of a TOML file become loaders: joined, told the epoch, sampled, and refused if that can't work."""

import pytest
import tomli

from audiozen_core.config.toml.emit import emit
from audiozen_core.errors import BuildError, ConfigError, DataError
from audiozen_core.experiment.experiment import Experiment

PARTS = """\
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler
from audiozen_core.trainer.base_trainer import BaseTrainer

class Trainer(BaseTrainer):
    def training_step(self, batch, batch_idx):
        return self.model(batch["x"].float().view(-1, 1)).square().mean()
    def validation_step(self, batch, batch_idx, dataloader_idx):
        return batch["x"].tolist()
    def validation_epoch_end(self, outputs):
        return 0.0

def collate(items):
    return {key: torch.tensor([item[key] for item in items]) for key in items[0]}

class Numbers(Dataset):
    epoch = -1
    def __init__(self, first: int = 0, size: int = 6):
        self.first, self.size = first, size
    def set_epoch(self, epoch):
        self.epoch = epoch
    def __len__(self):
        return self.size
    def __getitem__(self, index):
        return {"x": self.first + index, "epoch": self.epoch}

class OwnCollate(Numbers):
    @staticmethod
    def collate_fn(items):
        return collate(items)

class Method(Numbers):
    def collate_fn(self, items):
        return collate(items)

class Stream(IterableDataset):
    epoch = -1
    def __init__(self, first: int = 0, size: int = 6):
        self.first, self.size = first, size
    def set_epoch(self, epoch):
        self.epoch = epoch
    def __iter__(self):
        return iter([{"x": self.first + index, "epoch": self.epoch} for index in range(self.size)])

class Sharded(Stream):
    shards_itself = True

# The check can't know what a function returns, so the loader is the first to see it.
def make_stream(first: int = 0, size: int = 6):
    return Stream(first, size)

def make_own_collate(first: int = 0, size: int = 6):
    return OwnCollate(first, size)

class Backwards(Sampler):
    def __init__(self, data_source):
        self.size = len(data_source) if hasattr(data_source, "__len__") else 6
    def __len__(self):
        return self.size
    def __iter__(self):
        return iter(range(self.size - 1, -1, -1))

class Pairwise(Sampler):
    def __init__(self, data_source):
        self.size = len(data_source)
    def set_epoch(self, epoch):
        self.epoch = epoch
    def __len__(self):
        return self.size // 2
    def __iter__(self):
        return iter([[self.epoch, self.size - 1 - index] for index in range(self.size // 2)])
"""

BASE = """\
[meta]
save_dir = "exp"
device = "cpu"
[trainer]
path = "parts.Trainer"
args.max_epochs = 2
[model]
path = "torch.nn.Linear"
args = {in_features = 1, out_features = 1}
[loss_function]
path = "torch.nn.MSELoss"
[optimizer]
path = "torch.optim.SGD"
args.lr = 0.0
[[hooks]]
path = "tensorboard"
enabled = false
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Returns a function that builds the training loader of some `[[dataset]]` tables."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.py").write_text(PARTS)

    def call(tables, **more):
        (tmp_path / "exp.toml").write_text(emit(tomli.loads(BASE) | {"dataset": tables, **more}))
        experiment = Experiment.load(tmp_path / "exp.toml")
        with experiment.scope:
            _, loaders = experiment.build()
        return loaders["train"][0]

    return call


def epoch_of(loader, epoch):
    """Returns the numbers of each batch, and the epochs that the data sets were told."""
    batches = list(loader.epoch(epoch))
    loader.close()
    return [batch["x"].tolist() for batch in batches], {told for batch in batches for told in batch["epoch"].tolist()}


def table(path, first=0, size=6, **dataloader):
    return {"path": path, "args": {"first": first, "size": size}, **({"dataloader": dataloader} if dataloader else {})}


@pytest.mark.parametrize("workers", [0, 1])
def test_streams_are_chained_and_given_the_epoch(build, workers):
    loader = build([table("parts.Stream", 0, 3, batch_size=2, num_workers=workers), table("parts.Stream", 10, 2)])
    for epoch in (1, 2):
        assert epoch_of(loader, epoch) == ([[0, 1], [2, 10], [11]], {epoch})


@pytest.mark.parametrize("workers", [0, 2])
def test_joined_data_sets_are_given_the_epoch_also_in_persistent_workers(build, workers):
    dataloader = {"batch_size": 4, "num_workers": workers, "shuffle": False}
    loader = build([table("parts.Numbers", 0, 3, **dataloader), table("parts.Numbers", 10, 3)])
    for epoch in (1, 2, 1):
        batches, told = epoch_of(loader, epoch)
        assert batches == [[0, 1, 2, 10], [11, 12]]
        assert told == {epoch}


@pytest.mark.parametrize(
    ("kinds", "stream", "other"),
    [
        (("make_stream", "Numbers"), "[dataset.0]", "[dataset.1]"),
        (("Numbers", "Numbers", "make_stream"), "[dataset.2]", "[dataset.0]"),
    ],
)
def test_stream_and_map_style_data_set_cannot_be_joined(build, kinds, stream, other):
    with pytest.raises(BuildError) as caught:
        build([table(f"parts.{kind}") for kind in kinds])
    assert caught.value.message.startswith(f"{stream} is a stream (an iterable data set) and {other} is not")
    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.source) == ("AZ149", "[[dataset]]")


def test_an_empty_data_set_among_several_is_an_error(build):
    with pytest.raises(DataError, match=r"\[dataset.1\] is empty"):
        build([table("parts.Numbers"), table("parts.Numbers", size=0)])
    with pytest.raises(DataError, match=r"\[dataset.0\] is empty"):
        build([table("parts.Numbers", size=0)])


def test_data_sets_with_different_collate_functions_need_one_in_the_toml(build):
    both = [table("parts.Numbers", batch_size=2), table("parts.make_own_collate")]
    with pytest.raises(BuildError, match=r"\[dataset.0\] and \[dataset.1\] have different collate functions") as caught:
        build(both)
    assert "[dataset.0.dataloader]" in caught.value.remedy
    both[0]["dataloader"]["collate_fn"] = "parts.collate"
    assert build(both).num_batches == 6
    for kind in ("OwnCollate", "Method"):
        assert build([table(f"parts.{kind}"), table(f"parts.{kind}")]).num_batches == 12


def test_sampler_sees_all_joined_data_sets(build):
    loader = build([table("parts.Numbers", 0, 2, sampler="parts.Backwards"), table("parts.Numbers", 10, 2)])
    assert epoch_of(loader, 1)[0] == [[11], [10], [1], [0]]


def test_batch_sampler_makes_the_batches_and_is_given_the_epoch(build):
    loader = build([table("parts.Numbers", batch_sampler="parts.Pairwise")])
    assert epoch_of(loader, 1) == ([[1, 5], [1, 4], [1, 3]], {1})
    assert epoch_of(loader, 2)[0] == [[2, 5], [2, 4], [2, 3]]


@pytest.mark.parametrize(
    "extra", [{"batch_size": 2}, {"shuffle": True}, {"drop_last": False}, {"sampler": "parts.Backwards"}]
)
def test_keys_that_a_batch_sampler_would_ignore_are_reported(build, extra):
    with pytest.raises(ConfigError) as caught:
        build([table("parts.Numbers", batch_sampler="parts.Pairwise", **extra)])
    (finding,) = caught.value.diagnostics
    assert finding.code == "AZ113"
    assert (
        finding.message
        == f"`dataset[0].dataloader.{next(iter(extra))}` would be ignored: `batch_sampler` makes whole batches"
    )


@pytest.mark.parametrize("extra", [{"sampler": "parts.Backwards"}, {"shuffle": True}, {"num_workers": 2}])
@pytest.mark.parametrize("mode", ["dataset", "validate_dataset"])
def test_stream_that_cannot_be_loaded_so_is_an_error_that_names_its_section(build, mode, extra):
    tables = {"dataset": [table("parts.Stream")], "validate_dataset": [table("parts.Stream")]}
    tables[mode] = [table("parts.make_stream", **extra)]
    with pytest.raises(DataError, match=rf"\[{mode}.0\] is a stream"):
        build(tables["dataset"], validate_dataset=tables["validate_dataset"])
    tables[mode] = [table("parts.Sharded", num_workers=2)]
    assert build(tables["dataset"], validate_dataset=tables["validate_dataset"]).num_batches is None


def test_pad_collate_can_be_named_by_its_public_name(build):
    loader = build([table("parts.Numbers", batch_size=3, collate_fn="audiozen.dataset.pad_collate")])
    assert sorted(number for batch in epoch_of(loader, 1)[0] for number in batch) == list(range(6))


RATED = """
class Rated(Numbers):
    def __init__(self, sr: int = 16000):
        super().__init__()
        self.sr = sr
"""


def test_data_set_that_takes_sr_gets_that_of_the_acoustics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.py").write_text(PARTS + RATED)
    text = BASE + '[acoustics]\nsr = 48000\n[dataset]\npath = "parts.Rated"\n'
    (tmp_path / "exp.toml").write_text(text)
    experiment = Experiment.load(tmp_path / "exp.toml")
    with experiment.scope:
        assert experiment.build()[1]["train"][0].dataset.sr == 48000
    (tmp_path / "exp.toml").write_text(f"{text}args.sr = 16000\n")
    with pytest.raises(ConfigError, match=r"`sr` of `parts\.Rated` is 16000, but 48000"):
        Experiment.load(tmp_path / "exp.toml")
