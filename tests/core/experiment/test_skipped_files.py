"""Skipped files count for the mode that reads them: those of a test do not count in the training."""

import pytest

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import DataError
from audiozen_core.testing.tiny import TinyExperiment, write_pairs

CHANGED = "the data sets don't skip the same files as when the checkpoint was saved"


@pytest.fixture
def tiny(tmp_path):
    """The test set has two files that are not audio, and is in folders of its own."""
    tiny = TinyExperiment(tmp_path).set("trainer", on_bad_data="skip", max_bad_data=2)
    write_pairs(tmp_path / "test")
    for index in (0, 1):
        (tmp_path / f"test/noisy/clip_{index}.wav").write_bytes(b"no audio")
    return tiny.set("test_dataset", noisy_dir=str(tmp_path / "test/noisy"), clean_dir=str(tmp_path / "test/clean"))


def remembered(outcome):
    return CheckpointStore(outcome.folder / "checkpoints").load("latest").state["unreadable"]


def test_files_of_the_test_are_not_in_the_checkpoints_of_the_training(tiny, capsys):
    together = remembered(tiny.run("train", "test"))
    assert together == {"samples": [], "files": []}
    assert "unreadable samples of the test data are skipped" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "then"), [(("train", "test"), ("train",)), (("train",), ("train", "test"))])
def test_resume_with_or_without_the_test_is_no_change_of_the_training_data(tiny, capsys, first, then):
    tiny.run(*first)
    tiny.set("trainer", max_epochs=3).run(*then, resume=True)
    assert CHANGED not in capsys.readouterr().err


@pytest.mark.parametrize("role", ["dataset", "validate_dataset"])
def test_resume_with_other_files_for_training_or_validation_is_reported(tiny, tmp_path, capsys, role):
    """The negative control."""
    write_pairs(tmp_path / "own")
    tiny.set(role, noisy_dir=str(tmp_path / "own/noisy"), clean_dir=str(tmp_path / "own/clean")).run()
    (tmp_path / "own/noisy/clip_3.wav").write_bytes(b"no audio")
    tiny.set("trainer", max_epochs=3).run(resume=True)
    assert CHANGED in capsys.readouterr().err


def test_limit_holds_for_the_training_and_for_the_test_each(tiny, tmp_path):
    """Two files of the training and two of the test are at the limit of two, and not beyond it."""
    for index in (2, 3):
        (tmp_path / f"noisy/clip_{index}.wav").write_bytes(b"no audio")
    outcome = tiny.run("train", "test")
    assert len(remembered(outcome)["files"]) == 2
    (tmp_path / "test/noisy/clip_2.wav").write_bytes(b"no audio")
    with pytest.raises(DataError, match="3 samples can't be read, more than `max_bad_data = 2`"):
        tiny.run("test")
