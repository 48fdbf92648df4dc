"""`audiozen enhance`: what is done, and what an interruption or a full disk leaves behind."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile
from safetensors.torch import save_file

from audiozen.model import CRN
from audiozen_core.inference import jobs
from audiozen_core.inference.inputs import list_jobs
from audiozen_core.inference.records import Records, source_facts
from audiozen_core.inference.results import EnhancedFile
from audiozen_core.storage.append import LineFile
from audiozen_core.storage.atomic import hash_file
from tests.cli.enhance.audio_files import SR, noise, read, records, write
from tests.cli.enhance.conftest import ARGS
from tests.test_json_pages import unexplained


def test_existing_results_are_skipped_and_results_with_other_settings_are_reported(enhance, model, command, place):
    write("in/a.wav"), write("in/b.wav", noise(3000, seed=1))
    enhance("in", "-o", "out")
    stamps = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    outcome = enhance("in", "-o", "out")
    assert outcome.out == "skipped 2 already enhanced\n"
    assert {path: path.stat().st_mtime_ns for path in Path("out").iterdir()} == stamps

    Path("out/b.wav").unlink()
    outcome = enhance("in", "-o", "out")
    assert "enhanced 1 file" in outcome.out
    assert "skipped 1" in outcome.out

    told = enhance("in", "-o", "out", "--attenuation-limit", "6", code=2).err
    assert "`out/a.wav` exists, but it was made with another attenuation limit, and 1 more" in told
    other = shutil.copytree(model, place / "other")
    weights = CRN(**ARGS).state_dict()
    save_file(weights, other / "model.safetensors")
    assert "with another model" in command("enhance", str(other), "in", "-o", "out", code=2).err
    write("in/a.wav", noise(5000))
    assert "its input has another path, size or time" in enhance("in", "-o", "out", code=2).err
    Path("out/b.wav").write_bytes(b"changed")
    assert "and 1 more" in enhance("in", "-o", "out", code=2).err
    Path("out/enhanced.jsonl").unlink()
    assert "no record says how it was made" in enhance("in", "-o", "out", code=2).err
    assert "enhanced 2 files" in enhance("in", "-o", "out", "--overwrite").out
    assert len(read("out/a.wav")) == 5000


def test_results_of_other_code_are_not_taken_for_results_of_this_code(enhance, place, monkeypatch):
    write("in/a.wav")
    enhance("in", "-o", "out")
    read = Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: read(path) + b"\n# upgraded" * (path.name == "crn.py"))
        told = enhance("in", "-o", "out", code=2).err
    assert "`out/a.wav` exists, but it was made with another version of the code; nothing was changed" in told
    assert "--overwrite" in told
    assert "skipped 1" in enhance("in", "-o", "out").out

    record = Path("out/enhanced.jsonl")  # of a version of AudioZEN that did not record the code
    (line,) = records("out")
    del line["made_with"]["version of the code"]
    record.write_text(json.dumps(line) + "\n")
    assert "with another version of the code" in enhance("in", "-o", "out", code=2).err


def test_keys_of_the_record_are_explained(enhance, place):
    write("in/a.wav")
    enhance("in", "-o", "out")
    assert set(unexplained(records("out"), "use_a_model.md")) == {"a.wav"}


def test_same_weights_elsewhere_are_the_same_model(enhance, model, command, place):
    write("in/a.wav")
    enhance("in", "-o", "out")
    moved = shutil.copytree(model, place / "moved")
    assert "skipped 1" in command("enhance", str(moved), "in", "-o", "out", code=0).out


def test_result_with_other_samples_of_the_same_size_is_reported_and_a_copy_is_skipped(enhance, place):
    write("in/a.wav")
    enhance("in", "-o", "out")
    result = Path("out/a.wav")
    content = result.read_bytes()
    os.utime(result, (1, 1))  # as in a copy
    assert "skipped 1" in enhance("in", "-o", "out").out
    result.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    assert "`out/a.wav` exists, but it was changed afterwards" in enhance("in", "-o", "out", code=2).err


def test_result_that_an_earlier_version_recorded_is_skipped_unless_it_may_have_changed(enhance, place):
    write("in/a.wav")
    enhance("in", "-o", "out")
    path = Path("out/enhanced.jsonl")
    record = json.loads(path.read_text())
    del record["command"], record["files"]["a.wav"]["xxh3"]
    path.write_text(json.dumps(record) + "\n")
    assert "skipped 1" in enhance("in", "-o", "out").out
    os.utime("out/a.wav", (1, 1))  # as in a copy
    told = enhance("in", "-o", "out", code=2).err
    assert "`out/a.wav` exists, but it may have been changed afterwards: another version of AudioZEN" in told
    assert "--overwrite" in told


def test_recording_that_grew_while_it_was_enhanced_is_not_done(enhance, place, monkeypatch):

    real = jobs.enhance_file_by

    def meanwhile(model, write_result, source, *args, **kwargs):
        finish = real(model, write_result, source, *args, **kwargs)
        write(source, noise(5000))
        return finish

    write("a.wav")
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "enhance_file_by", meanwhile)
        enhance("a.wav", "-o", "out")
    assert "its input has another path, size or time now" in enhance("a.wav", "-o", "out", code=2).err
    enhance("a.wav", "-o", "out", "--overwrite")
    assert soundfile.info("out/a.wav").frames == 5000


def test_damaged_record_is_read_as_far_as_it_can_be(enhance, place):
    write("in/a.wav"), write("in/b.wav")
    enhance("in", "-o", "out", "--num-workers", 0)
    record = Path("out/enhanced.jsonl")
    first, second = record.read_bytes().splitlines()
    record.write_bytes(b"\xff\x00\n" + first + b'\n{"result": "b.wav"}\n[1]\n' + second[:50])
    assert "`out/b.wav` exists, but no record says how it was made" in enhance("in", "-o", "out", code=2).err
    Path("out/b.wav").unlink()
    assert "skipped 1" in enhance("in", "-o", "out").out


def test_record_that_can_not_be_written_is_named(enhance, place, monkeypatch):
    write("in/a.wav")
    Path("out").mkdir()
    Path("out/enhanced.jsonl").symlink_to("/dev/full")
    told = enhance("in", "-o", "out", code=2).err
    assert "the disk is full: `out/enhanced.jsonl` can't be written: No space left on device" in told
    Path("out/enhanced.jsonl").unlink()
    Path("out/enhanced.jsonl").mkdir()
    assert "`out/enhanced.jsonl` can't be written: Is a directory" in enhance("in", "-o", "out", code=1).err
    Path("out/enhanced.jsonl").rmdir()
    assert "enhanced 1 file" in enhance("in", "-o", "out").out


@pytest.fixture
def full_disk(monkeypatch):
    """Returns a context in which the disk has room for some bytes."""

    @contextmanager
    def fill(room):
        real, left = os.write, [room]

        def write_some(descriptor, data):
            if len(data) > left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= len(data)
            return real(descriptor, data)

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", write_some)
            yield

    return fill


@pytest.mark.parametrize("workers", [0, 2])
def test_full_disk_stops_and_the_same_command_continues(enhance, place, full_disk, workers):
    for name in "abc":
        write(f"in/{name}.wav", noise(50_000))
    with full_disk(150_000):
        told = enhance("in", "-o", "out", "--num-workers", workers, code=2).err
    assert "the disk is full" in told
    assert "skips what is done" in told
    assert sorted(path.suffix for path in Path("out").iterdir() if not path.name.startswith(".")) == [".jsonl", ".wav"]
    outcome = enhance("in", "-o", "out", "--num-workers", workers).out
    assert "enhanced 2 files" in outcome
    assert "skipped 1" in outcome


def test_half_written_files_of_dead_processes_are_removed(enhance, place):
    write("in/sub/a.wav")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    half, live = (Path(f"out/sub/.a.wav.{pid}-0123abcd.partial") for pid in (dead.pid, os.getpid()))
    half.parent.mkdir(parents=True)
    half.touch(), live.touch()
    enhance("in", "-o", "out")
    assert sorted(half.parent.iterdir()) == [live, Path("out/sub/a.wav")]


def test_result_that_an_interruption_left_without_a_record_is_made_again(enhance, place, monkeypatch):
    for name in "ab":
        write(f"in/{name}.wav")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Records, "add", interrupted)
        enhance("in", "-o", "out", "--num-workers", 0, code=130)
    assert list(Path("out").glob("*.wav"))
    assert "enhanced 2 files" in enhance("in", "-o", "out").out
    assert "skipped 2" in enhance("in", "-o", "out").out
    assert [path.name for path in Path("out").iterdir() if path.name.startswith(".")] == []
    # A file of the user is still safe.
    write("in/c.wav"), write("out/c.wav")
    assert "`out/c.wav` exists, but no record says how it was made" in enhance("in", "-o", "out", code=2).err


def test_result_that_an_interruption_left_is_made_again_even_if_other_commands_fail_before(
    enhance, place, monkeypatch, full_disk
):
    write("in/a.wav")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Records, "add", interrupted)
        enhance("in", "-o", "out", "--num-workers", 0, code=130)
    left = Path("out/a.wav").read_bytes()
    for room in (1000, 70):  # there is room for all notes, or only for the note that a result is begun
        with full_disk(room):
            assert "the disk is full: `out/a.wav`" in enhance("in", "-o", "out", code=2).err
        assert Path("out/a.wav").read_bytes() == left
    # Before, the second command forgot the interrupted one, and this command refused the result.
    assert "enhanced 1 file" in enhance("in", "-o", "out").out
    assert [path.name for path in Path("out").iterdir() if path.name.startswith(".")] == []


def test_note_that_could_not_be_written_does_not_give_away_a_file_of_the_user(enhance, place, monkeypatch):
    write("in/a.wav"), write("out/a.wav")
    before, write_line = Path("out/a.wav").read_bytes(), LineFile.write

    def full(file, line):
        if file.path.name == ".enhanced_begun.jsonl":
            file._pending += line.encode() + b"\n"
            return OSError(errno.ENOSPC, "No space left on device")
        return write_line(file, line)

    with monkeypatch.context() as patched:
        patched.setattr(LineFile, "write", full)
        enhance("in", "-o", "out", "--overwrite", code=2)
    assert Path("out/a.wav").read_bytes() == before
    assert "`out/a.wav` exists, but no record says" in enhance("in", "-o", "out", code=2).err


def test_link_that_leads_nowhere_is_not_replaced(enhance, place):
    write("in/a.wav")
    Path("out").mkdir()
    Path("out/a.wav").symlink_to("/not/mounted/a.wav")
    assert "`out/a.wav` exists, but no record says" in enhance("in", "-o", "out", code=2).err


def test_record_that_can_not_be_opened_is_told_before_a_result_gets_its_name(enhance, place):
    write("in/a.wav")
    Path("out/enhanced.jsonl").mkdir(parents=True)
    assert "`out/enhanced.jsonl` can't be written: Is a directory" in enhance("in", "-o", "out", code=1).err
    assert [path.name for path in Path("out").iterdir()] == ["enhanced.jsonl"]


def test_files_of_the_user_are_never_replaced_after_an_interruption(enhance, place, monkeypatch):
    for name in "ab":
        write(f"in/{name}.wav")
    Path("out").mkdir()

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "enhance_file_by", interrupted)
        enhance("in", "-o", "out", "--num-workers", 0, code=130)
    write("out/a.wav")
    assert "`out/a.wav` exists, but no record says how it was made" in enhance("in", "-o", "out", code=2).err


def test_result_of_an_earlier_input_is_made_again_after_an_interruption(enhance, place, monkeypatch):
    write("in/a.wav")
    enhance("in", "-o", "out")
    Path("out/a.wav").unlink()
    write("in/a.wav", noise(5000))

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Records, "add", interrupted)
        enhance("in", "-o", "out", "--num-workers", 0, code=130)
    assert "enhanced 1 file" in enhance("in", "-o", "out").out


def test_notes_of_an_interrupted_command_say_which_results_it_may_have_left(place):
    write("in/a.wav"), write("in/b.wav")
    out = Path("out")
    first, second = list_jobs(["in"], out)
    killed = Records(out, {})
    for job in (first, second):
        killed.begin(job, {job.target: digest_of(write(job.target))})
    written = EnhancedFile((first.target,), 4000, SR, 0)
    killed.add(first, written, [digest_of(first.target)], source_facts(first))
    # The command is killed here: one result is recorded, the other one is not.
    later = Records(out, {})
    assert (later.state(first), later.state(second)) == ("done", "")
    # Files of the user are safe: one that replaces the recorded result, and one in the place of the other.
    write(first.target, noise(5000)), write(second.target, noise(5000))
    later = Records(out, {})
    assert later.state(first) == "it was changed afterwards"
    assert later.state(second) == "no record says how it was made"
    # A second command begins to replace the first one, and is killed before or after that.
    changed = first.target.read_bytes()
    later.begin(first, {first.target: digest_of(write(first.target, noise(6000)))})
    assert Records(out, {}).state(first) == ""
    first.target.write_bytes(changed)
    assert Records(out, {}).state(first) == "it was changed afterwards"


def digest_of(path):
    with path.open("rb") as file:
        return hash_file(file)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_result_is_synced_before_its_name_and_the_names_before_the_end(enhance, place, monkeypatch, workers):
    for name in ("a", "b", "sub/c"):
        write(f"in/{name}.wav")
    Path("out/sub").mkdir(parents=True)
    events = []
    replace = os.replace

    def sync(descriptor):
        events.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))

    def rename(source, target):
        events.append(("rename", str(Path(source).resolve()), str(Path(target).resolve())))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    enhance("in", "-o", "out", "--num-workers", workers)
    out = Path("out").resolve()
    renamed = [event for event in events if event[0] == "rename" and event[2].endswith(".wav")]
    assert {event[2] for event in renamed} == {str(out / name) for name in ("a.wav", "b.wav", "sub/c.wav")}
    for event in renamed:
        assert events.index(("sync", event[1])) < events.index(event)
    # One sync for each result, each folder, and the record.
    last = events.index(renamed[-1])
    assert len(events[: last + 1]) == 2 * len(renamed)
    assert {event[1] for event in events[last + 1 :]} == {str(out), str(out / "sub"), str(out / "enhanced.jsonl")}
    assert len(events) == last + 4


def test_names_of_the_record_and_of_results_in_other_folders_are_synced(enhance, place, monkeypatch):
    write("in/sub/a.wav")
    Path("out/sub").mkdir(parents=True)
    synced = []
    monkeypatch.setattr("audiozen_core.inference.records.sync_folder", synced.append)
    enhance("in", "-o", "out")
    assert sorted(synced) == [Path("out"), Path("out/sub")]


@pytest.mark.parametrize("is_full", [False, True])
def test_folder_that_can_not_be_synced_is_an_error_unless_another_one_ended_the_command(
    enhance, place, monkeypatch, full_disk, is_full
):
    for name in "ab":
        write(f"in/{name}.wav", noise(50_000))
    closed = []
    close = LineFile.close

    def fail(folder):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("audiozen_core.inference.records.sync_folder", fail)
    monkeypatch.setattr(LineFile, "close", lambda file: closed.append(file.path.name) or close(file))
    with full_disk(150_000 if is_full else 10**6):
        told = enhance("in", "-o", "out", "--num-workers", 0, code=2).err
    expected = "the disk is full: `out/b.wav`" if is_full else "the names in `out` can't be written: Input/output error"
    assert expected in told
    assert closed == ["enhanced.jsonl", ".enhanced_begun.jsonl"]


def test_record_that_can_not_be_synced_is_an_error_and_the_results_are_made_again(enhance, place, monkeypatch):
    write("in/a.wav")
    fsync = os.fsync

    def fail(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "enhanced.jsonl":
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        assert "`out/enhanced.jsonl` can't be written: Input/output error" in enhance("in", "-o", "out", code=2).err
    # Where the record is lost, the note that the result was begun allows the command to replace it.
    Path("out/enhanced.jsonl").unlink()
    assert "enhanced 1 file" in enhance("in", "-o", "out").out


def test_result_whose_name_was_lost_in_a_power_failure_is_made_again(enhance, place):
    write("in/a.wav"), write("in/b.wav")
    enhance("in", "-o", "out")
    Path("out/b.wav").unlink()
    assert "enhanced 1 file" in enhance("in", "-o", "out").out


def test_old_result_whose_new_name_was_lost_in_a_power_failure_is_not_taken_for_the_new_one(enhance, place):
    write("in/a.wav")
    result = Path("out/a.wav")
    enhance("in", "-o", "out")
    old = shutil.copy2(result, place / "old.wav")
    options = ("in", "-o", "out", "--attenuation-limit", "6")
    enhance(*options, "--overwrite")
    new = result.read_bytes()
    shutil.copy2(old, result)
    assert "`out/a.wav` exists, but it was changed afterwards" in enhance(*options, code=2).err
    assert result.read_bytes() == old.read_bytes() != new
    enhance(*options, "--overwrite")
    assert result.read_bytes() == new


def test_system_calls_of_a_file(enhance, place, monkeypatch):
    counts = Counter()

    def count(name):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *arguments: counts.update([name]) or call(*arguments))

    for number in range(6):
        write(f"in/{number}.wav")
    for name in ("open", "write", "fsync", "replace", "lseek"):
        count(name)
    found = []
    for number in (2, 6):
        counts.clear()
        enhance(*(f"in/{index}.wav" for index in range(number)), "-o", f"out{number}", "--num-workers", 0)
        found.append(dict(counts))
    few, many = found
    # The input and the result are opened. The result, the note that it was begun, and its record are written.
    per_file = {name: (many[name] - few[name]) / 4 for name in many}
    assert per_file == {"open": 2, "write": 3, "fsync": 1, "replace": 1}
