"""`audiozen evaluate` on folders as users have them: of all formats, damaged, incomplete, or the results of a run."""

from __future__ import annotations

import csv
import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from audiozen_core.scoring import evaluation_run
from audiozen_core.storage import atomic
from tests.core.scoring.audio_folders import noise, write, write_pairs


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Creates a working directory with `clean/` and `enhanced/`."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path)
    return tmp_path


@pytest.fixture
def evaluate(audiozen):
    """Returns a function that scores `enhanced` against `clean` by SI-SDR, in this process."""

    def call(*arguments):
        metrics = [] if "--metrics" in arguments else ["--metrics", "si_sdr"]
        return audiozen("evaluate", "enhanced", "--clean", "clean", "--num-workers", "0", *metrics, *arguments)

    return call


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_table_and_files_have_the_scores_and_a_second_call_computes_nothing(here, evaluate, monkeypatch):
    done = evaluate("-o", "out")
    assert done.code == 0, done.err
    assert done.out.splitlines()[2].split()[:4] == ["SI-SDR", "in", "dB", "3"]
    assert "SI-SDR: zero_mean = true; audiozen" in done.out
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        "scores.csv", "scores.json", "scores.metrics.json", "scores.txt"
    ]  # fmt: skip
    assert (here / "out" / "scores.txt").read_text() == done.out
    rows = rows_of(here / "out" / "scores.csv")
    assert rows.keys() == {"a", "b", "c"}
    content = json.loads((here / "out" / "scores.json").read_text())
    assert content["all"]["si_sdr"]["mean"] == pytest.approx(np.mean([float(row["si_sdr"]) for row in rows.values()]))
    assert (here / "cache" / "audiozen" / "scores.sqlite").is_file()
    monkeypatch.setattr(evaluation_run.EvaluationRun, "_missing", lambda *_: [])
    assert evaluate().out == done.out
    assert evaluate("--no-cache").out != done.out, "the negative control"


def test_latex_and_markdown_are_alone_on_standard_output(here, evaluate):
    write(here / "enhanced" / "a.wav", noise(3, 3000))
    latex = evaluate("--format", "latex", "-o", "out")
    assert latex.out.splitlines()[0].startswith("% in brackets: 95 % bootstrap interval")
    assert r"\toprule" in latex.out
    assert "differ from their partners in length" in latex.err
    assert (here / "out" / "scores.tex").read_text() == latex.out
    assert evaluate("--format", "markdown").out.startswith("| ")


