"""`audiozen enhance` and `audiozen export`: inputs, formats, broken files, mistakes in the command."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiozen_core.inference.enhancer import Enhancer
from audiozen_core.inference.load import load
from tests.cli.enhance.audio_files import SR, noise, read, records, write


def enhanced(model, path, **options):
    """Returns what the network makes of a file [time, channels], by the call from Python."""
    wave, sr = soundfile.read(path, dtype="float32", always_2d=True)
    return load(model, device="cpu").enhance(wave.T, sr, **options).T


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


def test_clipped_samples_are_reported(enhance, model, place, monkeypatch):

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
def test_mistakes_in_the_command_are_reported_before_anything_is_written(enhance, place, arguments, what):
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


def test_device_that_does_not_exist_is_named_and_no_place_that_nobody_wrote(enhance, place):
    write("in/a.wav")
    err = enhance("in", "-o", "out", "--device", "tpu", code=2).err
    assert "`tpu` is not a device" in err
    assert "--set" not in err


def test_run_without_a_checkpoint_is_reported_without_options_of_other_commands(command, place):
    write("in/a.wav")
    Path("run/checkpoints").mkdir(parents=True)
    err = command("enhance", "run", "in", "-o", "out", code=2).err
    assert "the run `run` has no checkpoint yet" in err
    assert "--ckpt-path" not in err
