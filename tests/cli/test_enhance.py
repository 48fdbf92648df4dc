"""`audiozen enhance` and `audiozen export`: files, folders, formats, what is done, what is broken."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from audiozen.model import CRN
from audiozen_core.errors import RunError
from audiozen_core.inference import jobs
from audiozen_core.inference.enhancer import Enhancer
from audiozen_core.inference.inputs import list_jobs
from audiozen_core.inference.load import load
from audiozen_core.inference.records import Records

SR = 16000
ARGS = {"num_freqs": 65, "num_low": 8, "num_bands": 8, "hidden_size": 8}
CONFIG = """\
[meta]
save_dir = "exp"
[acoustics]
n_fft = 128
win_length = 128
hop_length = 64
[trainer]
path = "enhancement"
[model]
path = "crn"
args = {num_freqs = 65, num_low = 8, num_bands = 8, hidden_size = 8}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported network that has not been trained."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    (folder / "config.toml").write_text(CONFIG)
    save_file(CRN(**ARGS).state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(length=4000, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((length, channels)).astype("float32")


def write(path, wave=None, sr=SR, **options):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise() if wave is None else wave, sr, **options)
    return path


def read(path):
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def enhanced(model, path, **options):
    """Returns what the network makes of a file [time, channels], by the call from Python."""
    wave, sr = soundfile.read(path, dtype="float32", always_2d=True)
    return load(model, device="cpu").enhance(wave.T, sr, **options).T


def records(folder):
    return [json.loads(line) for line in (Path(folder) / "enhanced.jsonl").read_text().splitlines()]


@pytest.fixture
def command(audiozen):
    """Returns a function that runs a command, whose exit code must be the given one."""

    def run(*arguments, code=0):
        outcome = audiozen(*arguments)
        assert outcome.code == code, outcome
        return outcome

    return run


@pytest.fixture
def enhance(model, command):
    return lambda *arguments, code=0: command("enhance", model, "--device", "cpu", *arguments, code=code)


def test_folder_keeps_its_structure_and_each_file_its_form(enhance, model, place):
    write("in/a.wav", noise(5000, 2), 44100, subtype="PCM_24")
    write("in/sub/b.flac", noise(3000), 8000)
    write("in/sub/deep/c.WAV", noise(3000), subtype="PCM_U8")
    write("in/d.ogg", noise(3000), 48000)
    outcome = enhance("in", "-o", "out")
    assert "enhanced 4 files" in outcome.out
    forms = {
        path.relative_to("out").as_posix(): (soundfile.info(path).samplerate, soundfile.info(path).subtype)
        for path in Path("out").rglob("*.*") if path.suffix != ".jsonl"
    }  # fmt: skip
    assert forms == {
        "a.wav": (44100, "PCM_24"), "sub/b.flac": (8000, "PCM_16"), "sub/deep/c.wav": (16000, "PCM_16"),
        "d.wav": (48000, "PCM_16"),
    }  # fmt: skip
    for source, target in (("in/a.wav", "out/a.wav"), ("in/sub/b.flac", "out/sub/b.flac"), ("in/d.ogg", "out/d.wav")):
        np.testing.assert_allclose(read(target), enhanced(model, source), atol=1.01 / 2**16)
    assert {record["result"] for record in records("out")} == forms.keys()


def test_file_pattern_and_manifest_are_inputs(enhance, place):
    for name in ("x/a.wav", "x/b.wav", "y/c.flac"):
        write(name)
    enhance("x/a.wav", "-o", "one.flac")
    assert soundfile.info("one.flac").format == "FLAC"
    enhance("x/*.wav", "-o", "two")
    Path("list.txt").write_text("x/a.wav\ny/c.flac\n")
    Path("list.csv").write_text("file,role\nx/b.wav,speech\n")
    Path("list.tsv").write_text("role\tfile\nspeech\t./x/../x/b.wav\nspeech\tx/b.wav\n")
    enhance("list.txt", "-o", "three", "--format", "FLAC")
    enhance("list.csv", "-o", "four")
    enhance("list.tsv", "-o", "five")
    found = {path.as_posix() for folder in ("two", "three", "four", "five") for path in Path(folder).rglob("*.*")}
    assert {path for path in found if not path.endswith("jsonl")} == {
        "two/a.wav", "two/b.wav", "three/x/a.flac", "three/y/c.flac", "four/b.wav",
        "five/b.wav",
    }  # fmt: skip


def test_output_folder_inside_of_the_input_folder_is_not_an_input(enhance, place):
    write("in/a.wav")
    enhance("in", "-o", "in/enhanced")
    outcome = enhance("in", "-o", "in/enhanced")
    assert outcome.out == "skipped 1 already enhanced\n"
    assert sorted(path.name for path in Path("in").rglob("*.wav")) == ["a.wav", "a.wav"]


def test_results_never_replace_inputs(enhance, place):
    before = write("in/a.wav").read_bytes()
    for arguments in (("in", "-o", "in"), ("in/a.wav", "-o", "in"), ("in/a.wav", "-o", "in/a.wav")):
        assert "would replace the input" in enhance(*arguments, "--overwrite", code=2).err
    assert Path("in/a.wav").read_bytes() == before


def test_what_is_done_is_skipped_and_what_was_made_otherwise_is_told(enhance, model, command, place):
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
    assert "from another input" in enhance("in", "-o", "out", code=2).err
    Path("out/b.wav").write_bytes(b"changed")
    assert "and 1 more" in enhance("in", "-o", "out", code=2).err
    Path("out/enhanced.jsonl").unlink()
    assert "no record says how it was made" in enhance("in", "-o", "out", code=2).err
    assert "enhanced 2 files" in enhance("in", "-o", "out", "--overwrite").out
    assert len(read("out/a.wav")) == 5000


def test_same_weights_elsewhere_are_the_same_model(enhance, model, command, place):
    write("in/a.wav")
    enhance("in", "-o", "out")
    moved = shutil.copytree(model, place / "moved")
    assert "skipped 1" in command("enhance", str(moved), "in", "-o", "out", code=0).out


def test_broken_files_are_reported_and_the_others_are_enhanced(enhance, place):
    write("in/good.wav")
    write("in/one.wav", noise(1))
    write("in/cut.flac", noise(200_000))
    content = Path("in/cut.flac").read_bytes()
    Path("in/cut.flac").write_bytes(content[: len(content) // 2])
    Path("in/empty.wav").touch()
    Path("in/text.wav").write_text("no audio")
    write("in/none.wav", np.zeros((0, 1)))
    wave = noise(200_000)
    wave[150_000] = np.nan
    write("in/nan.wav", wave, subtype="FLOAT")
    write("in/odd.wav", noise(100), 44101)
    outcome = enhance("in", "-o", "out", code=1)
    assert "enhanced 2 files" in outcome.out
    assert "failed: 6" in outcome.out
    for name, what in (
        ("cut.flac", "truncated"), ("empty.wav", "is empty"), ("text.wav", "can't be read"), ("none.wav", "no samples"),
        ("nan.wav", "at 150000"), ("odd.wav", "44101 Hz can't be resampled"),
    ):  # fmt: skip
        (line,) = [line for line in outcome.err.splitlines() if f"in/{name}" in line]
        assert what in line
        assert line.count(f"{place}/in/{name}") == 1
    assert sorted(path.name for path in Path("out").iterdir()) == ["enhanced.jsonl", "good.wav", "one.wav"]
    assert soundfile.info("out/one.wav").frames == 1
    assert "skipped 2" in enhance("in", "-o", "out", code=1).out


def test_name_that_has_no_encoding(enhance, place):
    name = os.fsdecode(b"caf\xe9.wav")
    try:
        write("in/x.wav").rename(Path("in") / name)
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    enhance("in", "-o", "out")
    assert Path("out", name).exists()
    assert "skipped 1" in enhance("in", "-o", "out").out
    Path("in", name).write_bytes(b"")
    shutil.rmtree("out")
    assert r"caf\xe9.wav" in enhance("in", "-o", "out", code=1).err


@pytest.mark.parametrize("workers", [0, 2])
def test_full_disk_stops_and_the_same_command_continues(enhance, place, monkeypatch, workers):
    for name in "abc":
        write(f"in/{name}.wav", noise(50_000))
    real, left = os.write, [150_000]

    def write_some(descriptor, data):
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write_some)
        told = enhance("in", "-o", "out", "--num-workers", workers, code=2).err
    assert "the disk is full" in told
    assert "skips what is done" in told
    assert sorted(path.suffix for path in Path("out").iterdir() if not path.name.startswith(".")) == [".jsonl", ".wav"]
    outcome = enhance("in", "-o", "out", "--num-workers", workers).out
    assert "enhanced 2 files" in outcome
    assert "skipped 1" in outcome


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
    assert "made from another input" in enhance("a.wav", "-o", "out", code=2).err
    enhance("a.wav", "-o", "out", "--overwrite")
    assert soundfile.info("out/a.wav").frames == 5000


def test_half_written_files_of_dead_processes_are_removed(enhance, place):
    write("in/sub/a.wav")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    half, live = (Path(f"out/sub/.a.wav.{pid}-0123abcd.partial") for pid in (dead.pid, os.getpid()))
    half.parent.mkdir(parents=True)
    half.touch(), live.touch()
    enhance("in", "-o", "out")
    assert sorted(half.parent.iterdir()) == [live, Path("out/sub/a.wav")]


def test_batches_give_what_single_files_give(enhance, place):
    for index in range(5):
        write(f"in/{index}.wav", noise(4000, seed=index), subtype="FLOAT")
    write("in/longer.wav", noise(5000), subtype="FLOAT")
    write("in/stereo.wav", noise(4000, 2), subtype="FLOAT")
    write("in/stereo2.wav", noise(4000, 2, seed=9), subtype="FLOAT")
    wrong = noise(4000, 2)
    wrong[3] = np.inf
    write("in/wrong.wav", wrong, subtype="FLOAT")
    enhance("in", "-o", "single", code=1)
    enhance("in", "-o", "batches", "--batch-size", 3, code=1)
    enhance("in", "-o", "mixed", "--batch-size", 3, "--mix", code=1)
    enhance("in", "-o", "mixed_single", "--mix", code=1)
    for first, second, count in (("single", "batches", 8), ("mixed", "mixed_single", 8)):
        names = sorted(path.name for path in Path(first).glob("*.wav"))
        assert len(names) == count
        for name in names:
            np.testing.assert_allclose(read(f"{first}/{name}"), read(f"{second}/{name}"), atol=1e-6)
    assert read("mixed/stereo.wav").shape == (4000, 1)


def test_workers_write_what_one_process_writes(enhance, place):
    for number in range(3):
        write(f"in/{number}.wav", noise(4000 + number, 2, seed=number))
    write("in/long.wav", noise(31 * SR))
    Path("in/broken.wav").write_bytes(b"RIFF")
    alone = enhance("in", "-o", "alone", "--num-workers", 0, code=1)
    outcome = enhance("in", "-o", "workers", "--num-workers", 2, code=1)
    assert outcome.err == alone.err
    assert "broken.wav" in outcome.err
    names = sorted(path.name for path in Path("alone").glob("*.wav"))
    assert names == ["0.wav", "1.wav", "2.wav", "long.wav"]
    for name in names:
        np.testing.assert_allclose(read(f"workers/{name}"), read(f"alone/{name}"), atol=2**-15)
    assert {record["result"] for record in records("workers")} == set(names)
    assert "skipped 4" in enhance("in", "-o", "workers", "--num-workers", 2, code=1).out


class Dithered(CRN):
    """A network that draws random numbers."""

    def forward(self, noisy):
        return super().forward(noisy) + 0.1 * torch.randn_like(noisy)


def test_random_numbers_of_a_network_do_not_depend_on_the_workers(model, place):
    network = load(model, device="cpu")
    network.trainer.models[""].__class__ = Dithered
    for number in range(5):
        write(f"in/{number}.wav", np.zeros((4000, 1), np.float32) + noise(seed=0))
    found = {}
    for workers in (0, 2):
        out = Path(f"out{workers}")
        jobs.enhance_jobs(network, list_jobs(["in"], out), out, jobs.Options(), num_workers=workers)
        found[workers] = [read(out / f"{number}.wav") for number in range(5)]
    for first, second in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(first, second)
    # The inputs are equal, so only the random numbers differ.
    assert not any(np.array_equal(found[2][0], other) for other in found[2][1:])


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


def test_long_result_of_a_killed_worker_is_made_again(enhance, place, monkeypatch):
    write("in/long.wav", noise(31 * SR)), write("in/b.wav")
    store = jobs._store

    def killed(*arguments):
        store(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "_store", killed)
        assert "long.wav" in enhance("in", "-o", "out", "--num-workers", 2, code=1).err
    assert "enhanced 1 file" in enhance("in", "-o", "out").out
    assert sorted(path.name for path in Path("out").iterdir()) == ["b.wav", "enhanced.jsonl", "long.wav"]


@pytest.mark.parametrize("workers", [0, 2])
def test_unexpected_error_of_a_network_loses_its_file_only(enhance, place, monkeypatch, workers):
    for name in ("good", "odd", "other"):
        write(f"in/{name}.wav")
    alone = jobs._Enhancing._alone

    def fail(enhancing, job):
        if job.source.stem == "odd":
            raise ValueError("an odd file")
        return alone(enhancing, job)

    monkeypatch.setattr(jobs._Enhancing, "_alone", fail)
    told = enhance("in", "-o", "out", "--num-workers", workers, code=1).err
    assert "in/odd.wav` can't be enhanced: ValueError: an odd file" in told
    assert sorted(path.name for path in Path("out").glob("*.wav")) == ["good.wav", "other.wav"]


def test_wrong_number_of_workers_is_an_error(model, place):
    with pytest.raises(RunError, match=r"`num_workers` is -1, but must be at least 0"):
        jobs.enhance_jobs(load(model, device="cpu"), [], Path("out"), jobs.Options(), num_workers=-1)


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


def test_worker_that_dies_loses_its_file_only(enhance, place, monkeypatch):
    for name in ("good", "killed", "other"):
        write(f"in/{name}.wav")
    alone = jobs._Enhancing._alone

    def killed(enhancing, job):
        if job.source.stem == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return alone(enhancing, job)

    monkeypatch.setattr(jobs._Enhancing, "_alone", killed)
    told = enhance("in", "-o", "out", "--num-workers", 2, code=1).err
    assert "in/killed.wav" in told
    assert "the worker process died (signal SIGKILL) (`--num-workers 0 --traceback`" in told
    assert sorted(path.name for path in Path("out").glob("*.wav")) == ["good.wav", "other.wav"]


def test_workers_are_for_networks_on_the_cpu(model, place, monkeypatch):
    monkeypatch.setattr(Enhancer, "device", torch.device("cuda:0"))
    with pytest.raises(RunError, match=r"can't share the network on the device cuda:0"):
        jobs.enhance_jobs(load(model, device="cpu"), [], Path("out"), jobs.Options(), num_workers=2)


def test_error_of_a_batch_is_reported_for_each_of_its_files(enhance, place):
    for name in ("a", "b"):
        write(f"in/{name}.wav", noise(4000), 15999)
    write("in/good.wav")
    outcome = enhance("in", "-o", "out", "--batch-size", 2, code=1)
    assert outcome.err.count("15999 Hz can't be resampled") == 2
    assert Path("out/good.wav").is_file()


def test_damaged_record_is_read_as_far_as_it_can_be(enhance, place):
    write("in/a.wav"), write("in/b.wav")
    enhance("in", "-o", "out", "--num-workers", 0)
    record = Path("out/enhanced.jsonl")
    first, second = record.read_bytes().splitlines()
    record.write_bytes(b"\xff\x00\n" + first + b'\n{"result": "b.wav"}\n[1]\n' + second[:50])
    assert "`out/b.wav` exists, but no record says how it was made" in enhance("in", "-o", "out", code=2).err
    Path("out/b.wav").unlink()
    assert "skipped 1" in enhance("in", "-o", "out").out


def test_clipped_samples_are_told(enhance, model, place, monkeypatch):

    real = Enhancer.enhance_stream
    monkeypatch.setattr(Enhancer, "enhance_stream", lambda *args, **kwargs: (30 * one for one in real(*args, **kwargs)))
    write("in/a.wav")
    told = enhance("in", "-o", "out").err
    assert "louder than full scale and were clipped" in told
    assert "out/a.wav" in told


def test_attenuation_limit_and_mix(enhance, model, place):
    write("a.wav", noise(4000, 2), subtype="FLOAT")
    enhance("a.wav", "-o", "b.wav", "--attenuation-limit", "6", "--mix")
    np.testing.assert_allclose(read("b.wav"), enhanced(model, "a.wav", mix=True, attenuation_limit=6.0), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("missing", "-o", "out"), "no file or folder is called `missing`"),
        (("*.flac", "-o", "out"), r"no file matches `*.flac`"),
        (("empty", "-o", "out"), "has no audio files"),
        (("a.wav", "-o", "out", "--format", "mp4"), "the format `mp4` is not supported"),
        (("a.wav", "b.wav", "-o", "c.wav"), "is the name of one file, but there are 2 inputs"),
        (("a.wav", "-o", "out", "--device", "gpu"), "gpu"),
        (("a.wav", "-o", "out", "--weights", "ema"), "only one set of weights"),
        (("list.csv", "-o", "out"), "has no column `file`; it has 'path;snr'"),
        (("empty.csv", "-o", "out"), "has no column `file`; it has none"),
        (("a.wav", "-o", "out.mp3"), "the format of `out.mp3` is not supported"),
        (("a.wav", "-o", "out.wav", "--format", "flac"), "`out.wav` and the format `flac` contradict each other"),
        ((f"{'a' * 300}.wav", "-o", "out"), "no file or folder is called `aaa"),
        (("a.wav",), "Missing option '-o'"),
        (("", "-o", "out"), "the name of an input is empty"),
        (("a.wav", "b.wav", "-o", "list.csv"), "because `list.csv` is a file"),
        (("a.wav", "-o", "list.csv/out/b.wav"), "because `list.csv` is a file"),
        (("a.wav", "-o", "out", "--attenuation-limit", "nan"), "the attenuation limit is nan dB"),
    ],
)
def test_mistakes_in_the_command_are_told_before_anything_is_written(enhance, place, arguments, what):
    write("a.wav"), write("b.wav")
    Path("empty").mkdir()
    Path("list.csv").write_text("path;snr\na.wav;5\n")
    Path("empty.csv").touch()
    assert what in enhance(*arguments, code=2).err
    assert not list(Path().glob("out*"))