@pytest.mark.parametrize("form", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_encoding_of_wav_is_read(here, evaluate, form):
    for folder in ("clean", "enhanced"):
        wave, rate = soundfile.read(here / folder / "a.wav")
        write(here / folder / "a.wav", wave, rate, subtype=form)
    before = rows_of(here / "out" / "scores.csv") if evaluate("-o", "out").code == 0 else {}
    assert float(before["a"]["si_sdr"]) == pytest.approx(10.4, abs=1.0)


def test_broken_files_are_reported_and_the_rest_is_scored(here, evaluate):
    for name in ("empty", "cut", "nan", "words", "one"):
        write(here / "clean" / f"{name}.wav", noise(5))
    (here / "enhanced" / "empty.wav").touch()
    (here / "enhanced" / "words.wav").write_text("This is not audio. " * 50)
    wave = noise(6)
    wave[100] = np.nan
    write(here / "enhanced" / "nan.wav", wave)
    write(here / "enhanced" / "one.wav", noise(1, 1))
    path = write(here / "enhanced" / "cut.flac", 0.1 * np.sin(np.arange(16000)), subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = evaluate("-o", "out")
    assert done.code == 1
    assert "note: 4 of 8 files can't be read: " in done.err
    rows = rows_of(here / "out" / "scores.csv")
    assert "is empty (0 bytes)" in rows["empty"]["note"]
    assert "truncated" in rows["cut"]["note"]
    assert "NaN or infinite, the first at 100" in rows["nan"]["note"]
    assert "can't be read as audio" in rows["words"]["note"]
    assert "silent" in rows["one"]["note"]
    assert [name for name, row in rows.items() if row["si_sdr"]] == ["a", "b", "c"]
    assert "5 of 8 files have no value and are not in the mean" in done.out


def test_stereo_is_averaged_and_reported(here, evaluate):
    wave, rate = soundfile.read(here / "enhanced" / "a.wav")
    before = evaluate().out
    write(here / "enhanced" / "a.wav", np.stack([wave, wave], axis=1), rate)
    done = evaluate()
    assert done.out == before
    assert (
        "1 of 3 files or their partners have several channels; their mean is rated: a (enhanced 2, clean 1)" in done.err
    )


def test_two_files_of_one_stem_and_missing_partners_are_errors(here, evaluate):
    shutil.copy(here / "enhanced" / "a.wav", here / "enhanced" / "a.flac")
    done = evaluate()
    assert done.code == 2
    assert "a.flac and a.wav" in done.err
    (here / "enhanced" / "a.flac").unlink()
    (here / "clean" / "b.wav").unlink()
    done = evaluate()
    assert done.code == 2
    assert "1 of 3 files have no clean file in `clean`: b" in done.err
    assert evaluate("--allow-missing").code == 0


def test_names_in_no_encoding_are_scored_with_escapes(here, evaluate):
    for folder in ("clean", "enhanced"):
        try:
            os.rename(os.fsencode(here / folder / "a.wav"), os.fsencode(here / folder) + b"/caf\xe9.wav")  # noqa: PTH104
        except OSError:
            pytest.skip("this file system takes only names in UTF-8")
    done = evaluate("-o", os.fsdecode(b"out\xe9"))
    assert done.code == 0, done.err
    (folder,) = here.glob("out*")
    assert "caf\\xe9" in rows_of(folder / "scores.csv")
    assert json.loads((folder / "scores.json").read_text())["files"] == 3


@pytest.mark.parametrize("output", ["enhanced/scores", "enhanced"])
def test_output_within_the_input_is_not_scored(here, evaluate, output):
    first = evaluate("-o", output, "--cache", "enhanced/cache")
    assert first.code == 0, first.err
    assert evaluate("-o", output, "--cache", "enhanced/cache").out == first.out


def test_full_disk_leaves_the_old_files_and_the_next_call_continues(here, evaluate, monkeypatch):
    assert evaluate("-o", "out").code == 0
    before = {path.name: path.read_bytes() for path in (here / "out").iterdir()}
    write(here / "enhanced" / "a.wav", noise(0) + noise(50, level=0.05))
    written = []

    def half(descriptor, data, real=os.write):
        written.append(len(data))
        if len(written) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:10])

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "write", half)
        failed = evaluate("-o", "out")
    assert failed.code == 2
    assert "No space left on device" in failed.err
    assert {path.name: path.read_bytes() for path in (here / "out").iterdir()} == before
    assert evaluate("-o", "out").code == 0
    assert (here / "out" / "scores.csv").read_bytes() != before["scores.csv"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--metrics", "si_sdrr"], "si_sdr"),
        (["--by", "snr"], "no file has the condition `snr`"),
        (["--text", "texts.txt"], "2 of 3 files have no text in `texts.txt`: b, c"),
        (["--conditions", "none.csv"], "`none.csv` can't be read"),
        (["--conditions", "conditions.csv"], "choose some with `--by`; the file has snr, noise, note, si_sdr"),
        (["--by", "nois", "--conditions", "conditions.csv"], "did you mean `noise`?"),
        (["--by", "snr,snr", "--conditions", "conditions.csv"], "the condition `snr` is given twice"),
        (["--by", "note", "--conditions", "conditions.csv"], "a condition can't be called `note`"),
        (["--by", "si_sdr", "--conditions", "conditions.csv"], "have a metric with this name"),
        (["-o", "texts.txt"], "the output `texts.txt` is not a folder"),
        (["--noisy", "nowhere"], "the folder `nowhere` does not exist"),
    ],
)
def test_wrong_options_are_reported_before_anything_is_computed(here, evaluate, arguments, complaint):
    (here / "texts.txt").write_text("a one\n")
    (here / "conditions.csv").write_text("id,snr,noise,note,si_sdr\na,5,car,x,1\n")
    done = evaluate(*arguments)
    assert done.code == 2
    assert complaint in done.err
    assert not list(here.glob("*/scores.csv"))


def test_reference_free_metrics_are_left_out_for_reasons_that_are_reported(here, audiozen):
    done = audiozen("evaluate", "enhanced", "--num-workers", "0", "--metrics", "si_sdr")
    assert done.code == 2
    assert "needs clean" in done.err
    assert "`--clean`" in done.err


def test_interruption_says_that_the_same_command_continues(here, evaluate, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_run.EvaluationRun, "rate_all", interrupted)
    stopped = evaluate()
    assert stopped.code == 130
    assert "the same command continues" in stopped.err


@pytest.mark.slow
def test_a_run_brings_its_files_and_conditions(project, audiozen):
    done = audiozen("run", "tiny.toml", "--mode", "train", "test", "--set", "trainer.args.max_epochs=1")
    assert done.code == 0, done.err
    scored = audiozen("evaluate", "exp/tiny", "--metrics", "si_sdr", "--num-workers", "0", "-o", "again")
    assert scored.code == 0, scored.err
    (theirs,) = (project / "exp/tiny/test").glob("*/0/scores.csv")
    expected = {name: float(row["si_sdr_enhanced"]) for name, row in rows_of(theirs).items()}
    ours = {name: float(row["si_sdr"]) for name, row in rows_of(project / "again/scores.csv").items()}
    assert ours == pytest.approx(expected, abs=0.02)  # the files are rounded to 16 bits
    sources = json.loads((project / "again/scores.json").read_text())["sources"]
    assert sources.keys() == {"enhanced", "clean", "noisy"}
