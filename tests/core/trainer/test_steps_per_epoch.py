"""An epoch of so many steps goes on in the data where the last one has ended."""

import copy
from pathlib import Path

import pytest
import torch
from torch.utils.data import IterableDataset

from audiozen_core.data.loader import BatchLoader
from audiozen_core.distributed.join import joined_ranks
from audiozen_core.distributed.settings import Distributed
from audiozen_core.errors import DataError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.components import Components
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.nonfinite import NonFinite
from tests.core.checkpoint.exactness import difference
from tests.on_ranks import all_right, on_ranks
from tests.tiny_training import TinyTrainer, make_trainer, state_of

TWO_RANKS = Distributed(timeout=60.0)


class Numbers(torch.utils.data.Dataset):
    """Item `index` in the epoch that the data set is told."""

    def __init__(self, size=10):
        self.size, self.told = size, 0

    def set_epoch(self, epoch):
        self.told = epoch

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return {"x": torch.full((4,), index / 10), "y": torch.randn(1), "item": (self.told, index)}


class Stream(IterableDataset):
    def __init__(self, size=10):
        self.numbers = Numbers(size)

    def set_epoch(self, epoch):
        self.numbers.set_epoch(epoch)

    def __iter__(self):
        return (self.numbers[index] for index in range(len(self.numbers)))


def loader(data=Numbers, **options):
    options = {"batch_size": 2, "shuffle": data is Numbers, "seed": 3, "collate_fn": collate, **options}
    return BatchLoader(data(options.pop("size", 10)), **options)


def collate(items):
    return {name: [item[name] for item in items] for name in items[0]} | {
        name: torch.stack([item[name] for item in items]) for name in ("x", "y")
    }


class Seen(TinyTrainer):
    """Notes the items of each batch, by epoch."""

    def __init__(self, components, **args):
        super().__init__(components, **args)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.progress.epoch + 1, batch_idx, batch["item"]))
        return super().training_step(batch, batch_idx)

    @property
    def items(self):
        return [item for _, _, items in self.seen for item in items]


class Saves:
    phase = "persist"

    def __init__(self):
        self.states = []

    @hookimpl
    def on_training_step_end(self, trainer):
        if trainer.between_steps:
            self.states.append(state_of(trainer))

    @hookimpl
    def on_epoch_end(self, trainer):
        self.states.append(state_of(trainer))


def train(loader, *, state=None, hooks=(), **args):
    trainer = make_trainer(cls=Seen, hooks=dict(hooks), max_epochs=4, **args)
    if state is not None:
        trainer.load_checkpoint(copy.deepcopy(state))
    trainer.train(loader)
    loader.close()
    return trainer


def passes(items):
    """Returns the items of each pass by the epoch that the data set was told."""
    return {told: [index for at, index in items if at == told] for told, _ in items}


def test_epochs_have_so_many_steps_and_each_pass_has_every_sample_once():
    trainer = train(loader(), steps_per_epoch=3)
    assert [(epoch, batch) for epoch, batch, _ in trainer.seen] == [(e, b) for e in range(1, 5) for b in range(3)]
    assert (trainer.progress.epoch, trainer.progress.step, trainer.num_batches) == (4, 12, 3)
    # Passes have five batches. They are those of a training run in which each epoch is a pass.
    plain = train(loader())
    assert trainer.items == plain.items[:24]
    found = passes(trainer.items)
    assert sorted(found) == [1, 2, 3]
    assert sorted(found[1]) == sorted(found[2]) == list(range(10))
    assert found[1] != found[2]


def test_same_number_of_steps_as_a_pass_trains_the_same():
    whole, plain = train(loader(), steps_per_epoch=5), train(loader())
    assert whole.seen == plain.seen
    assert difference(state_of(whole)["model"], state_of(plain)["model"]) is None
    assert difference(state_of(whole)["rng"], state_of(plain)["rng"]) is None


def test_window_of_accumulated_batches_goes_over_the_end_of_a_pass():
    trainer = train(loader(), steps_per_epoch=2, gradient_accumulation_steps=3)
    assert trainer.progress.step == 8
    assert [(epoch, batch) for epoch, batch, _ in trainer.seen] == [(e, b) for e in range(1, 5) for b in range(6)]
    assert (trainer.progress.passes, trainer.progress.pass_batch) == (4, 4)


def test_an_epoch_may_be_several_passes():
    trainer = train(loader(size=3), steps_per_epoch=5)
    assert sorted(passes(trainer.items)) == list(range(1, 11))
    assert trainer.progress.step == 20


KINDS = {
    "items": {},
    "accumulation": {"gradient_accumulation_steps": 3},
    "workers": {"num_workers": 1},
    "stream": {"data": Stream},
    "stream with a worker": {"data": Stream, "num_workers": 1},
    "stream without its last batch": {"data": Stream, "size": 9, "drop_last": True},
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] if kind in ("items", "workers", "stream") else []) for kind in KINDS],
)
def test_run_resumed_anywhere_ends_like_an_undisturbed_one(kind):
    options = dict(KINDS[kind])
    args = {"steps_per_epoch": 3, "gradient_accumulation_steps": options.pop("gradient_accumulation_steps", 1)}
    saves = Saves()
    whole = train(loader(**options), hooks={"saves": saves}, **args)
    end = state_of(whole)
    states = saves.states[:-1]
    for state in states[:: 6 if "worker" in kind else 1]:
        resumed = train(loader(**options), state=state, **args)
        assert difference(state_of(resumed), end) is None, state["progress"]
        assert resumed.seen == whole.seen[len(whole.seen) - len(resumed.seen) :]
    # Negative control: these tests notice a run that continues in another pass, or elsewhere in its pass.
    for wrong in ({"passes": 0}, {"pass_batch": 0}):
        middle = next(s for s in states if s["progress"]["passes"] and s["progress"]["pass_batch"] == 2)
        state = {**middle, "progress": {**middle["progress"], **wrong}}
        assert difference(state_of(train(loader(**options), state=state, **args)), end) is not None


