"""`audiozen enhance`: networks with several signals, long files, and results that can be written only in part."""

import errno
import multiprocessing
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from audiozen_core.errors import DataError, RunError
from audiozen_core.inference import jobs
from audiozen_core.inference.enhancer import Enhancer
from audiozen_core.inference.inputs import list_jobs
from audiozen_core.inference.load import load
from audiozen_core.inference.records import Records
from audiozen_core.inference.results import StoredResult
from audiozen_core.storage.atomic import is_temporary, remove_partial_files
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


def second_fsync_fails(monkeypatch):
    """Lets the second file find the disk full."""
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)


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
        store(*arguments[:4], os.getpid())  # as if the command had been killed, too, not only its worker
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


@pytest.fixture
def place_fails(monkeypatch):
    """Returns a context in which the second signal of a result can't get its name."""
    replace = Path.replace

    def fail(path, target):
        if target.stem.endswith("_2"):
            raise OSError(errno.EIO, "Input/output error")
        return replace(path, target)

    @contextmanager
    def failing():
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", fail)
            yield

    return failing


@pytest.mark.parametrize("length", [1000, LONG])
def test_part_of_a_result_is_removed_so_that_the_next_command_continues(enhance, place, changed, length, place_fails):
    write("in/a.wav", noise(length)), write("in/b.wav", noise(1000))
    changed(three)
    with place_fails():
        told = enhance("in", "-o", "out", code=1).err
    assert "`out/a_2.wav` can't be written: Input/output error" in told
    assert [path.name for path in Path("out").iterdir()] == ["enhanced.jsonl"]
    assert "enhanced 2 files" in enhance("in", "-o", "out").out


@pytest.mark.parametrize("length", [1000, LONG])
def test_old_result_stays_whole_if_a_new_one_can_not_be_written(enhance, place, changed, monkeypatch, length):
    write("in/a.wav", noise(length))
    changed(three)
    enhance("in", "-o", "out", "--num-workers", 0)
    old = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    second_fsync_fails(monkeypatch)
    told = enhance("in", "-o", "out", "--num-workers", 0, "--mix", "--overwrite", code=2).err
    assert "the disk is full" in told
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == old


def test_files_of_the_user_and_inputs_are_not_replaced_by_signals(enhance, place, changed):
    write("rec/talk_2.wav"), write("in/a.wav"), write("in/b.wav"), write("out/a_2.wav")
    before = {path: path.read_bytes() for path in map(Path, ("rec/talk_2.wav", "out/a_2.wav"))}
    changed(three)
    told = enhance("in", "-o", "out", code=1)
    assert "`out/a_2.wav` exists, but no record says that it is a result of this input" in told.err
    results = {"enhanced.jsonl", "b_1.wav", "b_2.wav", "b_3.wav"}
    assert {path.name for path in Path("out").iterdir()} == {"a_2.wav", *results}
    for overwrite in ((), ("--overwrite",)):
        told = enhance("rec/talk_2.wav", "-o", "rec/talk.wav", *overwrite, code=1)
        assert "would replace the input" in told.err
    assert [path.name for path in Path("rec").iterdir()] == ["talk_2.wav"]
    assert {path: path.read_bytes() for path in before} == before
    assert "enhanced 1 file" in enhance("in/a.wav", "-o", "out", "--overwrite").out


def test_numbered_names_of_inputs_and_of_signals_are_told_apart(enhance, place, changed):
    write("in/a_1.wav"), write("clean_1.wav")
    enhance("in", "-o", "out")
    write("in/a.wav")
    assert "skipped 1 already enhanced" in enhance("in", "-o", "out").out
    enhance("in/a.wav", "-o", "clean.wav")
    # The result of another input is not replaced by a signal.
    write("other/a.wav"), Path("out/a.wav").unlink()
    before = Path("out/a_1.wav").read_bytes()
    changed(three)
    assert "`out/a_1.wav` exists, but" in enhance("other", "-o", "out", code=1).err
    assert Path("out/a_1.wav").read_bytes() == before


def one(piece):
    return torch.stack([piece], 1)


def test_single_numbered_signal_replaces_no_input_and_no_file_of_the_user(enhance, place, changed):
    before = {path: path.read_bytes() for path in (write("rec/talk_1.wav"), write("out/a_1.wav"))}
    write("in/a.wav")
    changed(one)
    assert "`out/a_1.wav` exists, but no record" in enhance("in", "-o", "out", code=1).err
    assert "would replace the input" in enhance("rec/talk_1.wav", "-o", "rec/talk.wav", "--overwrite", code=1).err
    assert {path: path.read_bytes() for path in before} == before


def test_call_from_python_does_not_replace_its_input_by_a_signal(model, place, changed):
    before = write("rec/talk_2.wav").read_bytes()
    changed(three)
    with pytest.raises(DataError, match="would replace the input"):
        load(model, device="cpu").enhance_file("rec/talk_2.wav", "rec/talk.wav")
    assert [path.name for path in Path("rec").iterdir()] == ["talk_2.wav"]
    assert Path("rec/talk_2.wav").read_bytes() == before


