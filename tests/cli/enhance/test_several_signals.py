"""`audiozen enhance`: networks with several signals, long files, and results that can be written only in part."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from audiozen_core.errors import DataError, RunError
from audiozen_core.inference import jobs
from audiozen_core.inference.enhancer import Enhancer
from audiozen_core.inference.inputs import list_jobs
from audiozen_core.inference.load import load
from audiozen_core.inference.records import Records
from audiozen_core.storage.atomic import is_temporary
from tests.cli.enhance.audio_files import noise, write

LONG = 3000


@pytest.fixture(autouse=True)
def longest_kept(monkeypatch):
    """Makes files of more than 0.15 s long files, whose results are written piece by piece."""
    monkeypatch.setattr(jobs, "_LONGEST_KEPT", 0.15)


@pytest.fixture
def changed(monkeypatch):
    """Returns a function that changes what networks return."""
    real = Enhancer.enhance_stream

    def change(function):
        monkeypatch.setattr(Enhancer, "enhance_stream", lambda *args, **kwargs: map(function, real(*args, **kwargs)))

    return change


def three(piece):
    """Three signals, the last of which is louder than full scale."""
    return torch.stack([piece, 0.5 * piece, 30 * piece], 1)


def infinite(piece):
    return torch.stack([piece, piece / 0], 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_messages_about_a_long_file_name_its_result(enhance, place, changed, workers):
    for name in ("long", "second"):
        write(f"in/{name}.wav", noise(LONG))
    changed(three)
    told = enhance("in", "-o", "out", "--num-workers", workers).err
    assert "samples of `out/long_3.wav` are louder" in told
    assert "partial" not in told
    changed(infinite)
    told = enhance("in", "-o", "other", "--num-workers", workers, code=1).err
    assert "the wave for `other/long_2.wav` has a sample that is NaN or infinite" in told
    assert "partial" not in told
    assert [path for path in Path("other").iterdir() if is_temporary(path.name)] == []


def test_each_signal_of_a_long_file_has_a_temporary_file_that_the_next_command_removes(
    model, enhance, place, changed, monkeypatch
):
    write("in/long.wav", noise(LONG)), write("in/second.wav", noise(LONG))
    changed(three)
    store = jobs.store_result

    def killed(*arguments):
        store(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "store_result", killed)
        enhance("in", "-o", "out", "--num-workers", 2, code=1)
    names = [path.name for path in Path("out").iterdir()]
    assert len(names) == 6
    assert all(map(is_temporary, names))
    enhance("in", "-o", "out", "--num-workers", 0)
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "enhanced.jsonl", *(f"{name}_{number}.wav" for name in ("long", "second") for number in (1, 2, 3))
    ]  # fmt: skip


@pytest.mark.parametrize("length", [1000, LONG])
def test_part_of_a_result_is_removed_so_that_the_next_command_continues(enhance, place, changed, length):
    write("in/a.wav", noise(length)), write("in/b.wav", noise(1000))
    changed(three)
    Path("out/a_2.wav").mkdir(parents=True)
    told = enhance("in", "-o", "out", code=1).err
    assert "`out/a_2.wav` can't be written: Is a directory" in told
    results = {"enhanced.jsonl", "b_1.wav", "b_2.wav", "b_3.wav"}
    assert {path.name for path in Path("out").iterdir()} == {*results, "a_2.wav"}
    Path("out/a_2.wav").rmdir()
    # Before, the first signal was left without a record, and the command refused to replace it.
    assert "enhanced 1 file" in enhance("in", "-o", "out").out
    # A file of the user is never removed.
    write("in/c.wav", noise(length)), write("out/c_2.wav")
    Path("out/c_3.wav").mkdir()
    enhance("in/c.wav", "-o", "out", "--overwrite", code=1)
    assert not Path("out/c_1.wav").exists()


def test_result_of_a_numbered_input_is_not_taken_for_a_signal_of_another_one(enhance, place):
    write("in/a_1.wav")
    enhance("in", "-o", "out")
    write("in/a.wav")
    assert "skipped 1 already enhanced" in enhance("in", "-o", "out").out
    # Without a record, the file may be a signal that the network returned.
    write("in/b.wav"), write("out/b_1.wav")
    assert "`out/b_1.wav` exists, but no record says how it was made" in enhance("in", "-o", "out", code=2).err


def test_full_disk_ends_the_workers_at_once(model, place, monkeypatch):
    for name in "abcdef":
        write(f"in/{name}.wav", noise(1000))

    def full(*arguments):
        raise DataError("full") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("audiozen_core.inference.results.EncodedResult.write", full)
    out, alive = Path("out"), []
    monkeypatch.setattr(Records, "close", lambda records: alive.append(multiprocessing.active_children()))
    with pytest.raises(RunError, match="the disk is full") as error:
        jobs.enhance_jobs(load(model, device="cpu"), list_jobs(["in"], out), out, jobs.Options(), num_workers=2)
    # The traceback of the error still refers to the generators.
    assert error.tb is not None
    assert multiprocessing.active_children() == []
    assert alive == [[]]  # when the records were closed