def test_stream_is_read_on_over_the_ends_of_epochs_without_starting_again():
    class Counted(Stream):
        begun = 0

        def __iter__(self):
            Counted.begun += 1
            return super().__iter__()

    trainer = train(loader(Counted), steps_per_epoch=3)
    assert [index for _, index in trainer.items] == [*range(10), *range(10), *range(4)]
    assert Counted.begun == 3


def test_empty_stream_is_an_error():
    with pytest.raises(DataError, match="has no batches"):
        train(loader(Stream, size=0), steps_per_epoch=3)


def test_rollback_returns_to_the_batch_of_the_checkpoint(tmp_path):
    class Spoils(Seen):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)["loss"]
            return {"loss": loss * float("nan") if len(self.seen) == 9 else loss}

    hooks = {"checkpoint": Checkpoint(), "nonfinite": NonFinite()}
    trainer = make_trainer(
        tmp_path,
        cls=Spoils,
        hooks=hooks,
        max_epochs=4,
        steps_per_epoch=3,
        on_nonfinite="rollback",
        save_ckpt_interval=2,
    )
    trainer.train(loader())
    # The ninth batch was bad. The checkpoint is that of six steps; the seventh and the eighth batch are repeated.
    assert trainer.seen[9:11] == trainer.seen[6:8]
    assert trainer.seen[11][:2] == (4, 0)


def test_schedulers_know_the_length_of_a_training_on_a_stream():
    lengths = []

    class Told(torch.optim.lr_scheduler.LambdaLR):
        def set_training_length(self, steps):
            lengths.append(steps)

    args = {"scheduler": lambda optimizer: Told(optimizer, lambda step: 1.0), "interval": "step"}
    train(loader(Stream), steps_per_epoch=3, **args)
    train(loader(Stream), steps_per_epoch=3, max_steps=7, **args)
    assert lengths == [12, 7]


# ------------------------------------------------------------------------------- several ranks


def ranked(ranks, data, *, state=None, size=10, cls=Seen, **args):
    """Trains on the rank of this process. Returns the trainer, the states after each step, and the validations."""
    saves, validations = Saves(), []

    class Listens:
        @hookimpl
        def on_validation_end(self, trainer, epoch):
            validations.append((trainer.progress.step, epoch))

    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    components = Components(
        {"": model},
        optimizers={"": torch.optim.SGD(model.parameters(), lr=0.05)},
        lifecycle=Lifecycle([Plugin("saves", saves), Plugin("listens", Listens())], is_main=ranks.is_main),
        folder=Path(),
        experiment="tiny",
        ranks=ranks,
        distributed=TWO_RANKS,
    )
    trainer = cls(components, max_epochs=3, **args)
    if state is not None:
        trainer.load_checkpoint(copy.deepcopy(state))
    share = (ranks.rank, ranks.size)
    trainer.train(loader(data, share=share, size=size), [loader(data, shuffle=False, share=share)])
    return trainer, saves.states, validations


@pytest.mark.parametrize("data", [Numbers, pytest.param(Stream, marks=pytest.mark.slow)])
def test_ranks_go_on_in_the_data_together_and_resume_exactly(data):
    # Ten samples are five batches: two turns of two ranks, and one in which only rank 0 has a batch.
    args = {"steps_per_epoch": 2, "validation_interval_steps": 3, "gradient_accumulation_steps": 2}

    def run(rank):
        with joined_ranks(TWO_RANKS, "cpu") as ranks:
            whole, states, validations = ranked(ranks, data, **args)
            end, differences = state_of(whole), []
            for state in states[:-1:3]:
                resumed = ranked(ranks, data, state=state, **args)[0]
                differences.append(difference(state_of(resumed), end))
            return whole.items, validations, differences

    results = all_right(on_ranks(2, run))
    found = passes([item for items, *_ in results for item in items])
    assert all(sorted(found[told]) == list(range(10)) for told in (1, 2, 3, 4))
    assert [validations for _, validations, _ in results] == [[(3, 2), (6, 3)]] * 2
    assert [differences for *_, differences in results] == [[None] * 3] * 2


class DifferentClocks(Seen):
    """On rank 0 each step takes ten seconds, on rank 1 a whole hour."""

    def __init__(self, components, **args):
        super().__init__(components, **args)
        self._validation_times.clock = lambda: len(self.seen) * (3600 if self.ranks.rank else 10)


def test_clock_of_rank_0_decides_for_all():
    def run(rank):
        with joined_ranks(TWO_RANKS, "cpu") as ranks:
            return ranked(ranks, Numbers, size=16, cls=DifferentClocks, validation_interval_minutes=0.5)[2]

    assert all_right(on_ranks(2, run)) == [[(3, 1), (6, 2), (9, 3), (12, 3)]] * 2