def test_signal_of_one_input_in_the_place_of_another_ones_result_is_not_in_the_way(enhance, place, changed):
    write("in/a.wav"), write("in/a_1.wav")
    changed(three)
    enhance("in/a.wav", "-o", "out")
    assert "enhanced 1 file" in enhance("in/a_1.wav", "-o", "out").out
    assert "skipped 2 already enhanced" in enhance("in", "-o", "out").out
    before = Path("out/a_1.wav").read_bytes()
    changed(lambda piece: piece)  # a network with one signal would write the file
    write("other/a_1.wav"), Path("out/a_1_1.wav").rename("out/moved.wav")
    for number in (2, 3):
        Path(f"out/a_1_{number}.wav").unlink()
    assert (
        "`out/a_1.wav` exists, but no record says that it is a result of this input"
        in enhance("other/a_1.wav", "-o", "out", code=1).err
    )
    assert Path("out/a_1.wav").read_bytes() == before


def test_missing_signal_does_not_excuse_the_others(enhance, place, changed):
    write("in/a.wav")
    changed(three)
    enhance("in", "-o", "out")
    signals = [Path(f"out/a_{number}.wav") for number in (1, 2, 3)]
    made = [path.read_bytes() for path in signals]
    signals[1].unlink()
    assert "made with another subtype" in enhance("in", "-o", "out", "--subtype", "FLOAT", code=2).err
    write(signals[0], noise(500))  # the user edits it
    assert "it was changed afterwards" in enhance("in", "-o", "out", code=2).err
    signals[0].write_bytes(made[0])
    own = write("out/a.wav").read_bytes()
    assert "enhanced 1 file" in enhance("in", "-o", "out").out
    assert [path.read_bytes() for path in signals] == made
    assert Path("out/a.wav").read_bytes() == own
    for path in signals:
        path.unlink()
    changed(lambda piece: piece)  # as a network that is loaded anew
    assert "`out/a.wav` exists, but no record says" in enhance("in", "-o", "out", code=1).err
    assert Path("out/a.wav").read_bytes() == own


def test_signals_that_a_new_result_does_not_have_are_removed_unless_the_user_changed_them(enhance, place, changed):
    write("in/a.wav")
    changed(three)
    enhance("in", "-o", "out")
    write("out/a_2.wav", noise(500))
    changed(lambda piece: piece)
    enhance("in", "-o", "out", "--overwrite")
    assert {path.name for path in Path("out").iterdir()} == {"enhanced.jsonl", "a.wav", "a_2.wav"}


def test_signal_in_whose_place_is_a_folder_leaves_the_old_ones(enhance, place, changed):
    write("in/a.wav")
    changed(three)
    enhance("in", "-o", "out")
    old = Path("out/a_1.wav").read_bytes()
    Path("out/a_2.wav").unlink(), Path("out/a_2.wav").mkdir()
    told = enhance("in", "-o", "out", "--mix", "--overwrite", code=1).err
    assert "`out/a_2.wav` can't be written: Is a directory" in told
    assert Path("out/a_1.wav").read_bytes() == old


def test_name_that_is_too_long_does_not_stop_the_other_files(enhance, place, changed):
    write(f"in/{'x' * 250}.wav"), write("in/z.wav")
    changed(three)
    assert "File name too long" in enhance("in", "-o", "out", "--num-workers", 0, code=1).err
    assert len(list(Path("out").glob("z_*.wav"))) == 3
    write("in/c.wav")
    outcome = enhance("in", "-o", "out", "--num-workers", 0, code=1)
    assert "enhanced 1 file" in outcome.out
    assert "skipped 1" in outcome.out


def test_interrupted_command_with_several_signals_is_continued(enhance, place, changed, monkeypatch):
    write("in/a.wav")
    changed(three)
    with monkeypatch.context() as patched:
        patched.setattr(Records, "add", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        enhance("in", "-o", "out", code=130)
    assert Path("out/a_2.wav").exists()
    assert "enhanced 1 file" in enhance("in", "-o", "out").out


def test_another_command_keeps_a_long_result_of_a_worker_that_has_ended(enhance, place, changed, monkeypatch):
    write("in/long.wav", noise(LONG)), write("in/second.wav", noise(LONG))
    place_file, removed = StoredResult.place, []

    def meanwhile(stored):
        for child in multiprocessing.active_children():
            child.terminate(), child.join()
        removed.extend(remove_partial_files(Path("out")))
        return place_file(stored)

    monkeypatch.setattr(StoredResult, "place", meanwhile)
    enhance("in", "-o", "out", "--num-workers", 2)
    assert removed == []


def test_result_of_the_call_from_python_is_written_whole_or_not_at_all(model, place, changed, monkeypatch):
    write("a.wav", noise(1000))
    changed(three)
    with monkeypatch.context() as patched:
        second_fsync_fails(patched)
        with pytest.raises(DataError, match="No space left"):
            load(model, device="cpu").enhance_file("a.wav", "out/t.wav")
    assert list(Path("out").iterdir()) == []
    assert len(load(model, device="cpu").enhance_file("a.wav", "out/t.wav").paths) == 3


def test_full_disk_ends_the_workers_at_once(model, place, monkeypatch):
    for name in "abcdef":
        write(f"in/{name}.wav", noise(1000))

    def full(*arguments):
        raise DataError("full") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("audiozen_core.inference.results.EncodedResult.store", full)
    out, alive = Path("out"), []
    monkeypatch.setattr(Records, "close", lambda records: alive.append(multiprocessing.active_children()))
    with pytest.raises(RunError, match="the disk is full") as error:
        jobs.enhance_jobs(load(model, device="cpu"), list_jobs(["in"], out), out, jobs.Options(), num_workers=2)
    # The traceback of the error still refers to the generators.
    assert error.tb is not None
    assert multiprocessing.active_children() == []
    assert alive == [[]]  # when the records were closed