def test_signal_is_enhanced_in_bounded_memory(model, tmp_path):
    """The command never has more than a few pieces of a long file: half a minute at a time."""
    read_ahead, read, done = 0, 0, 0

    def blocks():
        nonlocal read
        for _ in range(12):
            read += 10 * SR
            yield torch.zeros(1, 10 * SR)

    for piece in load(model, device="cpu").enhance_stream(blocks(), SR):
        read_ahead = max(read_ahead, read - done)
        done += piece.shape[-1]
    assert done == read == 120 * SR
    assert read_ahead <= 40 * SR


def test_export_and_enhance(command, project):
    """The way of a user: train, export, enhance, without the run."""
    command("run", "tiny.toml", code=0)
    outcome = command("export", "exp/tiny", "-o", "denoiser", code=0)
    assert "complete its README.md" in outcome.out
    shutil.rmtree("exp")
    Path("tiny.toml").unlink()
    command("enhance", "denoiser", "data/noisy", "-o", "out", code=0)
    assert len(list(Path("out").glob("*.wav"))) == len(list(Path("data/noisy").glob("*.wav")))


def test_output_of_one_file_leaves_no_other_file(enhance, place):
    write("in/a.wav")
    Path("new").mkdir()
    enhance("in/a.wav", "-o", "new/out.wav")
    assert [path.name for path in Path("new").iterdir()] == ["out.wav"]
    err = enhance("in/a.wav", "-o", "new/out.wav", code=2).err
    assert "exists, but no record says how it was made, because the output is one file" in err
    enhance("in/a.wav", "-o", "new/out.wav", "--overwrite")


