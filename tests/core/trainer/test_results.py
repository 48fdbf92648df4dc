"""Result folders: never written to twice, and complete or marked as incomplete."""

from contextlib import nullcontext

import pytest
from torch import nn

from audiozen_core.errors import DataError, RunError
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.results import ResultFolder
from tests.tiny_training import TinyTrainer, make_loader


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_each_result_has_a_folder_of_its_own(tmp_path):
    wanted = tmp_path / "test" / "best_epoch_0012"
    assert [ResultFolder(wanted).complete(), (tmp_path / "test").exists()] == [None, False]
    for _ in range(3):
        results = ResultFolder(wanted)
        (results.of_dataset("0") / "scores.csv").touch()
        results.complete()
    found = [path.name for path in sorted((tmp_path / "test").iterdir())]
    assert found == ["best_epoch_0012", "best_epoch_0012_2", "best_epoch_0012_3"]


def test_two_results_at_the_same_time_do_not_mix(tmp_path):
    first, second = ResultFolder(tmp_path / "a"), ResultFolder(tmp_path / "a")
    folders = [results.of_dataset("0") for results in (first, second)]
    assert folders[0] != folders[1]
    assert (second.complete(), first.complete()) == (tmp_path / "a_2", tmp_path / "a")


class Writes(TinyTrainer):
    """Writes a file for each data set, and can fail in the middle."""

    fails = False

    def predict_step(self, batch, batch_idx, dataloader_idx):
        (self.result_folder(dataloader_idx) / f"{batch_idx}.txt").touch()
        if self.fails and batch_idx == 1:
            raise RunError("out of paper")

    test_step = predict_step

    def test_epoch_end(self, outputs):
        (self.result_folder(0) / "summary.txt").touch()


def make(folder, **more):
    return Writes(Components({"": nn.Linear(4, 1)}, folder=folder, **more))


def test_folder_says_mode_checkpoint_and_data_set(tmp_path):
    trainer = make(tmp_path, dataset_names={"test": ["street", "1"]})
    trainer.checkpoint_name = "best_epoch_0003"
    trainer.test([make_loader(4), make_loader(4)])
    trainer.predict([make_loader(4)])
    files = [name for name in names(tmp_path) if name.endswith(".txt")]
    assert files == [
        "predict/best_epoch_0003/0/0.txt",
        "test/best_epoch_0003/1/0.txt",
        "test/best_epoch_0003/street/0.txt",
        "test/best_epoch_0003/street/summary.txt",
    ]


def test_results_of_a_run_that_fails_are_marked_as_incomplete(tmp_path):
    trainer = make(tmp_path)
    trainer.fails = True
    with pytest.raises(RunError, match="out of paper"):
        trainer.predict([make_loader(8)])
    trainer.fails = False
    trainer.predict([make_loader(8)])
    assert sorted(path.name for path in (tmp_path / "predict").iterdir()) == ["epoch_0000.incomplete", "epoch_0000_2"]


def test_there_is_no_result_folder_outside_of_a_test_or_prediction(tmp_path):
    with pytest.raises(RunError, match="only a test or a prediction"):
        make(tmp_path).result_folder(0)


def test_data_set_without_a_name_is_called_by_its_index(tmp_path):
    trainer = make(tmp_path, dataset_names={"test": ["street", "1"]})
    assert [trainer.dataset_name("test", index) for index in range(3)] == ["street", "1", "2"]
    assert trainer.dataset_name("validate", 0) == "0"


@pytest.mark.parametrize(
    ("names_of_batches", "message"),
    [
        (["audio/a.txt", "audio/a.txt"], "two samples would write the same file `audio/a.txt`"),
        (["audio/a.txt", "../../a.txt"], r"the name `\.\./\.\./a\.txt` leads out of"),
        (["audio/a.txt", "/a.txt"], "the name `/a.txt` leads out of"),
        (["audio/a.txt", "audio/b.txt"], ""),
    ],
)
def test_no_two_samples_write_the_same_file_and_none_outside_the_folder(tmp_path, names_of_batches, message):
    class Named(Writes):
        def predict_step(self, batch, batch_idx, dataloader_idx):
            path = self.result_file(dataloader_idx, names_of_batches[batch_idx])
            path.parent.mkdir(exist_ok=True)
            path.touch()

    trainer = Named(Components({"": nn.Linear(4, 1)}, folder=tmp_path))
    with pytest.raises(DataError, match=message) if message else nullcontext():
        trainer.predict([make_loader(8)])
    assert len([name for name in names(tmp_path) if name.endswith(".txt")]) == (1 if message else 2)
