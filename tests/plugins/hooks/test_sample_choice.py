"""Which files and which validations the hook `samples` writes."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.results.samples import read_samples
from audiozen_plugins.hooks.samples import Samples
from tests.plugins.hooks.showing_trainer import Shows, kept, noise, train
from tests.tiny_training import make_loader, make_trainer, state_of

# ------------------------------------------------------------------------------------------ which files


def chosen(samples):
    return sorted({sample.id for sample in samples})


def test_the_files_are_the_same_whatever_the_batches_are(tmp_path):
    found = []
    for size in (1, 3, 20):
        folder = tmp_path / str(size)
        validation = make_loader(shuffle=size == 3, batch_size=size)
        train(folder, samples=Samples(count=3), validation=validation, max_epochs=1)
        found.append(chosen(read_samples(folder)))
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]
    # They are spread over the set.
    assert chosen(read_samples(tmp_path / "1")) != [f"sample {index}" for index in range(3)]


def test_files_can_be_named(tmp_path, capsys):
    train(tmp_path, samples=Samples(files=["sample 7", "sample 12", "sample 99"]), max_epochs=2)
    assert chosen(read_samples(tmp_path)) == ["sample 12", "sample 7"]
    assert capsys.readouterr().err.count("no validation set has the file sample 99, which `files` names") == 1


class Ranks:
    """Two ranks in one process: `gather` returns what both have."""

    several = True

    def __init__(self):
        self.others = []

    def gather(self, value):
        return [value, self.others.pop(0)]


@pytest.mark.parametrize("named", [[], ["sample 1", "sample 4"]])
def test_several_ranks_choose_the_files_that_one_rank_would(tmp_path, named):
    hooks, taken = [], []
    for start in (0, 1, None):
        hook = Samples(count=3, files=named)
        hook._training = True
        trainer = make_trainer(tmp_path, cls=Shows)
        for index in range(20) if start is None else range(start, 20, 2):
            signals = [{"noisy": noise(f"sample {index}"), "enhanced": noise("x")}]
            hook.on_evaluation_step_end(trainer, {"id": [f"sample {index}"]}, index, 0, signals)
        hooks.append(hook)
        taken.append(hook._collected)
    first, second, alone = taken
    ranks = Ranks()
    of_one = hooks[2]._of_all_ranks(SimpleNamespace(ranks=SimpleNamespace(several=False)), alone)
    # The second rank sends all that it has; only the chosen ones of both are used.
    ranks.others = [list(second), {key: one for key, one in second.items() if key in of_one}]
    of_two = hooks[0]._of_all_ranks(SimpleNamespace(ranks=ranks), first)
    assert list(of_two) == list(of_one)
    assert {key[1] for key in of_two} == (set(named) or {key[1] for key in of_one})
    assert len(of_two) == (2 if named else 3)


def test_the_middle_of_a_long_file_is_kept(tmp_path):
    class Long(Shows):
        seconds = 0.3

    train(tmp_path, cls=Long, samples=Samples(count=1, max_seconds=0.1), max_epochs=1)
    (sample,) = read_samples(tmp_path)
    assert (sample.begin, sample.seconds) == (pytest.approx(0.1), pytest.approx(0.1))
    found, _ = soundfile.read(tmp_path / "samples" / sample.signals["noisy"].path)
    np.testing.assert_allclose(found, noise(sample.id, 0.3)[1600:3200], atol=1 / 32768)


def test_an_output_that_equals_the_input_is_not_taken_for_the_input(tmp_path):
    class DoesNothing(Shows):
        def enhanced(self, noisy):
            return noisy.clone()

    train(tmp_path, cls=DoesNothing, max_epochs=1)
    (sample,) = read_samples(tmp_path)
    assert {name: signal.from_dataset for name, signal in sample.signals.items()} == {
        "noisy": True,
        "enhanced": False,
        "clean": True,
    }


def test_input_of_another_name_is_recognised(tmp_path):
    class Mixture(Shows):
        def show(self, **signals):
            super().show(mixture=signals["noisy"], separated_1=signals["enhanced"], source_1=signals["clean"])

    train(tmp_path, cls=Mixture, max_epochs=1)
    (sample,) = read_samples(tmp_path)
    assert [signal.from_dataset for signal in sample.signals.values()] == [True, False, True]


def test_a_data_set_that_has_changed_does_not_replace_the_audio_of_earlier_samples(tmp_path):
    train(tmp_path, max_epochs=1)
    (before,) = read_samples(tmp_path)
    audio = (tmp_path / "samples" / before.signals["noisy"].path).read_bytes()

    class Other(Shows):
        def prepare_batch(self, batch, mode):
            batch = super().prepare_batch(batch, mode)
            return {**batch, "noisy": batch["noisy"] * 2} if mode == "validate" else batch

    trainer = make_trainer(tmp_path, cls=Other, hooks={"samples": Samples(count=1)}, max_epochs=2)
    trainer.progress.epoch, trainer.progress.step, trainer.progress.validations = 1, 5, 1
    trainer.train(make_loader(), [make_loader(shuffle=False)])
    first, second = read_samples(tmp_path)
    assert first.signals["noisy"] == before.signals["noisy"]
    assert (tmp_path / "samples" / first.signals["noisy"].path).read_bytes() == audio
    found, _ = soundfile.read(tmp_path / "samples" / second.signals["noisy"].path)
    np.testing.assert_allclose(found, 2 * noise(second.id), atol=1 / 32768)


# ------------------------------------------------------------------------------------------ which validations


def test_validations_are_thinned_out_as_the_training_gets_longer(tmp_path):
    class Worse(Shows):
        scores = (1, *range(0, -20, -1))

    folders = []

    class Watches:
        @hookimpl
        def on_epoch_end(self, trainer):
            folders.append(kept(tmp_path))

    train(tmp_path, cls=Worse, samples=Samples(count=1, keep=2), hooks={"watches": Watches()}, max_epochs=9)
    # The first is the best one.
    assert folders == [[1], [1, 2], [1, 2], [1, 2, 4], [1, 2, 4], [1, 2, 4], [1, 2, 4], [1, 4, 8], [1, 4, 8]]
    assert sorted(p.name for p in (tmp_path / "samples").glob("epoch_*")) == ["epoch_0001", "epoch_0004", "epoch_0008"]


def test_a_new_best_validation_replaces_the_old_one(tmp_path):
    class Better(Shows):
        scores = range(10)

    train(tmp_path, cls=Better, samples=Samples(count=1, every=3), max_epochs=5)
    assert [(sample.epoch, sample.best) for sample in read_samples(tmp_path)] == [(3, False), (5, True)]


def test_a_resumed_run_repeats_the_samples_after_its_checkpoint(tmp_path):
    states = {}

    class Saves:
        phase = "persist"

        @hookimpl
        def on_epoch_end(self, trainer, epoch):
            states[epoch] = state_of(trainer)

    train(tmp_path, hooks={"saves": Saves()}, max_epochs=3)
    before = {path: path.read_bytes() for path in (tmp_path / "samples").rglob("*.flac")}
    again = make_trainer(tmp_path, cls=Shows, hooks={"samples": Samples(count=1)}, max_epochs=3)
    again.load_checkpoint(states[1])
    found = []

    class Watches:
        @hookimpl
        def on_run_start(self):
            found.append(kept(tmp_path))

    again.hooks = Lifecycle([*again.hooks.plugins, Plugin("watches", Watches())])
    again.train(make_loader(), [make_loader(shuffle=False)])
    assert found == [[1]]
    assert kept(tmp_path) == [1, 2, 3]
    assert {path: path.read_bytes() for path in (tmp_path / "samples").rglob("*.flac")} == before


def test_rollback_removes_later_samples(tmp_path):
    trainer = train(tmp_path, max_epochs=2)
    trainer.progress.epoch, trainer.progress.step = 1, 5
    hook = Samples(count=1)
    hook.on_run_start(trainer, "train")
    assert kept(tmp_path) == [1]


def test_a_validation_within_an_epoch_has_a_folder_of_its_own(tmp_path):
    train(tmp_path, validation_interval_steps=3, max_epochs=1)
    (sample,) = [sample for sample in read_samples(tmp_path) if sample.step == 3]
    assert sample.sheet.startswith("epoch_0001_step_0000003/")
    assert sample.epoch == 1