def test_result_with_other_samples_of_the_same_size_is_told_and_a_copy_is_skipped(enhance, place):
    write("in/a.wav")
    enhance("in", "-o", "out")
    result = Path("out/a.wav")
    content = result.read_bytes()
    os.utime(result, (1, 1))  # as in a copy
    assert "skipped 1" in enhance("in", "-o", "out").out
    result.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    assert "`out/a.wav` exists, but it was changed afterwards" in enhance("in", "-o", "out", code=2).err


def test_device_that_does_not_exist_is_named_and_no_place_that_nobody_wrote(enhance, place):
    write("in/a.wav")
    err = enhance("in", "-o", "out", "--device", "tpu", code=2).err
    assert "`tpu` is not a device" in err
    assert "--set" not in err


def test_run_without_a_checkpoint_is_told_without_options_of_other_commands(command, place):
    write("in/a.wav")
    Path("run/checkpoints").mkdir(parents=True)
    err = command("enhance", "run", "in", "-o", "out", code=2).err
    assert "the run `run` has no checkpoint yet" in err
    assert "--ckpt-path" not in err


def test_each_file_is_opened_once_and_written_while_the_next_one_is_enhanced(model, place, monkeypatch):
    import threading
    from collections import Counter

    from audiozen_core.audio import files

    for name in "abc":
        write(f"in/{name}.wav")
    opened, order, begun = Counter(), [], threading.Event()
    open_bytes, write_result, enhance_file_by = files._open_bytes, jobs.write_result, jobs.enhance_file_by

    def start(model, writing, source, *args, **options):
        order.append(f"enhance {source.stem}")
        begun.set()
        return enhance_file_by(model, writing, source, *args, **options)

    def finish(pieces, target, *form):
        if target.stem != "c":  # nothing follows the last one
            assert begun.wait(10), "the next file does not begin before this one is written"
            begun.clear()
        order.append(f"write {target.stem}")
        return write_result(pieces, target, *form)

    monkeypatch.setattr(files, "_open_bytes", lambda path: opened.update([path.name]) or open_bytes(path))
    monkeypatch.setattr(jobs, "enhance_file_by", start)
    monkeypatch.setattr(jobs, "write_result", finish)
    parts = []
    outcome = jobs.enhance_jobs(
        load(model), list_jobs(["in"], Path("out")), Path("out"), jobs.Options(),
        on_start=parts.append, on_part=parts.append,
    )  # fmt: skip
    assert list(outcome.written) == [Path(f"in/{name}.wav").resolve() for name in "abc"]
    assert opened == {f"{name}.wav": 1 for name in "abc"}
    assert order.index("enhance b") < order.index("write b")
    assert sum(parts[1:]) == parts[0] == sum(path.stat().st_size for path in Path("in").iterdir())
